"""Counters in SQLite, as a storage of the `limits` library: moving windows in buckets.

A window is kept as up to 1,440 buckets, so that "recipients in the last 24 hours" is exact to a minute and an account
costs at most 1,440 small rows, however much it sends.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from limits.storage import MovingWindowSupport, Storage

_BUCKETS_PER_WINDOW = 1440

SCHEMA = """
CREATE TABLE IF NOT EXISTS counters (
    key TEXT NOT NULL, bucket INTEGER NOT NULL, amount INTEGER NOT NULL, expires_at REAL NOT NULL,
    PRIMARY KEY (key, bucket)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS counters_by_expiry ON counters (expires_at);
"""

Transaction = Callable[[], AbstractContextManager[sqlite3.Connection]]


class SQLiteCounters(Storage, MovingWindowSupport):
    """Moving-window counters. `transaction` opens a write transaction, or joins the one that is open."""

    STORAGE_SCHEME = ["delivery-pools-sqlite"]  # noqa: RUF012  (the base class declares it so)

    def __init__(self, transaction: Transaction, clock: Callable[[], float]) -> None:
        super().__init__()
        self._transaction = transaction
        self._clock = clock

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count `amount` if the window of `expiry` seconds then holds at most `limit`; tell whether it did."""
        with self._transaction():
            if self.used(key, expiry) + amount > limit:
                return False
            self.add(key, expiry, amount)
            return True

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """Return the start of the oldest bucket in use (epoch seconds) and what the window holds."""
        del limit
        with self._transaction() as connection:
            (start,) = connection.execute(
                "SELECT MIN(bucket) FROM counters WHERE key = ? AND expires_at > ?", (key, self._clock())
            ).fetchone()
            begin = self._clock() if start is None else float(start * _bucket_seconds(expiry))
            return begin, self.used(key, expiry)

    def used(self, key: str, expiry: int) -> int:
        """Return what the window of the last `expiry` seconds holds."""
        oldest = (self._clock() - expiry) / _bucket_seconds(expiry)
        with self._transaction() as connection:
            row = connection.execute(
                # Buckets of the future are left by a clock that went back.
                "SELECT COALESCE(SUM(amount), 0) FROM counters WHERE key = ? AND bucket > ? AND bucket <= ?",
                (key, oldest, self._clock() / _bucket_seconds(expiry)),
            ).fetchone()
            return int(row[0])

    def add(self, key: str, expiry: int, amount: int) -> int:
        """Count `amount` whatever the limit; return the bucket it went to, for `give_back`."""
        now = self._clock()
        seconds = _bucket_seconds(expiry)
        bucket = int(now // seconds)
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO counters VALUES (?, ?, ?, ?)"
                " ON CONFLICT (key, bucket) DO UPDATE SET amount = amount + excluded.amount",
                (key, bucket, amount, (bucket + 1) * seconds + expiry),
            )
        return bucket

    def give_back(self, key: str, bucket: int, amount: int) -> None:
        """Take back what was counted in that bucket."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE counters SET amount = MAX(0, amount - ?) WHERE key = ? AND bucket = ?", (amount, key, bucket)
            )

    def prune(self) -> None:
        """Forget what no window reaches any more."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM counters WHERE expires_at < ?", (self._clock(),))

    @property
    def base_exceptions(self) -> type[Exception] | tuple[type[Exception], ...]:
        """Return what the database raises."""
        return sqlite3.Error

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count `amount` and return what the window holds."""
        with self._transaction():
            self.add(key, expiry, amount)
            return self.used(key, expiry)

    def get(self, key: str) -> int:
        """Return everything that is kept for a key."""
        with self._transaction() as connection:
            row = connection.execute("SELECT COALESCE(SUM(amount), 0) FROM counters WHERE key = ?", (key,)).fetchone()
            return int(row[0])

    def get_expiry(self, key: str) -> float:
        """Return when the last bucket of a key lapses, in epoch seconds."""
        with self._transaction() as connection:
            row = connection.execute("SELECT MAX(expires_at) FROM counters WHERE key = ?", (key,)).fetchone()
            return float(row[0]) if row[0] is not None else self._clock()

    def check(self) -> bool:
        """Tell whether the database answers."""
        with self._transaction() as connection:
            return bool(connection.execute("SELECT 1").fetchone())

    def reset(self) -> int | None:
        """Forget every counter; return how many rows that were."""
        with self._transaction() as connection:
            return int(connection.execute("DELETE FROM counters").rowcount)

    def clear(self, key: str) -> None:
        """Forget the counters of a key."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM counters WHERE key = ?", (key,))

    def __getstate__(self) -> Any:
        raise TypeError("a database connection cannot be pickled")


def _bucket_seconds(expiry: int) -> int:
    return max(1, expiry // _BUCKETS_PER_WINDOW)
