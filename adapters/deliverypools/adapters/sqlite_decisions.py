"""The decision log in a SQLite file; see `state`."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from dataclasses import astuple
from itertools import islice

from deliverypools.adapters import log_times
from deliverypools.adapters.sqlite_base import SQLiteBase
from deliverypools.adapters.state import MOST_CLUES, MOST_HOSTS, MOST_OF_A_MESSAGE
from deliverypools.core.facts import printable
from deliverypools.core.records import DecisionRecord, newest_first

_RECORD = ", ".join(DecisionRecord.__dataclass_fields__)
_SENT = f"SELECT {_RECORD} FROM decisions WHERE went_on AND expires_at > ? AND"  # noqa: S608  (our own names)

_NOT_SENT = _SENT.replace("WHERE went_on", "WHERE NOT went_on")


class SQLiteDecisionLog(SQLiteBase):
    """A part of the shared state."""

    def record(self, record: DecisionRecord, keep_seconds: float) -> None:
        """Write a row of the decision log."""
        with self._file.transaction() as connection:
            self._prune(connection)
            connection.execute(
                f"INSERT OR REPLACE INTO decisions ({_RECORD}, went_on, expires_at)"  # noqa: S608  (our own names)
                f" VALUES ({'?, ' * len(DecisionRecord.__dataclass_fields__)}?, ?)",
                (*astuple(record), record.went_on, self._clock() + keep_seconds),
            )
            _note_time(connection, record.at, keep_seconds)

    def record_of(self, host: str, queue_id: str) -> DecisionRecord | None:
        """Return what is on record about a queue file."""
        with self._file.reading() as connection:
            row = connection.execute(
                f"SELECT {_RECORD} FROM decisions WHERE queue_id = ? AND host = ? AND expires_at > ?",  # noqa: S608
                (queue_id, host, self._clock()),
            ).fetchone()
            return _record(row) if row else None

    def records_of(self, account: str, *, since: float = 0.0, most: int = 1_000_000) -> list[DecisionRecord]:
        """Return what is on record about an account's mail, newest first."""
        with self._file.reading() as connection:
            rows = connection.execute(
                f"SELECT {_RECORD} FROM decisions"  # noqa: S608
                " WHERE account = ? AND account <> '' AND at >= ? AND expires_at > ? ORDER BY at DESC LIMIT ?",
                (account, since, self._clock(), most),
            ).fetchall()
            return [_record(row) for row in rows]

    def sent(self, message_ids: Collection[str], queue_files: Collection[tuple[str, str]]) -> list[DecisionRecord]:
        """Return rows about messages that have one of these names; see `State.sent`."""
        rows: list[tuple[object, ...]] = []
        now = self._clock()
        with self._file.reading() as connection:
            for message_id in islice(message_ids, MOST_CLUES):
                rows += connection.execute(
                    f"{_SENT} message_id = ? AND message_id <> '' ORDER BY at DESC LIMIT ?",
                    (now, printable(message_id), MOST_OF_A_MESSAGE),
                )
            for host, queue_id in islice(queue_files, MOST_CLUES):
                rows += connection.execute(
                    f"{_SENT} queue_id = ? AND host = ?", (now, printable(queue_id), printable(host))
                )
        return newest_first(map(_record, rows))

    def records_about(self, name: str) -> list[DecisionRecord]:
        """Return rows about queue files, or messages, of that name; see `State.records_about`."""
        now, wanted = self._clock(), printable(name)
        rows: list[tuple[object, ...]] = []
        with self._file.reading() as connection:
            for start in (_SENT, _NOT_SENT):
                rows += connection.execute(
                    f"{start} message_id = ? AND message_id <> '' ORDER BY at DESC LIMIT ?",
                    (now, wanted, MOST_OF_A_MESSAGE),
                )
            rows += connection.execute(
                f"SELECT {_RECORD} FROM decisions WHERE queue_id = ? AND expires_at > ? LIMIT ?",  # noqa: S608
                (wanted, now, MOST_HOSTS),
            )
        return newest_first(map(_record, rows))

    def recorded_since(self) -> float | None:
        """Return since when the decision log tells of every message; see `State.recorded_since`."""
        with self._file.reading() as connection:
            times = connection.execute("SELECT keep_seconds, last_at FROM log_times").fetchall()
        return log_times.complete_since(times, self._clock())


def _note_time(connection: sqlite3.Connection, at: float, keep_seconds: float) -> None:
    times = connection.execute("SELECT keep_seconds, last_at FROM log_times").fetchall()
    changed = log_times.noted(dict(times), at, keep_seconds)
    if changed is not None:
        connection.execute("DELETE FROM log_times")
        connection.executemany("INSERT INTO log_times VALUES (?, ?)", changed.items())


def _record(row: tuple[object, ...]) -> DecisionRecord:
    return DecisionRecord(**dict(zip(DecisionRecord.__dataclass_fields__, row, strict=True)))  # type: ignore[arg-type]
