"""The policy server: one process for the policy service and, with SRS, for look-ups of SRS addresses.

A thread asks the state, and another task sends alerts.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from deliverypools.adapters.keys import Keys, sender_rewriter
from deliverypools.adapters.metrics import measure
from deliverypools.adapters.metrics.measured_state import measured
from deliverypools.adapters.seal import TicketSealer
from deliverypools.adapters.service_manager import ServiceManager
from deliverypools.adapters.settings_file import keep_until_restart, log_refusal
from deliverypools.adapters.sockets import (
    SocketError,
    hand_to_postfix,
    lock_socket,
    remove_socket,
    socket_mode,
    unix_path,
)
from deliverypools.adapters.state import open_state
from deliverypools.core.facts import printable
from deliverypools.core.settings import Settings, SettingsError
from deliverypools.policy.answers_counted import counting_lookups, counting_requests
from deliverypools.policy.backscatter import BackscatterLists
from deliverypools.policy.batches import Batches
from deliverypools.policy.connections import Connections, most_connections
from deliverypools.policy.dispatcher import Dispatcher
from deliverypools.policy.metrics_page import MetricsPage
from deliverypools.policy.metrics_server import MetricsServer
from deliverypools.policy.service import PolicyService
from deliverypools.policy.socketmap import SOCKETMAP
from deliverypools.policy.sparing_log import SparingLog
from deliverypools.policy.srs_map import SrsMap
from deliverypools.policy.wire import POLICY

_BACKLOG: Final = 1024
_ACCEPTED_AT_ONCE: Final = 32
_GARBAGE_OBJECTS: Final = 20_000
_DRAIN_SECONDS: Final = 6.0
"""Longer than any answer takes."""
_MOST_STOPPING_SECONDS: Final = 90.0
"""The drain, and an alert that sendmail(1) is taking."""

_log = logging.getLogger(__name__)
_sparing_log = SparingLog(_log)


class PolicyServer:
    """Serves until SIGTERM. `load` is asked at SIGHUP; what it refuses changes nothing."""

    def __init__(
        self, settings: Settings, keys: Keys, load: Callable[[], tuple[Settings, Keys]], manager: ServiceManager
    ) -> None:
        self._settings = settings
        self._manager = manager
        self._sealer = TicketSealer(keys.ticket)
        self._rewriter = sender_rewriter(settings, keys, time.time)
        self._addresses = [settings.policy.socket, *([settings.socketmap.socket] if self._rewriter else [])]
        self._load = load
        self._state = measured(open_state(settings, time.time))
        self._stopping = asyncio.Event()

    async def run(self) -> int:
        """Serve; return the exit status.

        Raises:
            SocketError: the socket is in use, or cannot be made.
        """
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_report)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        listening = [_listen(address) for address in self._addresses]
        measure.start(self._settings, "policy")
        service = PolicyService(self._state, time.time, lambda: self._rewriter)
        lists = BackscatterLists()
        batches = Batches(service, lambda: self._settings, lists.action)
        connections = Connections(most_connections())
        servers = [
            await loop.create_server(new, sock=one, backlog=_ACCEPTED_AT_ONCE)
            for one, new in zip(listening, self._protocols(connections, batches), strict=False)
        ]
        for one in listening:
            one.listen(_BACKLOG)
        # Garbage collection need not look at what stays for ever; and requests leave no cycles behind.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_GARBAGE_OBJECTS)
        dispatcher = Dispatcher(
            lambda: self._settings, lambda: measured(open_state(self._settings, time.time)), lambda: self._sealer
        )
        sending = asyncio.create_task(dispatcher.run())
        page = MetricsPage(lambda: self._settings, self._state, dispatcher.waiting)
        metrics = MetricsServer(self._settings.metrics, page.make)
        metrics.start()
        _log.info("serving %s", " and ".join(self._addresses))
        self._manager.ready()
        watched = asyncio.create_task(self._stay_watched())
        await self._stopping.wait()
        self._manager.stopping(_MOST_STOPPING_SECONDS)
        for server, address in zip(servers, self._addresses, strict=True):
            server.close()
            remove_socket(address)
        metrics.close()
        sending.cancel()
        await batches.close(_DRAIN_SECONDS)
        lists.close()
        connections.close()
        await asyncio.gather(sending, return_exceptions=True)
        watched.cancel()
        self._state.close()
        measure.stop()
        _log.info("stopped")
        return 0

    async def _stay_watched(self) -> None:
        """Tell the service manager, from the loop that answers, that it works."""
        while self._manager.ping_seconds is not None:
            self._manager.alive()
            await asyncio.sleep(self._manager.ping_seconds)

    def _protocols(self, connections: Connections, batches: Batches) -> Iterator[Callable[[], asyncio.Protocol]]:
        """Yield what makes the protocols of the connections to our sockets: policy first, then socketmap."""
        loop = asyncio.get_running_loop()
        srs_map = SrsMap(lambda: self._rewriter)
        yield connections.serving(POLICY, counting_requests(batches.ask))
        answer = counting_lookups(srs_map.answer)
        yield connections.serving(SOCKETMAP, lambda lookup, reply: loop.call_soon(reply, answer(lookup)))

    def _reload(self) -> None:
        self._manager.reloading()
        try:
            self._take_new_settings()
        finally:
            self._manager.ready()

    def _take_new_settings(self) -> None:
        try:
            settings, keys = self._load()
        except SettingsError as error:
            log_refusal(error, _log)
            return
        self._settings = keep_until_restart(settings, self._settings, ["policy", "socketmap"], _log)
        self._sealer = TicketSealer(keys.ticket)
        self._rewriter = sender_rewriter(self._settings, keys, time.time)
        _log.info("settings reloaded")


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what went wrong on the event loop; out of descriptors, asyncio accepts again after a second."""
    del loop
    error = context.get("exception")
    text = f"{context.get('message', 'event loop')}: {error!r}"
    kind = "system" if isinstance(error, OSError) else "broken"
    _sparing_log.write(logging.ERROR, kind, printable(text), None if isinstance(error, OSError) else error)


def _listen(address: str) -> socket.socket:
    lock_socket(address)
    path = unix_path(address)
    try:
        if path is None:
            host, _, port = address.removeprefix("inet:").rpartition(":")
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            return socket.create_server((host.strip("[]"), int(port)), family=family, backlog=_BACKLOG)
        remove_socket(address)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with socket_mode():
            listening.bind(path)
    except OSError as error:
        raise SocketError(f"{address}: {error.strerror or error}") from None
    hand_to_postfix(address)
    listening.listen(_BACKLOG)
    return listening
