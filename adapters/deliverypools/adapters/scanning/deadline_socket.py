"""A socket on which everything together is over at a deadline, and on which only so much can be answered.

A time-out of an ordinary socket begins anew with each byte; here each step gets what is left of the whole.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from deliverypools.core.scanning.nonsense import NonsenseError

_CHUNK_BYTES: Final = 64 * 1024
_ANSWER_BYTES: Final = 4096


class DeadlineSocket(socket.socket):
    """A connected socket within a deadline. Call `begin` before each question."""

    _deadline = 0.0
    _bytes_left = 0
    questions = 0
    """How many were begun."""

    def begin(self, deadline: float, most_bytes: int) -> None:
        """Begin a question: at `deadline` (time.monotonic) all of it is over, and no more than so much is answered."""
        self._deadline = deadline
        self._bytes_left = most_bytes
        self.questions += 1

    def send(self, data: Any, flags: int = 0, /) -> int:
        """Send a part of `data`.

        Raises:
            TimeoutError: the deadline has come.
            OSError: it cannot be sent.
        """
        self.settimeout(seconds_left(self._deadline))
        return super().send(data, flags)

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """Send `data`.

        Raises:
            TimeoutError: the deadline has come.
            OSError: it cannot be sent.
        """
        self.settimeout(seconds_left(self._deadline))
        super().sendall(data, flags)

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        """Receive into a buffer; files of `makefile` read by this.

        Raises:
            NonsenseError: more is answered than may be.
            TimeoutError: the deadline has come.
            OSError: it cannot be received.
        """
        self.settimeout(seconds_left(self._deadline))
        received = super().recv_into(buffer, nbytes or len(buffer), flags)
        self._bytes_left -= received
        if self._bytes_left < 0:
            raise NonsenseError("too much of it")
        return received

    def say(self, parts: Iterable[bytes | memoryview]) -> bool:
        """Send a question; tell whether all of it was sent.

        Where the other side answers before it has read all, or hangs up, the rest is kept back: its answer says why.

        Raises:
            TimeoutError: the deadline has come.
            OSError: it cannot be sent.
        """
        try:
            return all(self._say_part(part) for part in parts)
        except (BrokenPipeError, ConnectionResetError):
            return False

    def _say_part(self, part: bytes | memoryview) -> bool:
        """Send a part of a question; tell whether all of it was sent. An answer may come while nothing can be sent."""
        poll = select.poll()
        poll.register(self, select.POLLIN | select.POLLOUT)
        with memoryview(part) as whole:
            sent = 0
            while sent < len(whole):
                events = poll.poll(seconds_left(self._deadline) * 1000)
                if any(event != select.POLLOUT for _, event in events):
                    return False
                if events:
                    with whole[sent:] as rest:
                        sent += self.send(rest)
        return True

    def say_no_more(self) -> None:
        """End our half of the connection, where the other side has not ended both."""
        with contextlib.suppress(OSError):
            self.shutdown(socket.SHUT_WR)

    def read_until(self, is_whole: Callable[[bytes], bool]) -> bytes:
        """Return what is answered until it is whole, or the other side has ended the connection.

        Raises:
            NonsenseError: more is answered than may be.
            TimeoutError: the deadline has come.
            OSError: it cannot be received, or nothing is.
        """
        answer, buffer = b"", bytearray(_ANSWER_BYTES)
        while not is_whole(answer) and (received := self.recv_into(buffer)):
            answer += buffer[:received]
        if not answer:
            raise ConnectionResetError("the connection ends without an answer")
        return answer

    def is_quiet(self) -> bool:
        """Tell whether nothing has come that was not read: neither words nor the end of the connection."""
        poll = select.poll()
        poll.register(self, select.POLLIN)
        return not poll.poll(0)


class DeadlineTlsSocket(DeadlineSocket, ssl.SSLSocket):
    """The same over TLS."""

    def send(self, data: Any, flags: int = 0, /) -> int:
        """Send a part of `data`.

        Raises:
            BrokenPipeError: the other side has ended the connection.
            TimeoutError: the deadline has come.
            OSError: it cannot be sent.
        """
        try:
            return super().send(data, flags)
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from None

    def _say_part(self, part: bytes | memoryview) -> bool:
        """Send it without a look at what has come, which may be TLS's own, a session ticket for example."""
        self.sendall(part)
        return True


def seconds_left(deadline: float) -> float:
    """Return the time until a deadline.

    Raises:
        TimeoutError: it has come.
    """
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


def chunks_of(content: memoryview) -> Iterator[memoryview]:
    """Yield the parts of a message, none of them empty."""
    for start in range(0, len(content), _CHUNK_BYTES):
        with content[start : start + _CHUNK_BYTES] as chunk:
            yield chunk
