"""Unix sockets that Postfix reaches: one server each, group postfix, 0660."""

from __future__ import annotations

import contextlib
import fcntl
import grp
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

_GROUP = "postfix"
_MODE = 0o660

_log = logging.getLogger(__name__)


class SocketError(Exception):
    """A server cannot listen; the text says why and what to do."""


def unix_path(address: str) -> str | None:
    """Return the path of "unix:/path", None for any other address."""
    kind, _, path = address.partition(":")
    return path if kind == "unix" else None


def lock_socket(address: str) -> int | None:
    """Keep every other server of ours away from this socket until we end; return the lock's descriptor.

    Raises:
        SocketError: another one has it, or the folder is not ours to write.
    """
    path = unix_path(address)
    if path is None:
        return None
    try:
        descriptor = os.open(path + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SocketError(
            f"{path}.lock: {error.strerror}; the folder must exist, and the user who runs this must be able to write it"
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise SocketError(f"{path}: another delivery-pools server has this socket; stop it first") from None
    return descriptor


@contextmanager
def socket_mode() -> Iterator[None]:
    """Make the sockets that are bound meanwhile 0660. The umask is the process's: for use before threads exist."""
    before = os.umask(0o777 & ~_MODE)
    try:
        yield
    finally:
        os.umask(before)


def hand_to_postfix(address: str) -> None:
    """Give a socket to the group postfix; where that cannot be done, say so: Postfix would be refused."""
    path = unix_path(address)
    if path is None:
        return
    try:
        os.chown(path, -1, grp.getgrnam(_GROUP).gr_gid)
    except KeyError:
        _log.warning("%s: there is no group %s; Postfix must be able to connect by other means", path, _GROUP)
    except PermissionError:
        _log.warning("%s: not given to group %s: make this user a member of it, or Postfix is refused", path, _GROUP)


def remove_socket(address: str) -> None:
    """Remove the socket file: a client is then refused at once."""
    path = unix_path(address)
    if path is not None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108
