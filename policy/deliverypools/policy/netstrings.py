"""Netstrings, without sockets: bytes in, messages out.

A message is written as its length in decimal digits, a colon, the message, a comma.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from deliverypools.policy.protocol import ProtocolViolation

_LENGTH: Final = re.compile(rb"0|[1-9][0-9]*")


class NetstringDecoder:
    """Takes chunks of any size, gives whole messages only."""

    __slots__ = ("_buffer", "_most_bytes", "_most_digits")

    def __init__(self, most_bytes: int) -> None:
        self._buffer = bytearray()
        self._most_bytes = most_bytes
        self._most_digits = len(str(most_bytes))

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self._buffer += chunk

    @property
    def pending_bytes(self) -> int:
        """Return how much was fed and belongs to no message yet that was given."""
        return len(self._buffer)

    def messages(self) -> Iterator[bytes]:
        """Yield the messages that are complete.

        Raises:
            ProtocolViolation: the bytes are no netstring, or too long a one; nothing after them can be read.
        """
        while (length := self._length()) is not None:
            start = len(str(length)) + 1
            end = start + length
            if len(self._buffer) <= end:
                return
            if self._buffer[end] != ord(","):
                raise ProtocolViolation(
                    f"expected a comma after {length} bytes, got {bytes(self._buffer[end : end + 1])!r}"
                )
            message = bytes(self._buffer[start:end])
            del self._buffer[: end + 1]
            yield message

    def _length(self) -> int | None:
        """Return the length of the next message; None while it is not there."""
        digits, colon, _ = self._buffer[: self._most_digits + 1].partition(b":")
        if not digits and not colon:
            return None
        if _LENGTH.fullmatch(digits) is None or (not colon and len(digits) > self._most_digits):
            raise ProtocolViolation(f"expected the length of a netstring, got {bytes(digits)!r}")
        if int(digits) > self._most_bytes:
            raise ProtocolViolation(f"netstring of more than {self._most_bytes} bytes")
        return int(digits) if colon else None


def encode_netstring(message: bytes) -> bytes:
    """Return the bytes of a message."""
    return b"%d:%b," % (len(message), message)
