"""The master process: one listening socket, pre-forked workers, respawn, reload, drain."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterable

from deliverypools.adapters.keys import Keys
from deliverypools.adapters.metrics import measure
from deliverypools.adapters.metrics.definitions import WORKER_ENDS
from deliverypools.adapters.service_manager import ServiceManager
from deliverypools.adapters.settings_file import keep_until_restart, log_refusal
from deliverypools.adapters.sockets import SocketError, hand_to_postfix, lock_socket, remove_socket, socket_mode
from deliverypools.core.settings import Settings, SettingsError
from deliverypools.milter.worker import DRAIN_SIGNAL, RETIRE_SIGNAL, own_sockets, register, run_worker

_RESPAWN_SECONDS = 1.0
"""A worker that lived shorter than this is respawned after a pause of as much."""
_KILL_AFTER_SECONDS = 90.0
_MOST_RETIRED_PER_WORKER = 4
_RETIRE_SECONDS = 5.0
"""Workers stop accepting in milliseconds, unless they are stopped themselves or still start."""

_log = logging.getLogger(__name__)

Loader = Callable[[], tuple[Settings, Keys]]
"""Reads settings and keys; raises SettingsError with everything that is wrong."""


def libmilter_socket(address: str) -> str:
    """Return a socket of the settings ("unix:/path", "inet:HOST:PORT") as libmilter writes it ("inet:PORT@HOST")."""
    kind, _, rest = address.partition(":")
    if kind == "unix":
        return address
    host, _, port = rest.rpartition(":")
    family = "inet6" if ":" in host else "inet"
    return f"{family}:{port}@{host.strip('[]')}"


class MilterServer:
    """Runs the workers. `load` is asked at SIGHUP; what it refuses changes nothing."""

    def __init__(self, settings: Settings, keys: Keys, load: Loader, manager: ServiceManager) -> None:
        self._settings = settings
        self._keys = keys
        self._load = load
        self._manager = manager
        self._workers: dict[int, float] = {}
        self._retired: list[int] = []
        self._draining: dict[int, float] = {}
        self._respawn_at: list[float] = []
        self._lifeline_read, self._lifeline_write = os.pipe()
        self._accepting_read, self._accepting_write = os.pipe()
        self._woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._listening_fd = -1
        self._lock: int | None = None

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; return the exit status.

        Raises:
            SocketError: another milter has the socket, or it cannot be made.
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        self._lock = lock_socket(self._settings.milter.socket)
        self._listening_fd = _listen(self._settings.milter.socket)
        measure.start(self._settings, "master", has_thread=False)
        self._spawn_missing()
        _log.info("serving %s with %d workers", self._settings.milter.socket, self._settings.milter.workers)
        self._manager.ready()
        while True:
            received = self._wait()
            self._reap()
            if received & {signal.SIGTERM, signal.SIGINT}:
                return self._stop()
            if signal.SIGHUP in received:
                self._reload()
            self._spawn_missing()

    def _wait(self) -> set[int]:
        """Wait for a signal, until a worker is to be respawned or killed, or the service manager to be told of us."""
        self._manager.alive()
        deadlines = [*self._respawn_at, *self._draining.values()]
        waits = [max(0.0, deadline - time.monotonic()) for deadline in deadlines]
        if self._manager.ping_seconds is not None:
            waits.append(self._manager.ping_seconds)
        select.select([self._woken], [], [], min(waits, default=None))
        with contextlib.suppress(BlockingIOError):
            return set(os.read(self._woken, 4096))
        return set()

    def _spawn_missing(self) -> None:
        now = time.monotonic()
        waiting = [at for at in self._respawn_at if at > now]
        self._respawn_at = waiting
        for _ in range(self._settings.milter.workers - len(self._workers) - len(waiting)):
            self._spawn()

    def _spawn(self) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            _log.error("no worker could be started (%s): tried again", error)
            self._respawn_at.append(time.monotonic() + _RESPAWN_SECONDS)
            return
        if pid:
            self._workers[pid] = time.monotonic()
            return
        try:
            # Its own process group: Ctrl-C in a terminal is for the master, which drains.
            os.setpgid(0, 0)
            os.close(self._lifeline_write)
            os.close(self._accepting_read)
            if self._lock is not None:
                # It is the master's: a new one may start while the workers of one that was killed still drain.
                os.close(self._lock)
            run_worker(
                self._settings,
                self._keys,
                self._listening_fd,
                accepting=self._accepting_write,
                lifeline=self._lifeline_read,
            )
        except BaseException:  # noqa: BLE001  (a child must never return into the master)
            _log.exception("worker could not start")
        finally:
            os._exit(1)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not pid:
                break
            self._draining.pop(pid, None)
            if pid in self._retired:
                self._retired.remove(pid)
            started = self._workers.pop(pid, None)
            if started is not None:
                _log.warning("worker %d ended (%s): another one is started", pid, _how(status))
                measure.add(WORKER_ENDS, "signal" if os.WIFSIGNALED(status) else "exit")
                measure.publish()
                if time.monotonic() - started < _RESPAWN_SECONDS:
                    self._respawn_at.append(time.monotonic() + _RESPAWN_SECONDS)
        now = time.monotonic()
        for pid in [pid for pid, deadline in self._draining.items() if deadline <= now]:
            _log.warning("worker %d did not end: killed", pid)
            _signal(pid, signal.SIGKILL)
            self._draining[pid] = now + _KILL_AFTER_SECONDS

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
        settings = keep_until_restart(settings, self._settings, ["milter"], _log)
        self._settings, self._keys = settings, keys
        self._retire_workers()
        _log.info("settings reloaded: new workers take over, the old ones finish what they have")
        # Sessions may last for hours; many reloads meanwhile must not pile up processes.
        most = _MOST_RETIRED_PER_WORKER * settings.milter.workers
        self._drain(self._retired[:-most])
        self._retired = self._retired[-most:]

    def _retire_workers(self) -> None:
        """Let the workers accept nothing more; return when it is so: who connects from then on meets new ones."""
        for pid in self._workers:
            _signal(pid, RETIRE_SIGNAL)
        self._retired += self._workers
        self._workers = {}
        os.close(self._accepting_write)
        if not select.select([self._accepting_read], [], [], _RETIRE_SECONDS)[0]:
            _log.warning(
                "a worker of before does not say that it has stopped accepting: it may decide by the old settings"
            )
        os.close(self._accepting_read)
        self._accepting_read, self._accepting_write = os.pipe()

    def _drain(self, pids: Iterable[int]) -> None:
        deadline = time.monotonic() + self._settings.milter.drain_seconds + _KILL_AFTER_SECONDS
        for pid in pids:
            _signal(pid, DRAIN_SIGNAL)
            self._draining[pid] = deadline

    def _stop(self) -> int:
        _log.info("draining: messages in progress are finished")
        self._manager.stopping(self._settings.milter.drain_seconds + 2 * _KILL_AFTER_SECONDS)
        remove_socket(self._settings.milter.socket)
        os.close(self._listening_fd)
        self._drain([*self._workers, *self._retired])
        self._workers, self._retired = {}, []
        while self._draining:
            self._wait()
            self._reap()
        measure.stop()
        _log.info("stopped")
        return 0


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _how(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)}"
    return f"exit status {os.waitstatus_to_exitcode(status)}"


def _listen(address: str) -> int:
    before = _listening_sockets()
    try:
        with socket_mode():
            register(libmilter_socket(address))
    except Exception as error:  # noqa: BLE001  (milter.error, OSError)
        raise SocketError(f"{address}: libmilter cannot open this socket ({error}); is the address in use?") from None
    new = _listening_sockets() - before
    if len(new) != 1:
        raise SocketError(f"{address}: libmilter opened {len(new)} listening sockets, expected one")
    (descriptor,) = new
    # With a blocking one, a worker that loses the race for a connection hangs in accept().
    os.set_blocking(descriptor, False)
    hand_to_postfix(address)
    return descriptor


def _listening_sockets() -> set[int]:
    found = set()
    for descriptor in own_sockets():
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as candidate:
            if candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                found.add(descriptor)
    return found
