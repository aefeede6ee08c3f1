"""One worker process: libmilter in a thread, signals and the drain in the main thread."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import select
import signal
import socket
import stat
import threading
import time
from pathlib import Path

import Milter

from deliverypools.adapters.authentication.authenticator import Authenticator
from deliverypools.adapters.fast_path import FastPathWatch
from deliverypools.adapters.keys import Keys, sender_rewriter
from deliverypools.adapters.metrics import measure
from deliverypools.adapters.metrics.measured_state import measured
from deliverypools.adapters.resolver import Resolver
from deliverypools.adapters.scanning.scanners import Scanners
from deliverypools.adapters.seal import TicketSealer
from deliverypools.adapters.sender_domains import SenderDomains
from deliverypools.adapters.state import open_state
from deliverypools.core.settings import Settings
from deliverypools.milter.callbacks import Activity, PoolMilter
from deliverypools.milter.services import Services

DRAIN_SIGNAL = signal.SIGUSR1
"""Sent by the master that stops. SIGTERM, SIGHUP and SIGINT are libmilter's own in a worker: it cuts messages short."""
RETIRE_SIGNAL = signal.SIGUSR2
"""Sent by the master after a reload: accept nothing more, and end when the last session has ended by itself."""

_MESSAGE_DRAIN_SECONDS = 60.0
_REPLY_SECONDS = 1.0
_LOOK_AGAIN_SECONDS = 0.05
_TICKET_ID_BYTES = 9

_log = logging.getLogger(__name__)


def register(socket_name: str) -> None:
    """Register the callbacks with libmilter and open the listening socket, in the master, before any fork."""
    Milter.factory = PoolMilter
    Milter.set_flags(
        Milter.ADDHDRS + Milter.CHGHDRS + Milter.QUARANTINE + Milter.CHGFROM + Milter.DELRCPT + Milter.ADDRCPT_PAR
    )
    run_main = Milter.milter.main
    Milter.milter.main = lambda: None
    try:
        Milter.runmilter("delivery-pools", socket_name, timeout=0, rmsock=True)
    finally:
        Milter.milter.main = run_main


def run_worker(settings: Settings, keys: Keys, listening_fd: int, *, accepting: int, lifeline: int) -> None:
    """Serve until the master says so, or is gone (`lifeline`, a pipe, ends); does not return.

    `accepting` is the writing end of a pipe: closed, it tells the master that nothing more is accepted.

    Retire: accept nothing more, let open sessions end. Drain: the same for `milter.drain_seconds` at most, then
    wait for the messages that are still in progress.
    """
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for number in (DRAIN_SIGNAL, RETIRE_SIGNAL):
        signal.signal(number, lambda *_: None)
    for number in (signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL if number == signal.SIGCHLD else signal.SIG_IGN)
    activity = Activity()
    measure.start(settings, "worker")
    state = measured(open_state(settings, time.time))
    resolver = Resolver(settings.dns)
    sender_domains = SenderDomains(settings, state, resolver=resolver)
    scanners = Scanners(settings, state)
    PoolMilter.activity = activity
    PoolMilter.services = Services(
        settings=settings,
        state=state,
        sealer=TicketSealer(keys.ticket),
        sender_domains=sender_domains,
        authenticator=Authenticator(settings, resolver),
        scanners=scanners,
        rewriter=sender_rewriter(settings, keys, time.time),
        fast_path=FastPathWatch(settings),
        clock=time.time,
        new_ticket_id=lambda: secrets.token_urlsafe(_TICKET_ID_BYTES),
    )
    libmilter = threading.Thread(target=_serve, args=(wake,), name="libmilter", daemon=True)
    libmilter.start()
    must_drain = _wait_for_order(woken, lifeline, None)
    address = _stop_accepting(listening_fd)
    os.close(accepting)
    while not must_drain and open_sessions(address):
        must_drain = _wait_for_order(woken, lifeline, _LOOK_AGAIN_SECONDS)
    deadline = time.monotonic() + settings.milter.drain_seconds
    _wait_for_sessions(address, deadline)
    activity.wait_for_messages(_MESSAGE_DRAIN_SECONDS)
    # The last callback has returned; libmilter may still be writing its reply.
    _wait_for_sessions(address, time.monotonic() + _REPLY_SECONDS)
    scanners.close()
    sender_domains.close()
    resolver.close()
    state.close()
    measure.stop()
    logging.shutdown()
    # Not sys.exit(): libmilter's threads would hold the process for seconds, and there is nothing left to lose.
    os._exit(0)


def _serve(wake: int) -> None:
    try:
        Milter.milter.main()
    except Exception:  # noqa: BLE001  (the worker ends, and is respawned)
        _log.exception("libmilter ended")
    os.write(wake, b"\0")


def _wait_for_order(woken: int, lifeline: int, timeout_seconds: float | None) -> bool:
    """Wait for a signal; tell whether to drain: after whatever is no order to retire, and without a master."""
    readable, _, _ = select.select([woken, lifeline], [], [], timeout_seconds)
    if lifeline in readable:
        return True
    return bool(readable) and set(os.read(woken, 4096)) != {RETIRE_SIGNAL}


def _stop_accepting(listening_fd: int) -> object:
    """Put the end of an empty pipe in the place of the listening socket: libmilter polls on, and nothing comes.

    Returns the address that was listened on.
    """
    with socket.socket(fileno=os.dup(listening_fd)) as listening:
        address: object = listening.getsockname()
    silent, _kept_open = os.pipe()
    os.dup2(silent, listening_fd)
    return address


def _wait_for_sessions(address: object, deadline: float) -> None:
    while open_sessions(address) and time.monotonic() < deadline:
        select.select([], [], [], _LOOK_AGAIN_SECONDS)


def open_sessions(address: object) -> int:
    """Return how many connections to `address` this process holds.

    libmilter's own are counted, not our callbacks: between accept() and the first callback there is a session too.
    """
    return sum(1 for descriptor in own_sockets() if _has_address(descriptor, address))


def own_sockets() -> list[int]:
    """Return the descriptors of all sockets of this process."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(int(entry.name)).st_mode):
                found.append(int(entry.name))
    return found


def _has_address(descriptor: int, address: object) -> bool:
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as candidate:
        own = candidate.getsockname()
        # A connection to 0.0.0.0:PORT has the address that the client chose, and the port.
        return bool(own[1] == address[1] if isinstance(own, tuple) and isinstance(address, tuple) else own == address)
    return False
