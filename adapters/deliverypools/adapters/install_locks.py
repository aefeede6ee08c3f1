"""One `postfix install` or `uninstall` of a configuration at a time, and one install of a machine.

What is locked is there anyway, so that no file is left behind, and anybody may open it: a refusal names who has it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from deliverypools.adapters.postfix_commands import PostfixError
from deliverypools.core.facts import printable

_NAMESPACE: Final = "/proc/thread-self/ns/net"
_LOCKS: Final = Path("/proc/locks")
_MOST_LOCKS_BYTES: Final = 1 << 20


@contextmanager
def to_ourselves(directory: Path) -> Iterator[None]:
    """Keep every install and uninstall away that would change the same configuration directory.

    Raises:
        PostfixError: another one is at work.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(descriptor, f"{directory}: another `delivery-pools postfix` is changing it; wait until that one is done")
        yield
    finally:
        os.close(descriptor)


@contextmanager
def ports_to_ourselves() -> Iterator[None]:
    """Keep every install away that would find the same ports free: those of other instances, of containers too.

    Ports are of a network namespace, so that is what is locked. Where it cannot be, two masters at one port are found
    after the reload.

    Raises:
        PostfixError: another one is at work.
    """
    try:
        descriptor = os.open(_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield
        return
    try:
        with contextlib.suppress(OSError):
            _lock(
                descriptor,
                "another `delivery-pools postfix install` is at work on this machine, on another instance of Postfix;"
                " wait until that one is done: both would take the same ports",
            )
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, refusal: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise PostfixError(f"{refusal}{_holder(descriptor)}") from None


def _holder(descriptor: int) -> str:
    """Return which process has the lock, as far as it is seen here, proc_locks(5)."""
    found = os.fstat(descriptor)
    file = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    try:
        with _LOCKS.open(encoding="ascii", errors="replace") as locks:
            lines = locks.read(_MOST_LOCKS_BYTES).splitlines()
        pid = next(words[4] for words in map(str.split, lines) if words[1:2] == ["FLOCK"] and words[5:6] == [file])
        name = Path(f"/proc/{int(pid)}/comm").read_text(errors="replace")
    except (OSError, ValueError, StopIteration):
        return ""
    return f" (it is process {pid}, {printable(name.strip())})"
