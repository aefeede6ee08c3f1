"""The connections of Postfix's processes: how many there may be, how long each may keep us waiting."""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, Generic

from deliverypools.core.facts import printable
from deliverypools.policy.batches import Reply
from deliverypools.policy.protocol import ProtocolViolation, RequestT, Wire
from deliverypools.policy.sparing_log import SparingLog

_IDLE_SECONDS: Final = 1200.0
"""Postfix closes an idle connection after 300 s at most; one that stays longer is not Postfix's."""
_REQUEST_SECONDS: Final = 30.0
"""A request that was begun is complete by then, an answer read; Postfix does either at once."""
_SWEEP_SECONDS: Final = 1.0
_MOST_CONNECTIONS: Final = 5000
_SPARE_DESCRIPTORS: Final = 200
"""For the state, and for connections that were closed in this turn of the event loop."""
_FEWEST_CONNECTIONS: Final = 10
_YIELDS_AFTER_SECONDS: Final = 1.0

_log = logging.getLogger(__name__)
_sparing_log = SparingLog(_log)

Ask = Callable[[RequestT, Reply], object]
"""Has a request answered; never calls `Reply` at once."""


def most_connections() -> int:
    """Raise the soft limit of descriptors to the hard one; return how many connections that allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:
        _log.warning("the limit of open files stays as it is: %s", error)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST_CONNECTIONS
    return max(_FEWEST_CONNECTIONS, min(_MOST_CONNECTIONS, soft - _SPARE_DESCRIPTORS))


class Connections:
    """All open connections. When they are too many, a new one takes the place of the one that is idle longest.

    Postfix opens an idle connection anew when it finds it closed, so that nobody notices.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: set[Connection[Any]] = set()
        self._idle: OrderedDict[Connection[Any], float] = OrderedDict()
        """Those whose requests are all answered, and since when; the one that is idle longest comes first."""
        self._pressed: OrderedDict[Connection[Any], float] = OrderedDict()
        """Those that owe us half a request, or have an answer to read, and since when."""
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(_SWEEP_SECONDS, self._sweep)

    def serving(self, wire: Wire[RequestT], ask: Ask[RequestT]) -> Callable[[], Connection[RequestT]]:
        """Return what makes the protocol of a connection to one of our sockets."""
        return lambda: Connection(self, wire, ask)

    def close(self) -> None:
        """Close all connections; answers that were given are still sent."""
        self._timer.cancel()
        for connection in tuple(self._open):
            connection.close()

    def admit(self, connection: Connection[Any]) -> bool:
        """Tell whether there is room for a connection, after making some if need be."""
        if len(self._open) >= self._most and not self._make_room():
            _sparing_log.write(logging.WARNING, "full", f"{self._most} busy connections: a new one was closed")
            return False
        self._open.add(connection)
        self._idle[connection] = time.monotonic()
        return True

    def _make_room(self) -> bool:
        oldest, since = next(iter(self._idle.items()), (None, 0.0))
        if oldest is None or time.monotonic() - since < _YIELDS_AFTER_SECONDS:
            return False
        _sparing_log.write(logging.WARNING, "idle", f"{self._most} connections: the one idle longest was closed")
        self._drop(oldest)
        return True

    def asks(self, connection: Connection[Any]) -> None:
        """Note that a request of it is being answered."""
        self._idle.pop(connection, None)
        self._pressed.pop(connection, None)

    def is_answered(self, connection: Connection[Any]) -> None:
        """Note that it has its answer."""
        self._idle[connection] = time.monotonic()

    def press(self, connection: Connection[Any]) -> None:
        """Note that it is its turn now, and that it has not for ever."""
        self._pressed.setdefault(connection, time.monotonic())

    def release(self, connection: Connection[Any]) -> None:
        """Note that it did what it had to."""
        self._pressed.pop(connection, None)

    def forget(self, connection: Connection[Any]) -> None:
        """Note that it is closed."""
        self._open.discard(connection)
        self._idle.pop(connection, None)
        self._pressed.pop(connection, None)

    def report(self, violation: ProtocolViolation) -> None:
        """Say why a connection is closed."""
        _sparing_log.write(logging.WARNING, "violation", f"connection closed: {printable(str(violation))}")

    def _drop(self, connection: Connection[Any]) -> None:
        self.forget(connection)
        connection.abort()

    def _sweep(self) -> None:
        self._timer = self._loop.call_later(_SWEEP_SECONDS, self._sweep)
        now = time.monotonic()
        for connections, seconds in ((self._idle, _IDLE_SECONDS), (self._pressed, _REQUEST_SECONDS)):
            while connections and now - next(iter(connections.values())) > seconds:
                connection = next(iter(connections))
                _sparing_log.write(logging.WARNING, "slow", f"connection closed: nothing came in {seconds:.0f} s")
                self._drop(connection)


class Connection(asyncio.Protocol, Generic[RequestT]):
    """One connection: requests are answered one after the other, in their order."""

    def __init__(self, connections: Connections, wire: Wire[RequestT], ask: Ask[RequestT]) -> None:
        self._connections = connections
        self._ask = ask
        self._decoder = wire.decoder()
        self._encode = wire.encode
        self._most_pending_bytes = wire.most_request_bytes
        self._transport: asyncio.Transport | None = None
        self._is_asking = False
        self._is_choked = False
        """The peer does not read its answers."""
        self._is_paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or close it where there is no room."""
        if isinstance(transport, asyncio.Transport) and self._connections.admit(self):
            self._transport = transport
        elif isinstance(transport, asyncio.Transport):
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        del exc
        self._transport = None
        self._connections.forget(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes, and ask about the first request that is complete."""
        self._decoder.feed(data)
        self._go_on()

    def pause_writing(self) -> None:
        """Wait: the peer does not read."""
        self._is_choked = True
        self._connections.press(self)

    def resume_writing(self) -> None:
        """Go on: the peer reads again."""
        self._is_choked = False
        self._connections.release(self)
        self._go_on()

    def close(self) -> None:
        """Close it when what was written is sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close it at once."""
        if self._transport is not None:
            self._transport.abort()

    def _go_on(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if not self._is_asking and not self._is_choked:
            self._ask_next(transport)
        # What is read ahead is bounded: the kernel lets the peer wait.
        is_full = self._decoder.pending_bytes > self._most_pending_bytes and (self._is_asking or self._is_choked)
        if is_full != self._is_paused and not transport.is_closing():
            self._is_paused = is_full
            (transport.pause_reading if is_full else transport.resume_reading)()

    def _ask_next(self, transport: asyncio.Transport) -> None:
        try:
            request = next(self._decoder.requests(), None)
        except ProtocolViolation as violation:
            self._connections.report(violation)
            transport.close()
            return
        if request is not None:
            self._is_asking = True
            self._connections.asks(self)
            self._ask(request, self._answer)
        elif self._decoder.pending_bytes:
            self._connections.press(self)

    def _answer(self, answer: str) -> None:
        self._is_asking = False
        if self._transport is None or self._transport.is_closing():
            return
        self._connections.is_answered(self)
        self._transport.write(self._encode(answer))
        self._go_on()
