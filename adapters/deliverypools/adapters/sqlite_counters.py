"""Counters in SQLite, as a storage of the `limits` library: moving windows in buckets.

"Recipients in the last 24 hours" is exact to a minute, and an account costs at most 1,440 small rows a stream, however
much it sends. Being a storage of `limits` holds it to what that library means by a window: tests/contract runs the
library's own strategy over this, over its own storage and over Redis.
"""

from __future__ import annotations

import functools
import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

from limits.storage import MovingWindowSupport, Storage

from deliverypools.core.tallies import Entry, Tally, Used, Window, bucket_seconds

SCHEMA = """
CREATE TABLE IF NOT EXISTS counters (
    key TEXT NOT NULL, bucket INTEGER NOT NULL, amount INTEGER NOT NULL, expires_at REAL NOT NULL,
    PRIMARY KEY (key, bucket)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS counters_by_expiry ON counters (expires_at);
"""

_MOST_WINDOWS: Final = 100
"""In one statement."""
_DIGEST_BYTES: Final = 16

Transaction = Callable[[], AbstractContextManager[sqlite3.Connection]]


class SQLiteCounters(Storage, MovingWindowSupport):
    """Moving-window counters. `transaction` opens a write transaction, or joins the one that is open."""

    STORAGE_SCHEME = ["delivery-pools-sqlite"]  # noqa: RUF012  (the base class declares it so)

    def __init__(self, transaction: Transaction, clock: Callable[[], float]) -> None:
        super().__init__()
        self._transaction = transaction
        self._clock = clock

    def tally(self, tally: Tally) -> Used:
        """Return what the windows hold, and count."""
        prepared, now = PreparedTally(tally), self._clock()
        with self._transaction() as connection:
            used = prepared.used(connection, now)
            prepared.count(connection, now)
            return used

    def used(self, windows: Sequence[Window]) -> Used:
        """Return what windows hold now."""
        with self._transaction() as connection:
            parts = [_PreparedSums(*some) for some in _in_parts(windows)]
            return tuple(held for part in parts for held in part.used(connection, self._clock()))

    def give_back(self, counted: Iterable[tuple[str, float]]) -> None:
        """Take back what was counted: `PreparedTally.entries`, and when that was."""
        taken: Counter[tuple[str, int]] = Counter()
        for entries, counted_at in counted:
            for stream, amount, keep_seconds in json.loads(entries):
                taken[stream, int(counted_at / bucket_seconds(keep_seconds))] += amount
        with self._transaction() as connection:
            connection.executemany(
                "UPDATE counters SET amount = MAX(0, amount - ?3) WHERE key = ?1 AND bucket = ?2",
                [(*place, amount) for place, amount in taken.items()],
            )

    # ---- the contract of a storage of `limits`

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count `amount` if the window of `expiry` seconds then holds at most `limit`; tell whether it did."""
        with self._transaction():
            if self._held(key, expiry) + amount > limit:
                return False
            self.tally(Tally((Entry(key, amount, expiry),)))
            return True

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """Return the start of the oldest bucket in use (epoch seconds) and what the window holds."""
        del limit
        with self._transaction() as connection:
            (start,) = connection.execute(
                "SELECT MIN(bucket) FROM counters WHERE key = ? AND expires_at > ?", (key, self._clock())
            ).fetchone()
            begin = self._clock() if start is None else float(start * bucket_seconds(expiry))
            return begin, self._held(key, expiry)

    def _held(self, key: str, expiry: int) -> int:
        return self.used([Window((key,), expiry, expiry)])[0]

    @property
    def base_exceptions(self) -> type[Exception] | tuple[type[Exception], ...]:
        """Return what the database raises."""
        return sqlite3.Error

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count `amount` and return what the window holds."""
        with self._transaction():
            self.tally(Tally((Entry(key, amount, expiry),)))
            return self._held(key, expiry)

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


@functools.lru_cache(maxsize=4096)
class PreparedTally:
    """The statements for a tally, with all parameters but the time, which is the first one of each.

    The same account sends again, so these are kept: making them costs as much as running them.
    """

    def __init__(self, tally: Tally) -> None:
        self.entries = json.dumps([(entry.stream, entry.amount, entry.keep_seconds) for entry in tally.entries])
        """For `give_back`, together with the time of counting."""
        windows = [(window.streams, window.seconds, window.keep_seconds) for window in tally.windows]
        self.digest = hashlib.sha256(f"{self.entries} {windows!r}".encode()).digest()[:_DIGEST_BYTES]
        """A few bytes that differ where tallies differ."""
        self._sums = [_PreparedSums(*some) for some in _in_parts(tally.windows)]
        self._count = _count_statement(tuple(entry.keep_seconds for entry in tally.entries))
        self._counted = tuple(value for entry in tally.entries for value in (entry.stream, entry.amount))

    def used(self, connection: sqlite3.Connection, now: float) -> Used:
        """Return what the windows hold."""
        if len(self._sums) == 1:
            return self._sums[0].used(connection, now)
        return tuple(held for sums in self._sums for held in sums.used(connection, now))

    def count(self, connection: sqlite3.Connection, now: float) -> None:
        """Add the entries."""
        if self._counted:
            connection.execute(self._count, (now, *self._counted))


class _PreparedSums:
    """The statement that sums up some windows."""

    def __init__(self, *windows: Window) -> None:
        # A policy and the service limits may well look at the same window.
        different = tuple(dict.fromkeys(windows))
        self._places = [different.index(window) for window in windows] if different != windows else None
        self._streams = tuple(name for window in different for name in window.streams)
        self._statement = _sums_statement(
            tuple((len(window.streams), window.seconds, window.keep_seconds) for window in different)
        )

    def used(self, connection: sqlite3.Connection, now: float) -> Used:
        held: Used = connection.execute(self._statement, (now, *self._streams)).fetchone()
        return held if self._places is None else tuple(held[place] for place in self._places)


def _in_parts(windows: Sequence[Window]) -> list[Sequence[Window]]:
    return [windows[start : start + _MOST_WINDOWS] for start in range(0, len(windows), _MOST_WINDOWS)]


@functools.lru_cache(maxsize=64)
def _sums_statement(windows: tuple[tuple[int, int, int], ...]) -> str:
    """Return the statement that sums up windows: so many streams, over so many seconds, kept so many seconds."""
    sums = []
    first = 2
    for streams, seconds, keep_seconds in windows:
        marks = ", ".join(f"?{number}" for number in range(first, first + streams))
        bucket = float(bucket_seconds(keep_seconds))
        # Buckets of the future are left by a clock that went back.
        sums.append(
            f"(SELECT COALESCE(SUM(amount), 0) FROM counters WHERE key IN ({marks})"  # noqa: S608  (our own numbers)
            f" AND bucket > (?1 - {seconds}) / {bucket} AND bucket <= ?1 / {bucket})"
        )
        first += streams
    return f"SELECT {', '.join(sums)}"


@functools.lru_cache(maxsize=64)
def _count_statement(keep_seconds: tuple[int, ...]) -> str:
    """Return the statement that adds entries which are kept so many seconds."""
    rows = []
    for number, seconds in enumerate(keep_seconds):
        length = bucket_seconds(seconds)
        bucket = f"CAST(?1 / {float(length)} AS INTEGER)"
        rows.append(f"(?{2 * number + 2}, {bucket}, ?{2 * number + 3}, ({bucket} + 1) * {length} + {seconds})")
    return (
        f"INSERT INTO counters VALUES {', '.join(rows)}"  # noqa: S608  (our own numbers)
        " ON CONFLICT (key, bucket) DO UPDATE SET amount = amount + excluded.amount"
    )
