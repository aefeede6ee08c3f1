"""From one configuration to another on a busy server: what is queued meanwhile, and who still works by the old one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from deliverypools.adapters.postfix_commands import PostfixInstance, Process
from deliverypools.adapters.postfix_queue import PostfixQueue
from deliverypools.adapters.state import State
from deliverypools.core.postfix_install.manifest import Reload

TAKES_MAIL: Final = ("smtpd", "qmqpd", "pickup", "cleanup", "bounce", "postscreen")
"""The programs by which mail comes into the queue: each goes on with the configuration that it began with."""
SENDS_MAIL: Final = ("smtp", "lmtp")
"""The programs by which it leaves."""
_BEGIN_AT_ONCE: Final = ("pickup", "qmgr")
"""What master(8) ends and begins anew as soon as it has read its configuration: they are woken without a request."""
_AT_ONCE: Final = 1000
_EVERY_SECONDS: Final = 1.0
_READING_SECONDS: Final = 10.0
"""The most that master(8) is given to read its configuration, on a machine that is busy."""
_LOOK_SECONDS: Final = 0.05


def note_queue(queue: PostfixQueue, state: State) -> set[str]:
    """Tell the state what is queued now, so that the egress pass knows why it has no ticket; return its queue ids.

    Raises:
        QueueError: the queue cannot be listed.
        StateUnavailable: it cannot be kept.
    """
    host = queue.hostname()
    noted: set[str] = set()
    ids = (message.queue_id for message in queue.messages())
    for some in _parts(ids):
        state.remember_queued(host, some)
        noted.update(some)
    return noted


def told(instance: PostfixInstance, tell: Callable[[], None]) -> Reload:
    """Let Postfix read its configuration, if it runs; return when it had done so.

    `postfix reload` returns before master(8) has: until then it begins processes with the options of before.

    Raises:
        PostfixError: it cannot be told.
    """
    since = _uptime_seconds()
    if instance.is_running():
        before = instance.processes(*_BEGIN_AT_ONCE)
        tell()
        since = _has_read_since(instance, before)
    return Reload(at=time.time(), uptime_seconds=since, boot_id=_boot_id())


def _has_read_since(instance: PostfixInstance, before: set[Process]) -> float:
    deadline = time.monotonic() + _READING_SECONDS
    while time.monotonic() < deadline and instance.is_running():
        now = instance.processes(*_BEGIN_AT_ONCE)
        if now and not now & before:
            return min(process.started_at for process in now)
        time.sleep(_LOOK_SECONDS)
    return _uptime_seconds()


def old_processes(instance: PostfixInstance, reload: Reload, *commands: str) -> set[Process]:
    """Return which processes of before the reload are left."""
    if reload.boot_id != _boot_id():
        return set()
    return {one for one in instance.processes(*commands) if one.started_at < reload.uptime_seconds}


def wait_for_old_processes(
    instance: PostfixInstance,
    reload: Reload,
    settle_seconds: float,
    meanwhile: Callable[[], None] = lambda: None,
    commands: tuple[str, ...] = TAKES_MAIL,
) -> set[Process]:
    """Return which processes of before the reload are left: none as soon as all have ended, else after the time.

    An open session keeps its smtpd, and that its cleanup; what they take has gone through the old configuration.
    `meanwhile` is done now and then, and once after the last of them has ended.
    """
    deadline = time.monotonic() + settle_seconds
    while left := old_processes(instance, reload, *commands):
        if time.monotonic() >= deadline:
            break
        time.sleep(min(_EVERY_SECONDS, settle_seconds))
        meanwhile()
    meanwhile()
    return left


def _uptime_seconds() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _parts(ids: Iterator[str]) -> Iterator[list[str]]:
    while some := list(islice(ids, _AT_ONCE)):
        yield some
