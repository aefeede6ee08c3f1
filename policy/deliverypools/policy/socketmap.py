"""Postfix's socketmap protocol, without sockets: bytes in, look-ups out (socketmap_table(5)).

A request is a netstring of the map's name, a blank and the key; an answer one of a status, a blank and a value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from deliverypools.policy.netstrings import NetstringDecoder, encode_netstring
from deliverypools.policy.protocol import ProtocolViolation, Wire

MOST_REQUEST_BYTES: Final = 16 * 1024
"""Postfix looks up addresses, which have 2 kilobytes at most (line_length_limit)."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """What Postfix asks: the value of a key in a map."""

    map_name: str
    key: str


class LookupDecoder:
    """Takes chunks of any size, gives whole requests only."""

    __slots__ = ("_netstrings",)

    def __init__(self) -> None:
        self._netstrings = NetstringDecoder(MOST_REQUEST_BYTES)

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self._netstrings.feed(chunk)

    @property
    def pending_bytes(self) -> int:
        """Return how much was fed and belongs to no request yet that was given."""
        return self._netstrings.pending_bytes

    def requests(self) -> Iterator[Lookup]:
        """Yield the requests that are complete.

        Raises:
            ProtocolViolation: the bytes are no request, or too long a one; nothing after them can be read.
        """
        for message in self._netstrings.messages():
            name, blank, key = message.decode("utf-8", "surrogateescape").partition(" ")
            if not name or not blank:
                raise ProtocolViolation(f"expected the name of a map, a blank and a key, got {message[:40]!r}")
            yield Lookup(name, key)


def encode_answer(answer: str) -> bytes:
    """Return the bytes of an answer: a status, a blank, and a value or reason."""
    return encode_netstring(answer.encode())


SOCKETMAP: Final = Wire(LookupDecoder, encode_answer, MOST_REQUEST_BYTES)
