"""The shared state, for a command: opened, closed, left to the daemons' user; and what to do when it fails."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from deliverypools.adapters.state import State, StateUnavailable, open_state
from deliverypools.core.settings import Settings

_SETTING: Final = "correct `state` in the settings"
_TRY_AGAIN: Final = "try again"
_OTHER_FILE: Final = f"{_SETTING}, or stop both daemons, move the file away with its -wal and -shm, and start them"
_REMEDIES: Final = {
    sqlite3.SQLITE_BUSY: _TRY_AGAIN,
    sqlite3.SQLITE_LOCKED: _TRY_AGAIN,
    sqlite3.SQLITE_NOTADB: _OTHER_FILE,
    sqlite3.SQLITE_CORRUPT: _OTHER_FILE,
    sqlite3.SQLITE_FULL: "make room on the disk",
}
_MAY_NOT: Final = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH)


class NoState(StateUnavailable):
    """There is no state where the settings say; the text says what to do."""


@contextmanager
def shared_state(settings: Settings, *, may_make: bool = False) -> Iterator[State]:
    """Open the state that the settings name. Its calls raise StateUnavailable.

    The daemons make a file and its folders; a command that did would answer from an empty state where the settings
    have a typing error. With `may_make` it makes the file in a folder that is there.

    Raises:
        NoState: there is no file.
        StateUnavailable: it cannot be told whether there is one.
    """
    path = Path(settings.state_path) if settings.state_path is not None else None
    is_new = path is not None and not _is_there(path)
    if path is not None and is_new:
        _refuse_missing(path, may_make=may_make)
    state = open_state(settings, time.time)
    try:
        yield state
    finally:
        if path is not None and is_new:
            _leave_to_owner_of_folder(path)
        state.close()


def failure_text(error: StateUnavailable) -> str:
    """Return what is wrong with the state, and what to do about it."""
    if isinstance(error, NoState):
        return str(error)
    remedy = remedy_for(error)
    return f"the state cannot be read or written: {error}{'; ' if remedy else ''}{remedy}"


def remedy_for(error: StateUnavailable) -> str:
    """Return what to do about a state that fails; "" where the error says it."""
    cause = error.__cause__
    # Extended codes hold the primary one in their low byte. An error that SQLite did not raise has none.
    code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
    if code in _MAY_NOT or isinstance(cause, PermissionError):
        may_everything = os.geteuid() == 0
        return "is its file system read-only?" if may_everything else "run this as root or as the user of the daemons"
    if isinstance(cause, sqlite3.Error):
        return _REMEDIES.get(code, "")
    return f"is the server running? Else {_SETTING}" if cause else _SETTING


def _is_there(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError as error:
        raise StateUnavailable(f"{path}: {error.strerror}") from error
    except OSError as error:
        raise NoState(f"{path}: {error.strerror}; {_SETTING}") from error
    if stat.S_ISDIR(mode):
        raise NoState(f"{path} is a folder; {_SETTING}: it names a file")
    return True


def _refuse_missing(path: Path, *, may_make: bool) -> None:
    if not may_make:
        raise NoState(f"there is no state yet at {path}; has the policy daemon run? Else {_SETTING}")
    if not path.parent.is_dir():
        raise NoState(
            f"there is no folder {path.parent} for the state; make it, owned by the user of the daemons, or {_SETTING}"
        )


def _leave_to_owner_of_folder(path: Path) -> None:
    """Give a file that root made to the user of the daemons, who could not write it otherwise."""
    if os.geteuid() != 0 or not path.exists():
        return
    owner = path.parent.stat()
    for file in (path, *(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))):
        with suppress(FileNotFoundError):
            os.chown(file, owner.st_uid, owner.st_gid, follow_symlinks=False)
