"""One `postfix install` at a time: two plans that are made at once would take the same free ports."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from deliverypools.adapters.postfix_commands import PostfixError

_NAMESPACE: Final = "/proc/thread-self/ns/net"


@contextmanager
def ports_to_ourselves() -> Iterator[None]:
    """Keep every install away that would find the same ports free: those of other instances, of containers too.

    Ports are of a network namespace, so that is what is locked: no file is left behind. Where it cannot be, two masters
    at one port are found after the reload.

    Raises:
        PostfixError: another one is at work.
    """
    try:
        descriptor = os.open(_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield
        return
    try:
        _lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise PostfixError(
            "another `delivery-pools postfix install` is at work on this machine, on another instance of Postfix;"
            " wait until that one is done: both would take the same ports"
        ) from None
    except OSError:
        return
