"""The policy server: asyncio streams on one socket; a thread asks the database, so that a slow disk blocks nobody."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from deliverypools.adapters.settings_file import keep_until_restart, log_refusal
from deliverypools.adapters.sockets import (
    SocketError,
    hand_to_postfix,
    lock_socket,
    remove_socket,
    socket_mode,
    unix_path,
)
from deliverypools.adapters.state import State
from deliverypools.core.facts import printable
from deliverypools.core.settings import Settings, SettingsError
from deliverypools.policy.service import DUNNO, answer
from deliverypools.policy.wire import ProtocolViolation, Request, RequestDecoder, encode_answer

ANSWER_SECONDS = 5.0
"""Every request is answered in this time: Postfix would wait 100 s by default."""
_IDLE_SECONDS = 1200.0
"""smtpd closes an idle connection after 300 s; one that stays longer is not Postfix's."""
_MOST_CONNECTIONS = 2000
_CHUNK_BYTES = 16 * 1024
_BACKLOG = 1024
_DRAIN_SECONDS = 5.0

_log = logging.getLogger(__name__)


class PolicyServer:
    """Serves until SIGTERM. `load` is asked at SIGHUP; what it refuses changes nothing."""

    def __init__(self, settings: Settings, load: Callable[[], Settings]) -> None:
        self._settings = settings
        self._load = load
        self._state = State(settings.state_path, time.time)
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="state")
        self._connections: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()

    async def run(self) -> int:
        """Serve; return the exit status.

        Raises:
            SocketError: the socket is in use, or cannot be made.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        listening = _listen(self._settings.policy.socket)
        server = await asyncio.start_server(self._serve, sock=listening, backlog=_BACKLOG)
        _log.info("serving %s", self._settings.policy.socket)
        await self._stopping.wait()
        server.close()
        remove_socket(self._settings.policy.socket)
        for task in self._connections:
            task.cancel()
        if self._connections:
            await asyncio.wait(self._connections, timeout=_DRAIN_SECONDS)
        self._executor.shutdown(wait=True)
        self._state.close()
        _log.info("stopped")
        return 0

    def _reload(self) -> None:
        try:
            settings = self._load()
        except SettingsError as error:
            log_refusal(error, _log)
            return
        self._settings = keep_until_restart(settings, self._settings, "policy", _log)
        _log.info("settings reloaded")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._connections) >= _MOST_CONNECTIONS:
            # Postfix tries again, then takes the default action of its check_policy_service.
            _log.warning("more than %d connections: one was closed", _MOST_CONNECTIONS)
            writer.close()
            return
        self._connections.add(task)
        try:
            await self._converse(reader, writer)
        except ProtocolViolation as error:
            _log.warning("connection closed: %s", printable(str(error)))
        except (OSError, TimeoutError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decoder = RequestDecoder()
        while chunk := await asyncio.wait_for(reader.read(_CHUNK_BYTES), _IDLE_SECONDS):
            decoder.feed(chunk)
            for request in decoder.requests():
                writer.write(encode_answer(await self._answer(request)))
                await asyncio.wait_for(writer.drain(), ANSWER_SECONDS)

    async def _answer(self, request: Request) -> str:
        loop = asyncio.get_running_loop()
        deadline = time.monotonic() + ANSWER_SECONDS
        work = loop.run_in_executor(self._executor, self._answer_before, deadline, request)
        try:
            return await asyncio.wait_for(asyncio.shield(work), ANSWER_SECONDS)
        except TimeoutError:
            _log.error("no answer from the state in %.0f s", ANSWER_SECONDS)
        except Exception:  # noqa: BLE001  (a request that breaks us must not break the connection)
            _log.exception("untrapped exception in a request")
        return DUNNO

    def _answer_before(self, deadline: float, request: Request) -> str:
        """Answer, unless the answer was given up: the milter counts then, and a reservation would count twice."""
        return answer(request, self._settings, self._state) if time.monotonic() < deadline else DUNNO


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
