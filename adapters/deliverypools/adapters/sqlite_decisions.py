"""The decision log in a SQLite file; see `state`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator
from dataclasses import asdict
from itertools import islice
from operator import attrgetter

from deliverypools.adapters import log_times
from deliverypools.adapters.sqlite_base import SQLiteBase
from deliverypools.adapters.state import MOST_CLUES, MOST_HOSTS, MOST_OF_A_MESSAGE
from deliverypools.core.facts import printable
from deliverypools.core.records import DecisionRecord, newest_first

_RECORD = ", ".join(DecisionRecord.__dataclass_fields__)
_VALUES = attrgetter(*DecisionRecord.__dataclass_fields__)
_SENT = f"SELECT {_RECORD} FROM decisions WHERE went_on AND expires_at > ? AND"  # noqa: S608  (our own names)

_ROWS_AT_ONCE = 1000
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
                (*_VALUES(record), record.went_on, self._clock() + keep_seconds),
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

    def decisions(self, *, since: float = 0.0) -> Iterator[DecisionRecord]:
        """Yield what is on record; see `State.decisions`."""
        # By expiry, because that has an index: a page is a step of its own, and writers wait for none of them.
        last: tuple[object, ...] = (self._clock(), "", "")
        while True:
            with self._file.reading() as connection:
                rows = connection.execute(
                    f"SELECT expires_at, {_RECORD} FROM decisions"  # noqa: S608  (our own names)
                    " WHERE (expires_at, queue_id, host) > (?, ?, ?) ORDER BY expires_at, queue_id, host LIMIT ?",
                    (*last, _ROWS_AT_ONCE),
                ).fetchall()
            if not rows:
                return
            records = [_record(row[1:]) for row in rows]
            yield from (record for record in records if record.at >= since)
            last = (rows[-1][0], records[-1].queue_id, records[-1].host)

    def note_waiting(self, record: DecisionRecord, names: Collection[str], keep_seconds: float) -> None:
        """Note what was last found about a message that waits; see `State.note_waiting`."""
        row, expires_at = json.dumps(asdict(record)), self._clock() + keep_seconds
        with self._file.transaction() as connection:
            self._prune(connection, writes=len(names))
            connection.executemany(
                "INSERT OR REPLACE INTO waiting VALUES (?, ?, ?)",
                [(printable(name), row, expires_at) for name in names if name],
            )

    def waiting(self, name: str) -> DecisionRecord | None:
        """Return what was last found about a message that waits; see `State.waiting`."""
        with self._file.reading() as connection:
            row = connection.execute(
                "SELECT row FROM waiting WHERE name = ? AND expires_at > ?", (printable(name), self._clock())
            ).fetchone()
            return DecisionRecord(**json.loads(row[0])) if row else None


def _note_time(connection: sqlite3.Connection, at: float, keep_seconds: float) -> None:
    times = connection.execute("SELECT keep_seconds, last_at FROM log_times").fetchall()
    changed = log_times.noted(dict(times), at, keep_seconds)
    if changed is not None:
        connection.execute("DELETE FROM log_times")
        connection.executemany("INSERT INTO log_times VALUES (?, ?)", changed.items())


def _record(row: tuple[object, ...]) -> DecisionRecord:
    return DecisionRecord(**dict(zip(DecisionRecord.__dataclass_fields__, row, strict=True)))  # type: ignore[arg-type]
