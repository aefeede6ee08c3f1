"""The shared state, for a command: opened, closed, and left to the daemons' user."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deliverypools.adapters.state import State, open_state
from deliverypools.core.settings import Settings


@contextmanager
def shared_state(settings: Settings) -> Iterator[State]:
    """Open the state that the settings name. Its calls raise StateUnavailable."""
    path = Path(settings.state_path) if settings.state_path is not None else None
    is_new = path is not None and not path.exists()
    state = open_state(settings, time.time)
    try:
        yield state
    finally:
        if path is not None and is_new:
            _leave_to_owner_of_folder(path)
        state.close()


def _leave_to_owner_of_folder(path: Path) -> None:
    """Give a file that root made to the user of the daemons, who could not write it otherwise."""
    if os.geteuid() != 0 or not path.exists():
        return
    owner = path.parent.stat()
    for file in (path, *(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))):
        with suppress(FileNotFoundError):
            os.chown(file, owner.st_uid, owner.st_gid)
