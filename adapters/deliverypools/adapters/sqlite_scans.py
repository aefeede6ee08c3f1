"""What scanners have said, in a SQLite file; see `state`."""

from __future__ import annotations

from collections.abc import Collection

from deliverypools.adapters.sqlite_base import SQLiteBase


class SQLiteScans(SQLiteBase):
    """A part of the shared state."""

    def remember_scan(self, key: str, text: str, keep_seconds: float) -> None:
        """Keep what a scanner said; see `State.remember_scan`."""
        with self._file.transaction() as connection:
            self._prune(connection)
            connection.execute(
                "INSERT OR REPLACE INTO scans VALUES (?, ?, ?)", (key, text, self._clock() + keep_seconds)
            )

    def known_scans(self, keys: Collection[str]) -> dict[str, str]:
        """Return what scanners have said; see `State.known_scans`."""
        now = self._clock()
        known = {}
        with self._file.reading() as connection:
            for key in keys:
                row = connection.execute(
                    "SELECT answer FROM scans WHERE scan_key = ? AND expires_at > ?", (key, now)
                ).fetchone()
                if row:
                    known[key] = str(row[0])
        return known
