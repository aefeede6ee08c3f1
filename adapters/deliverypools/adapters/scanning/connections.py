"""Connections to one scanner: made within a deadline, and kept where the scanner lets us."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from ipaddress import ip_address
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar, cast

from deliverypools.adapters.scanning.deadline_socket import DeadlineSocket, DeadlineTlsSocket, seconds_left
from deliverypools.core.settings.values import InetSocket, UnixSocket, socket_address

_Answer = TypeVar("_Answer")
_Place: TypeAlias = tuple[socket.AddressFamily, Any]
"""A family, and an address in it as sockets have it."""

_MOST_BYTES: Final = 1_000_000
_MOST_IDLE_SECONDS: Final = 20.0
"""Before clamd's own limit (CommandReadTimeout, 30 s): else the message would be sent into a connection that ends."""


class _Idle(NamedTuple):
    connection: DeadlineSocket
    since: float


def service_address(text: str) -> InetSocket | UnixSocket:
    """Return the address in `unix:/path` or `HOST:PORT`, as the settings have it.

    Raises:
        ValueError: there is none.
    """
    return socket_address(text if text.startswith("unix:") else f"inet:{text}")


class Connections:
    """Any number of threads ask by them at once, each on a connection of its own."""

    def __init__(self, address: InetSocket | UnixSocket, *, tls: ssl.SSLContext | None = None) -> None:
        """Connect to `address`, with TLS where there is a context for it. Nothing is done before the first question."""
        self._address = address
        self._tls = tls
        if tls is not None:
            tls.sslsocket_class = DeadlineTlsSocket
        self._lock = threading.Lock()
        self._idle: list[_Idle] = []
        self._look_up: Future[list[_Place]] | None = None

    def ask(
        self,
        converse: Callable[[DeadlineSocket], tuple[_Answer, bool]],
        deadline: float,
        most_bytes: int = _MOST_BYTES,
    ) -> _Answer:
        """Return what `converse` gets from a connection; it tells too whether the connection can be used again.

        One that was kept, and turns out to be dead, is replaced by a new one once.

        Raises:
            NonsenseError: from `converse`, or more is answered than may be.
            TimeoutError: the deadline has come.
            OSError: there is no connection, or it ends.
        """
        if (kept := self._kept()) is not None:
            with contextlib.suppress(ConnectionError):
                return self._asked(kept, converse, deadline, most_bytes)
        return self._asked(self._connect(deadline), converse, deadline, most_bytes)

    def close(self) -> None:
        """Close the connections that are kept."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.close()

    def _asked(
        self,
        connection: DeadlineSocket,
        converse: Callable[[DeadlineSocket], tuple[_Answer, bool]],
        deadline: float,
        most_bytes: int,
    ) -> _Answer:
        with contextlib.ExitStack() as unless_kept:
            unless_kept.callback(connection.close)
            connection.begin(deadline, most_bytes)
            answer, may_be_kept = converse(connection)
            if may_be_kept:
                unless_kept.pop_all()
                with self._lock:
                    self._idle.append(_Idle(connection, time.monotonic()))
        return answer

    def _kept(self) -> DeadlineSocket | None:
        """Return the connection that was used last and seems to be alive; close those that are not."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection, since = self._idle.pop()
            if time.monotonic() - since < _MOST_IDLE_SECONDS and connection.is_quiet():
                return connection
            connection.close()

    def _connect(self, deadline: float) -> DeadlineSocket:
        if isinstance(self._address, UnixSocket):
            return _connected((socket.AF_UNIX, self._address.path), deadline)
        connection = self._connect_to_host(self._address, deadline)
        if self._tls is None:
            return connection
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(connection.close)
            connection.settimeout(seconds_left(deadline))
            secured = self._tls.wrap_socket(connection, server_hostname=self._address.host)
            on_failure.pop_all()
        return cast("DeadlineTlsSocket", secured)

    def _connect_to_host(self, address: InetSocket, deadline: float) -> DeadlineSocket:
        """Return a connection to the first address of a host that takes one; each gets its share of the time."""
        places = self._places(address, deadline)
        for number, place in enumerate(places):
            is_last = number == len(places) - 1
            share = seconds_left(deadline) / (len(places) - number)
            try:
                connection = _connected(place, time.monotonic() + share)
            except OSError:
                if is_last:
                    raise
                continue
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
        raise socket.gaierror("no address")

    def _places(self, address: InetSocket, deadline: float) -> list[_Place]:
        """Return the addresses of a host, with the port."""
        try:
            ip_address(address.host)
        except ValueError:
            return self._shared_look_up(address).result(seconds_left(deadline))
        return _looked_up(address)

    def _shared_look_up(self, address: InetSocket) -> Future[list[_Place]]:
        """Return the look-up of a name that is under way, else a new one: a thread, since nothing else can leave it."""
        with self._lock:
            if self._look_up is None:
                look_up: Future[list[_Place]] = Future()
                threading.Thread(target=self._finish, args=(look_up, address), daemon=True).start()
                self._look_up = look_up
            return self._look_up

    def _finish(self, look_up: Future[list[_Place]], address: InetSocket) -> None:
        try:
            places = _looked_up(address)
        except Exception as error:  # noqa: BLE001  (whoever waits for the look-up gets it)
            self._forget_look_up()
            look_up.set_exception(error)
        else:
            self._forget_look_up()
            look_up.set_result(places)

    def _forget_look_up(self) -> None:
        with self._lock:
            self._look_up = None


def _looked_up(address: InetSocket) -> list[_Place]:
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise socket.gaierror("no name of a host") from None
    return [(family, place) for family, _, _, _, place in found]


def _connected(place: _Place, deadline: float) -> DeadlineSocket:
    family, address = place
    with contextlib.ExitStack() as on_failure:
        connection = DeadlineSocket(family, socket.SOCK_STREAM)
        on_failure.callback(connection.close)
        connection.settimeout(seconds_left(deadline))
        connection.connect(address)
        on_failure.pop_all()
    return connection
