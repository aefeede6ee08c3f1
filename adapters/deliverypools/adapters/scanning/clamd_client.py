"""ClamAV's clamd, in sessions: many questions on one connection."""

from __future__ import annotations

import itertools
import mmap
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar, Final, TypeVar

from deliverypools.adapters.scanning.connections import Connections, service_address
from deliverypools.adapters.scanning.deadline_socket import DeadlineSocket, chunks_of
from deliverypools.adapters.scanning.unavailable import said_as_unavailable
from deliverypools.core.scanning.answers import ScanEnvelope, Scanner, ScannerAnswer
from deliverypools.core.scanning.clamd import (
    BEGIN_SESSION,
    END,
    END_OF_STREAM,
    PING,
    SCAN,
    answered_question,
    chunk_head,
    is_pong,
    read_answer,
)
from deliverypools.core.scanning.nonsense import NonsenseError, about_all_of_it

_Read = TypeVar("_Read")

_MOST_BYTES: Final = 8 * 1024


class ClamdClient:
    """Any number of threads may ask at once, each in a session of its own."""

    scanner: ClassVar[Scanner] = Scanner.CLAMD

    def __init__(self, address: str) -> None:
        """Ask at `HOST:PORT` or `unix:/path`."""
        self._connections = Connections(service_address(address))

    def ask(self, content: bytes | mmap.mmap, envelope: ScanEnvelope, deadline: float) -> ScannerAnswer:  # noqa: ARG002
        """Return what clamd finds in a message, by `deadline` (time.monotonic); it is told nothing else.

        Raises:
            ScannerUnavailable: it cannot be reached, hangs, or answers nonsense or too much.
        """
        with said_as_unavailable(deadline), memoryview(content) as view:
            answer, is_said = self._exchange(lambda: itertools.chain([SCAN], _stream(view)), read_answer, deadline)
            return about_all_of_it(answer, is_said=is_said)

    def ping(self, deadline: float) -> None:
        """Return when clamd has answered that it is there.

        Raises:
            ScannerUnavailable: it has not.
        """
        with said_as_unavailable(deadline):
            self._exchange(lambda: [PING], _read_pong, deadline)

    def close(self) -> None:
        """End the sessions that are kept."""
        self._connections.close()

    def _exchange(
        self, command: Callable[[], Iterable[bytes | memoryview]], read: Callable[[bytes], _Read], deadline: float
    ) -> tuple[_Read, bool]:
        """Return what `read` makes of the answer to a command, and whether all of that was said before it.

        In a session that is open already, or in a new one.
        """

        def converse(connection: DeadlineSocket) -> tuple[tuple[_Read, bool], bool]:
            begin = [BEGIN_SESSION] if connection.questions == 1 else []
            is_said = connection.say(itertools.chain(begin, command()))
            answer = connection.read_until(lambda answer: END in answer)
            number = answered_question(answer)
            if number not in (None, connection.questions):
                raise NonsenseError(f"to question {number} of a session, not to {connection.questions}")
            return (read(answer), is_said), is_said and number is not None

        return self._connections.ask(converse, deadline, _MOST_BYTES)


def _read_pong(answer: bytes) -> None:
    if not is_pong(answer):
        raise NonsenseError("to a ping")


def _stream(content: memoryview) -> Iterator[bytes | memoryview]:
    for chunk in chunks_of(content):
        yield chunk_head(len(chunk))
        yield chunk
    yield END_OF_STREAM
