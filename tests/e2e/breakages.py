"""What breaks, really: each is a context manager that breaks a lab, and repairs it at its end."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from mailing import BOB, fresh, mail, submit
from test_redis import RedisServer

from deliverypools.lab.daemons import Daemon
from deliverypools.lab.dns_server import DnsFailure
from deliverypools.lab.lab import Lab
from deliverypools.lab.settings_file import TICKET_FILE, write_key_file
from deliverypools.lab.waiting import wait_until

RECIPIENTS_PER_MESSAGE = 5
_CLONE_NEWNS = 0x00020000
_LIBC = ctypes.CDLL(None, use_errno=True)


# ---- processes and sockets


@contextlib.contextmanager
def killed(daemon: Daemon) -> Iterator[None]:
    daemon.kill()
    yield
    daemon.start()


@contextlib.contextmanager
def hung(daemon: Daemon) -> Iterator[None]:
    """Connections are opened, by the kernel, and nothing is answered."""
    processes = [daemon.pid, *daemon.workers]
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in processes:
            os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def sockets_gone(lab: Lab, daemon: Daemon, *names: str) -> Iterator[None]:
    for name in names:
        (lab.postfix.queue_directory / "delivery-pools" / name).unlink()
    yield
    daemon.stop()
    daemon.start()


# ---- the state


@contextlib.contextmanager
def state_locked(path: Path) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as blocker:
        blocker.execute("BEGIN EXCLUSIVE")
        yield
        blocker.execute("ROLLBACK")


@contextlib.contextmanager
def state_damaged(lab: Lab, path: Path) -> Iterator[None]:
    """Garbage in the place of its pages, when the daemons start: those that run know some pages by heart."""
    stop_all(lab)
    # What a daemon had no time to move into the file lies beside it, and would mend it.
    for file in path.parent.glob(f"{path.name}-*"):
        file.unlink()
    path.write_bytes(os.urandom(max(path.stat().st_size, 4096)))
    start_all(lab)
    yield
    stop_all(lab)
    for file in path.parent.glob(path.name + "*"):
        file.unlink()
    start_all(lab)


def stop_all(lab: Lab) -> None:
    for daemon in lab.daemons.values():
        daemon.stop()


def start_all(lab: Lab) -> None:
    for daemon in lab.daemons.values():
        daemon.start()


@contextlib.contextmanager
def directory_removed(folder: Path) -> Iterator[None]:
    shutil.rmtree(folder)
    yield


@contextlib.contextmanager
def read_only(lab: Lab, disk: Path) -> Iterator[None]:
    """A file system is not made read-only while somebody writes; the daemons start on one that is."""
    stop_all(lab)
    _run("mount", "-o", "remount,ro", str(disk))
    start_all(lab)
    yield
    _run("mount", "-o", "remount,rw", str(disk))


# ---- disks


@contextlib.contextmanager
def small_disk(size: str) -> Iterator[Path]:
    """Mount a file system of this size, in a mount namespace of our own: it is gone when we are, however we end.

    Not below pytest's own folders: the paths of sockets in it would be too long.
    """
    if _LIBC.unshare(_CLONE_NEWNS) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"unshare(CLONE_NEWNS): {os.strerror(code)}")
    _run("mount", "--make-rprivate", "/")
    with tempfile.TemporaryDirectory() as folder:
        _run("mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "delivery-pools-test", folder)
        try:
            yield Path(folder)
        finally:
            _run("umount", "--lazy", folder)


@contextlib.contextmanager
def disk_full(disk: Path) -> Iterator[None]:
    ballast = disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    yield
    ballast.unlink()


@contextlib.contextmanager
def all_on(disk: Path) -> Iterator[None]:
    """Let labs keep everything there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(disk))
        yield


def give_the_log_a_disk(lab: Lab) -> None:
    """Let the mail log be where there is room, so that it tells what happens; our daemons' logs stay where they are."""
    lab.postfix.stop()
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "delivery-pools-test", str(lab.postfix.log_file.parent))
    with lab.network.inside():
        lab.postfix.start()


@contextlib.contextmanager
def redis_stopped(redis: RedisServer) -> Iterator[None]:
    redis.stop()
    yield
    redis.start()


@contextlib.contextmanager
def redis_hung(redis: RedisServer) -> Iterator[None]:
    redis.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        redis.send_signal(signal.SIGCONT)


# ---- DNS


@contextlib.contextmanager
def dns_fails(lab: Lab, failure: DnsFailure, *names: str) -> Iterator[None]:
    for name in names:
        lab.dns.fail(name, failure)
    yield
    for name in names:
        lab.dns.fail(name, None)


# ---- keys, clock


@contextlib.contextmanager
def key_file_missing(lab: Lab) -> Iterator[None]:
    keys = lab.directory / TICKET_FILE
    away = keys.rename(keys.with_name("away"))
    lab.milter.stop()
    with pytest.raises(RuntimeError, match="ticket"):
        lab.milter.start()
    yield
    away.rename(keys)
    lab.milter.start()


@contextlib.contextmanager
def key_file_replaced(lab: Lab) -> Iterator[None]:
    keys = lab.directory / TICKET_FILE
    keys.rename(keys.with_name("lost"))
    write_key_file(keys)
    stop_all(lab)
    start_all(lab)
    yield


@contextlib.contextmanager
def clock_jumps(shift: Path, seconds: float) -> Iterator[None]:
    _set_clock(shift, seconds)
    yield
    _set_clock(shift, 0)


def _set_clock(shift: Path, seconds: float) -> None:
    written = shift.with_suffix(".new")
    written.write_text(str(seconds))
    written.replace(shift)


# ---- Postfix


@contextlib.contextmanager
def postfix_reloads(lab: Lab) -> Iterator[None]:
    """Reload three times, without waiting for the processes of before to end."""
    stop = threading.Event()

    def reload() -> None:
        for _ in range(3):
            lab.postfix.run("postfix", "reload")
            stop.wait(0.3)

    thread = threading.Thread(target=reload)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def postfix_stopped(lab: Lab) -> Iterator[None]:
    lab.postfix.stop()
    yield
    with lab.network.inside():
        lab.postfix.start()


# ---- our own mail


@contextlib.contextmanager
def sendmail_missing(lab: Lab, repaired: Mapping[str, Any]) -> Iterator[None]:
    """An alert is due while `alerts.sendmail` names nothing; `repaired` are the settings that name it."""
    submit(lab, [fresh() for _ in range(RECIPIENTS_PER_MESSAGE + 1)], mail(BOB[0]), auth=BOB)
    yield
    wait_until(lambda: "mail alert not sent" in lab.policy.log(), timeout_seconds=30, what="the failed attempt")
    lab.write_settings(repaired)
    lab.policy.stop()
    lab.policy.start()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
