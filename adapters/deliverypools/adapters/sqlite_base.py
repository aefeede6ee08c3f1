"""What every part of the state in a SQLite file is made with: its transactions, its clock, and forgetting old rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from deliverypools.adapters import sqlite_schema
from deliverypools.adapters.sqlite_file import SQLiteFile

_PRUNE_EVERY_WRITES = 16
_PRUNE_EVERY_SECONDS = 10.0
_PRUNED_PER_WRITE = 6
_FEWEST_PRUNED = 100
_MOST_PRUNED = 500
"""Rows of each table in one go: a hundred take half a millisecond."""


class SQLiteBase:
    """Threads of one process share one connection; a forked child makes its own."""

    def __init__(self, path: str, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._file = SQLiteFile(path, sqlite_schema.STEPS)
        self._writes = 0
        self._pruned_at = clock()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _prune(self, connection: sqlite3.Connection, *, writes: int = 1) -> None:
        """Forget what has expired, a little at a time."""
        now = self._clock()
        self._writes += writes
        if self._writes < _PRUNE_EVERY_WRITES and abs(now - self._pruned_at) < _PRUNE_EVERY_SECONDS:
            return
        # A message writes some rows, which all expire one day: a little more than that, so that we get to the end.
        most = min(max(_FEWEST_PRUNED, _PRUNED_PER_WRITE * self._writes), _MOST_PRUNED)
        self._pruned_at = now
        self._writes = 0
        for table, key in sqlite_schema.PRUNED.items():
            connection.execute(
                f"DELETE FROM {table} WHERE ({key}) IN"  # noqa: S608  (our own names)
                f" (SELECT {key} FROM {table} WHERE expires_at < ? ORDER BY expires_at LIMIT ?)",
                (now, most),
            )
