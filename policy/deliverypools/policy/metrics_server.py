"""Answers `GET /metrics` for all processes. Clients may be hostile: time, bytes and connections are bounded.

What goes wrong here touches no mail: the page is made in a thread of its own, and an address that cannot be had is
tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Final

from deliverypools.adapters.metrics.exposition import Page
from deliverypools.core.settings.metrics import Metrics
from deliverypools.core.settings.values import Nameserver
from deliverypools.policy.sparing_log import SparingLog

PATH: Final = "/metrics"
_MOST_CONNECTIONS: Final = 16
_MOST_REQUEST_BYTES: Final = 8192
_MOST_SECONDS: Final = 10.0
"""From the connection to the last byte of the answer."""
_AGAIN_SECONDS: Final = 30.0
_TEXT: Final = "text/plain; charset=utf-8"

_log = logging.getLogger(__name__)
_sparing_log = SparingLog(_log)

MakePage = Callable[[str], Page]
"""Returns the page for a header field Accept; may take seconds, and is called in a thread."""


class MetricsServer:
    """Listens until it is closed."""

    def __init__(self, settings: Metrics, make_page: MakePage) -> None:
        """Answer as `settings` say; nothing is opened yet."""
        self._settings = settings
        self._make_page = make_page
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="metrics-page")
        self._open: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        self._opening: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to listen, as soon as the address can be had."""
        if self._settings.listen is not None:
            self._opening = asyncio.create_task(self._listen(self._settings.listen))

    def close(self) -> None:
        """Stop, in the middle of an answer too."""
        if self._opening is not None:
            self._opening.cancel()
        if self._server is not None:
            self._server.close()
        for connection in tuple(self._open):
            connection.abort()
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _listen(self, address: Nameserver) -> None:
        loop = asyncio.get_running_loop()
        while self._server is None:
            try:
                self._server = await loop.create_server(
                    lambda: _Connection(self), address.address, address.port, backlog=_MOST_CONNECTIONS
                )
            except OSError as error:
                text = f"no metrics: {error.strerror or error}; mail goes on, and it is tried again"
                _sparing_log.write(logging.ERROR, "address", text)
                await asyncio.sleep(_AGAIN_SECONDS)
        host = f"[{address.address}]" if ":" in address.address else address.address
        _log.info("metrics at http://%s:%d%s", host, address.port, PATH)

    def admit(self, connection: _Connection, client_address: str) -> bool:
        """Tell whether a client may ask, and there is room for it."""
        if not self._settings.allows(client_address):
            _sparing_log.write(logging.WARNING, "client", f"{client_address} asked for metrics: see metrics.allow")
            return False
        if len(self._open) >= _MOST_CONNECTIONS:
            _sparing_log.write(logging.WARNING, "full", f"{_MOST_CONNECTIONS} clients ask for metrics: one was closed")
            return False
        self._open.add(connection)
        return True

    def forget(self, connection: _Connection) -> None:
        """Note that it is closed."""
        self._open.discard(connection)

    def ask(self, accept: str, answer: Callable[[Page | None], None]) -> None:
        """Have the page made; None where that failed."""
        made = asyncio.get_running_loop().run_in_executor(self._executor, self._make_page, accept)
        made.add_done_callback(functools.partial(_hand_on, answer))


def _hand_on(answer: Callable[[Page | None], None], made: asyncio.Future[Page]) -> None:
    if made.cancelled():
        answer(None)
    elif error := made.exception():
        _sparing_log.write(logging.ERROR, "broken", f"the page of metrics could not be made: {error!r}")
        answer(None)
    else:
        answer(made.result())


class _Connection(asyncio.Protocol):
    """One request, one answer."""

    def __init__(self, server: MetricsServer) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._is_whole = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or close it."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  (mypy; a TCP server has no others)
        peer = transport.get_extra_info("peername")
        if not self._server.admit(self, peer[0] if peer else ""):
            transport.abort()
            return
        self._transport = transport
        self._timer = asyncio.get_running_loop().call_later(_MOST_SECONDS, self.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        del exc
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        self._server.forget(self)

    def data_received(self, data: bytes) -> None:
        """Take a part of the request; answer it when its header is there. What follows is not read."""
        if self._is_whole:
            return
        self._received += data[: _MOST_REQUEST_BYTES + 1]
        head, end, _ = bytes(self._received).replace(b"\r\n", b"\n").partition(b"\n\n")
        if end:
            self._is_whole = True
            self._answer(head.decode("latin-1"))
        elif len(self._received) > _MOST_REQUEST_BYTES:
            self._is_whole = True
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def abort(self) -> None:
        """Close it at once."""
        if self._transport is not None:
            self._transport.abort()

    def _answer(self, head: str) -> None:
        request, *fields = head.split("\n")
        method, _, rest = request.partition(" ")
        target, _, version = rest.partition(" ")
        if not version.startswith("HTTP/1."):
            self._refuse(HTTPStatus.BAD_REQUEST)
        elif method not in ("GET", "HEAD"):
            self._refuse(HTTPStatus.METHOD_NOT_ALLOWED)
        elif target.partition("?")[0] != PATH:
            self._refuse(HTTPStatus.NOT_FOUND)
        else:
            self._server.ask(_accepted(fields), functools.partial(self._give, is_asked_for=method == "GET"))

    def _give(self, page: Page | None, *, is_asked_for: bool) -> None:
        if page is None:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)
        else:
            self._write(HTTPStatus.OK, page.content_type, page.body, is_asked_for=is_asked_for)

    def _refuse(self, status: HTTPStatus) -> None:
        self._write(status, _TEXT, f"{status.phrase}. Metrics are at {PATH}\n".encode(), is_asked_for=True)

    def _write(self, status: HTTPStatus, content_type: str, body: bytes, *, is_asked_for: bool) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        head = (
            f"HTTP/1.1 {status} {status.phrase}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
            "Allow: GET, HEAD\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
            "Connection: close\r\n\r\n"
        )
        self._transport.write(head.encode("ascii") + (body if is_asked_for else b""))
        with contextlib.suppress(OSError):
            self._transport.close()


def _accepted(fields: list[str]) -> str:
    for field in fields:
        name, _, value = field.partition(":")
        if name.lower() == "accept":
            return value.strip()
    return ""
