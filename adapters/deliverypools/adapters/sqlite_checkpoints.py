"""Checkpoints of a SQLite file beside the writing: else every so many commits one waits for two fsyncs.

A checkpoint moves what was committed from the write-ahead log into the file. SQLite does that within a commit; a
thread with a connection of its own does it here before that comes to pass, and keeps no writer waiting.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from typing import Final
from urllib.parse import quote

_EVERY_CHANGES: Final = 500
"""Rows; about as many pages of the log."""
_EVERY_SECONDS: Final = 0.1
_ATTEMPTS: Final = 8
_LONG_LOG_PAGES: Final = 4000
"""16 MB."""
_WAIT_MILLISECONDS: Final = 100
_LAST_RESORT_PAGES: Final = 8000
"""32 MB of log: then a commit does it, as without us: it moves all of it, and tens of milliseconds go by."""


class Checkpoints:
    """Makes checkpoints of the file at a path, for one connection that writes to it."""

    def __init__(self, path: str, connection: sqlite3.Connection) -> None:
        self._path = path
        self._thread: threading.Thread | None = None
        self._changes = connection.total_changes
        self._begun_at = 0.0
        connection.execute(f"PRAGMA wal_autocheckpoint = {_LAST_RESORT_PAGES}")

    def after_commit(self, connection: sqlite3.Connection) -> None:
        """Begin a checkpoint if enough was written since the last one; never raises because that cannot be done."""
        if connection.total_changes - self._changes < _EVERY_CHANGES or (self._thread and self._thread.is_alive()):
            return
        now = time.monotonic()
        if now - self._begun_at < _EVERY_SECONDS:
            return
        thread = threading.Thread(target=_checkpoint, args=(self._path,), name="checkpoint", daemon=True)
        # Where there are too many threads, the next commit tries again; the log only becomes longer meanwhile.
        with contextlib.suppress(RuntimeError):
            thread.start()
            self._thread, self._begun_at, self._changes = thread, now, connection.total_changes

    def close(self) -> None:
        """Wait for a checkpoint in progress: it is only a moment."""
        if self._thread is not None:
            self._thread.join(1.0)


def _checkpoint(path: str) -> None:
    """Checkpoint; where the log has become long, have it written from its beginning again.

    Only a checkpoint that leaves nothing has the log begun anew, and the file written to the disk; on a busy server
    there is something new in it almost always. So writers are kept out at last. What was written meanwhile is little
    then, for the attempts before it, one of which most likely came to an end, have left little to do.
    """
    # Not one that is gone: opening would make it anew. Whatever is wrong with it, the next transaction says.
    there = f"file:{quote(path)}?mode=rw"
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(there, 0, uri=True)) as connection:
        for _ in range(_ATTEMPTS):
            is_busy, logged, _moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if is_busy or logged < _LONG_LOG_PAGES:
                return
        connection.execute(f"PRAGMA busy_timeout = {_WAIT_MILLISECONDS}")
        connection.execute("PRAGMA wal_checkpoint(RESTART)")
