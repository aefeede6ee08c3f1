"""What the protocols that Postfix speaks to us have in common: bytes in, requests out, an answer to each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

RequestT = TypeVar("RequestT")
_RequestT_co = TypeVar("_RequestT_co", covariant=True)


class ProtocolViolation(ValueError):  # noqa: N818  (the wire's word)
    """The peer does not speak the protocol; the text says what was expected."""


class Decoder(Protocol[_RequestT_co]):
    """Takes chunks of any size, gives whole requests only."""

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""

    @property
    def pending_bytes(self) -> int:
        """Return how much was fed and belongs to no request yet that was given."""

    def requests(self) -> Iterator[_RequestT_co]:
        """Yield the requests that are complete.

        Raises:
            ProtocolViolation: nothing more can be read.
        """


@dataclass(frozen=True, slots=True)
class Wire(Generic[RequestT]):
    """How requests and answers are written."""

    decoder: Callable[[], Decoder[RequestT]]
    encode: Callable[[str], bytes]
    most_request_bytes: int
