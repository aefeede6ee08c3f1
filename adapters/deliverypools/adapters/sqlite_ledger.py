"""The drop ledger in a SQLite file; see `state`."""

from __future__ import annotations

from dataclasses import astuple
from math import inf
from typing import Final

from deliverypools.adapters.sqlite_base import SQLiteBase
from deliverypools.core.records import DroppedNotice

_COLUMNS: Final = (*DroppedNotice.__dataclass_fields__, "expires_at")
_FIELDS: Final = ", ".join(DroppedNotice.__dataclass_fields__)
_WRITE: Final = (
    f"INSERT INTO dropped ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608  (our own names)
    " ON CONFLICT (queue_id, host) DO UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS)
)
_OF_A_TIME: Final = "FROM dropped WHERE at >= ? AND at < ? AND expires_at > ?"
_MOST_REMOVED: Final = 200
"""In one go, where fewer are to be kept than before."""


class SQLiteDropLedger(SQLiteBase):
    """A part of the shared state."""

    def drop(self, notice: DroppedNotice, keep_seconds: float, most: int) -> None:
        """Write an entry of the drop ledger; see `State.drop`."""
        with self._file.transaction() as connection:
            self._prune(connection)
            connection.execute(_WRITE, (*astuple(notice), self._clock() + keep_seconds))
            # Entries are numbered as they are written, and go from the lower end: nothing has to be counted.
            connection.execute(
                "DELETE FROM dropped WHERE entry_id IN (SELECT entry_id FROM dropped"
                " WHERE entry_id <= (SELECT MAX(entry_id) FROM dropped) - ? ORDER BY entry_id LIMIT ?)",
                (most, _MOST_REMOVED),
            )

    def dropped(self, *, since: float = 0.0, until: float = inf, most: int = 1000) -> list[DroppedNotice]:
        """Return entries of the drop ledger of a time, newest first."""
        with self._file.reading() as connection:
            rows = connection.execute(
                f"SELECT {_FIELDS} {_OF_A_TIME} ORDER BY at DESC, expires_at DESC, entry_id DESC LIMIT ?",
                (since, until, self._clock(), most),
            ).fetchall()
        return [DroppedNotice(**dict(zip(DroppedNotice.__dataclass_fields__, row, strict=True))) for row in rows]

    def count_dropped(self, *, since: float = 0.0, until: float = inf) -> int:
        """Return how many entries of the drop ledger there are of a time."""
        with self._file.reading() as connection:
            (count,) = connection.execute(
                f"SELECT COUNT(*) {_OF_A_TIME}",
                (since, until, self._clock()),
            ).fetchone()
            return int(count)
