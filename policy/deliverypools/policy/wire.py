"""Postfix policy delegation protocol, without sockets: bytes in, requests out (SMTPD_POLICY_README).

A request is lines of `name=value`, ended by an empty line; an answer is `action=...` and an empty line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from deliverypools.policy.protocol import ProtocolViolation, Wire

MOST_REQUEST_BYTES = 64 * 1024
"""Postfix sends about a kilobyte; certificate names and long addresses make it a few."""
MOST_ATTRIBUTES = 200

Request = Mapping[str, str]


class RequestDecoder:
    """Takes chunks of any size, gives whole requests only."""

    __slots__ = ("_buffer", "_searched")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self._buffer += chunk

    @property
    def pending_bytes(self) -> int:
        """Return how much was fed and belongs to no request yet that was given."""
        return len(self._buffer)

    def requests(self) -> Iterator[Request]:
        """Yield the requests that are complete.

        Raises:
            ProtocolViolation: the bytes are no request, or too long a one; nothing after them can be read.
        """
        while True:
            end = self._buffer.find(b"\n\n", self._searched, MOST_REQUEST_BYTES + 2)
            if end < 0:
                # One byte more may be the first half of the end.
                if len(self._buffer) > MOST_REQUEST_BYTES + 1:
                    raise ProtocolViolation(f"request of more than {MOST_REQUEST_BYTES} bytes")
                self._searched = max(0, len(self._buffer) - 1)
                return
            block = bytes(self._buffer[:end])
            del self._buffer[: end + 2]
            self._searched = 0
            yield _parse(block)


def _parse(block: bytes) -> Request:
    lines = block.decode("utf-8", "surrogateescape").split("\n")
    if len(lines) > MOST_ATTRIBUTES:
        raise ProtocolViolation(f"more than {MOST_ATTRIBUTES} attributes")
    # The first one counts: Postfix sends each name once, so a second was not written by Postfix.
    lines.reverse()
    try:
        request = dict([line.split("=", 1) for line in lines])
    except ValueError:
        raise _violation(block) from None
    if "" in request:
        raise _violation(block)
    return request


def _violation(block: bytes) -> ProtocolViolation:
    wrong = next(line for line in block.split(b"\n") if not line.partition(b"=")[0] or b"=" not in line)
    return ProtocolViolation(f"expected name=value, got {wrong[:40]!r}")


def encode_answer(action: str) -> bytes:
    """Return the bytes of an answer; `action` is an access(5) action on one line."""
    if "\n" in action or "\r" in action:
        raise ValueError("an action is one line")
    return f"action={action}\n\n".encode()


POLICY: Final = Wire(RequestDecoder, encode_answer, MOST_REQUEST_BYTES)
