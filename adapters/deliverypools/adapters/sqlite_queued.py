"""What was queued before Delivery Pools was installed, in a SQLite file; see `state`."""

from __future__ import annotations

from collections.abc import Collection

from deliverypools.adapters.sqlite_base import SQLiteBase
from deliverypools.adapters.state import QUEUED_SECONDS


class SQLiteQueued(SQLiteBase):
    """A part of the shared state."""

    def remember_queued(self, host: str, queue_ids: Collection[str]) -> None:
        """Note which queue files were there; see `State.remember_queued`."""
        now = self._clock()
        with self._file.transaction() as connection:
            self._prune(connection, writes=len(queue_ids))
            connection.executemany(
                "INSERT OR REPLACE INTO queued VALUES (?, ?, ?, ?)",
                [(host, queue_id, now, now + QUEUED_SECONDS) for queue_id in queue_ids],
            )

    def queued_since(self, host: str, queue_id: str) -> float | None:
        """Return when a queue file was noted; see `State.queued_since`."""
        with self._file.reading() as connection:
            row = connection.execute(
                "SELECT at FROM queued WHERE host = ? AND queue_id = ? AND expires_at > ?",
                (host, queue_id, self._clock()),
            ).fetchone()
        return float(row[0]) if row else None
