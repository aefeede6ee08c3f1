"""SpamAssassin's spamd. It takes one question a connection."""

from __future__ import annotations

import itertools
import mmap
from email.utils import formatdate
from typing import ClassVar, Final

from deliverypools.adapters.scanning.connections import Connections, service_address
from deliverypools.adapters.scanning.deadline_socket import DeadlineSocket, chunks_of
from deliverypools.adapters.scanning.unavailable import said_as_unavailable
from deliverypools.core.scanning.answers import ScanEnvelope, Scanner, ScannerAnswer
from deliverypools.core.scanning.nonsense import NonsenseError, about_all_of_it
from deliverypools.core.scanning.spamd import PING, is_pong, is_whole, read_answer, received_field, request_head

_MOST_BYTES: Final = 64 * 1024


class SpamdClient:
    """Any number of threads may ask at once; more than spamd has children wait for each other."""

    scanner: ClassVar[Scanner] = Scanner.SPAMD

    def __init__(self, address: str, user: str | None) -> None:
        """Ask at `HOST:PORT` or `unix:/path`, by the preferences of `user`."""
        self._connections = Connections(service_address(address))
        self._user = user

    def ask(self, content: bytes | mmap.mmap, envelope: ScanEnvelope, deadline: float) -> ScannerAnswer:
        """Return what SpamAssassin says of a message, by `deadline` (time.monotonic).

        Of the envelope it learns what the message's own header fields say: its protocol has no more. So the Received
        field goes on top where it is missing.

        Raises:
            ScannerUnavailable: it cannot be reached, hangs, or answers nonsense or too much.
        """
        received = received_field(envelope, formatdate()) if envelope.lacks_received else b""
        with said_as_unavailable(deadline), memoryview(content) as view:

            def converse(connection: DeadlineSocket) -> tuple[ScannerAnswer, bool]:
                head = request_head(len(received) + len(view), self._user)
                is_said = connection.say(itertools.chain([head + received], chunks_of(view)))
                if is_said:
                    connection.say_no_more()
                return about_all_of_it(read_answer(connection.read_until(is_whole)), is_said=is_said), False

            return self._connections.ask(converse, deadline, _MOST_BYTES)

    def ping(self, deadline: float) -> None:
        """Return when spamd has answered that it is there.

        Raises:
            ScannerUnavailable: it has not.
        """

        def converse(connection: DeadlineSocket) -> tuple[bytes, bool]:
            connection.say([PING])
            return connection.read_until(lambda answer: b"\n" in answer), False

        with said_as_unavailable(deadline):
            if not is_pong(self._connections.ask(converse, deadline, _MOST_BYTES)):
                raise NonsenseError("to a ping")

    def close(self) -> None:
        """Close the connections that are kept: none."""
        self._connections.close()
