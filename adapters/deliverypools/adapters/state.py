"""The state that all processes of a host share: one SQLite file (WAL).

Every method is one transaction, so that two processes never both take the last recipient of a limit. Whatever goes
wrong with the file raises `StateUnavailable` within about two seconds; the next call tries again from the beginning.
"""

from __future__ import annotations

import os
import select
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from limits import RateLimitItem, RateLimitItemPerDay
from limits.strategies import MovingWindowRateLimiter

from deliverypools.adapters import counters
from deliverypools.core.facts import Answer, Finding, Ingress

_SCHEMA_VERSION = 1
_BUSY_SECONDS = 2.0
_TRY_AGAIN_SECONDS = 0.02
_DAY = 86_400
_PRUNE_EVERY_SECONDS = 300.0

RESERVATION_SECONDS = 600.0
"""What was reserved and not committed for so long has lapsed: another milter refused, or the client vanished."""
_CHARGE_SECONDS = 30 * _DAY
"""A message is charged once in this time, however often it is retried or requeued: longer than any ticket lives."""

_SCHEMA = (
    counters.SCHEMA
    + """
CREATE TABLE IF NOT EXISTS reservations (
    queue_id TEXT PRIMARY KEY, instance TEXT NOT NULL, account TEXT NOT NULL, recipients INTEGER NOT NULL,
    bucket INTEGER NOT NULL, answer TEXT NOT NULL, evidence TEXT NOT NULL, expires_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS reservations_by_expiry ON reservations (expires_at);
CREATE TABLE IF NOT EXISTS charges (
    ticket_id TEXT PRIMARY KEY, answer TEXT NOT NULL, evidence TEXT NOT NULL, expires_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS charges_by_expiry ON charges (expires_at);
CREATE TABLE IF NOT EXISTS ticket_uses (
    ticket_id TEXT NOT NULL, queue_id TEXT NOT NULL, expires_at REAL NOT NULL, PRIMARY KEY (ticket_id, queue_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ticket_uses_by_expiry ON ticket_uses (expires_at);
CREATE TABLE IF NOT EXISTS sender_domains (
    domain TEXT PRIMARY KEY, answer TEXT NOT NULL, evidence TEXT NOT NULL, expires_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sender_domains_by_expiry ON sender_domains (expires_at);
"""
)


class StateUnavailable(Exception):  # noqa: N818  (it is a condition that passes)
    """The state cannot be read or written now."""


class _PerDay(RateLimitItemPerDay):
    """A limit per day whose counters stay when an operator changes the number."""

    def key_for(self, *identifiers: bytes | str | float) -> str:
        return "/".join(("recipients-per-day", *map(str, identifiers)))


@dataclass(frozen=True, slots=True)
class Charge:
    """So many recipients, to be counted for an account under a daily limit (0: counted, never too many).

    Accounts are counted apart by how the mail came in: a trusted client that writes a user's address into its
    envelope does not use up what the user may send.
    """

    ingress: Ingress
    account: str
    recipients: int
    recipients_per_day: int

    @property
    def key(self) -> str:
        """Return the name under which it is counted."""
        return account_key(self.ingress, self.account)


def account_key(ingress: Ingress, account: str) -> str:
    """Return the name under which an account's mail of one kind is counted."""
    return f"{ingress.value}:{account}"


class State:
    """The shared state. Threads of one process share one connection; a forked child makes its own State."""

    def __init__(self, path: str, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._file_id: tuple[int, int] | None = None
        self._depth = 0
        self._pruned_at = clock()
        self._counters = counters.SQLiteCounters(self._transaction, clock)
        self._limiter = MovingWindowRateLimiter(self._counters)

    def reserve(self, queue_id: str, instance: str | None, charge: Charge) -> Finding:
        """Count a message that is about to be accepted, until it is committed or lapses; tell if it is over the limit.

        Asked again about the same message (queue id and instance), the answer is the same and nothing is added.
        `instance` None is any: the milter does not know it.

        Raises:
            StateUnavailable: nothing was counted.
        """
        with self._transaction() as connection:
            self._lapse(connection)
            row = connection.execute(
                "SELECT instance, account, recipients, answer, evidence FROM reservations WHERE queue_id = ?",
                (queue_id,),
            ).fetchone()
            if row and row[1:3] == (charge.key, charge.recipients) and instance in (None, row[0]):
                return Finding(Answer(row[3]), row[4])
            if row:
                self._give_back(connection, queue_id)
            bucket, finding = self._count(charge)
            connection.execute(
                "INSERT INTO reservations VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(queue_id, instance or "", charge.key, charge.recipients, bucket),
                    *(finding.answer.value, finding.evidence, self._clock() + RESERVATION_SECONDS),
                ),
            )
            return finding

    def commit(self, queue_id: str, charge: Charge) -> Finding:
        """Make a reservation final with the recipients that were accepted; tell if the message is over the limit.

        Without a reservation of this account (the policy service was down) the message is counted now.

        Raises:
            StateUnavailable: the reservation stands as it was, and will lapse.
        """
        with self._transaction() as connection:
            self._lapse(connection)
            row = connection.execute(
                "SELECT recipients, bucket, answer, evidence FROM reservations WHERE queue_id = ? AND account = ?",
                (queue_id, charge.key),
            ).fetchone()
            if row is None:
                return self._count(charge)[1]
            reserved, bucket, answer, evidence = row
            if reserved > charge.recipients:
                self._counters.give_back(_key(charge.key), bucket, reserved - charge.recipients)
            elif reserved < charge.recipients:
                self._counters.add(_key(charge.key), _DAY, charge.recipients - reserved)
            connection.execute("DELETE FROM reservations WHERE queue_id = ?", (queue_id,))
            return Finding(Answer(answer), evidence)

    def cancel(self, queue_id: str) -> None:
        """Give a reservation back at once.

        Raises:
            StateUnavailable: it stands, and will lapse.
        """
        with self._transaction() as connection:
            if connection.execute("SELECT 1 FROM reservations WHERE queue_id = ?", (queue_id,)).fetchone():
                self._give_back(connection, queue_id)

    def charge_once(self, ticket_id: str, charge: Charge) -> Finding:
        """Count a message that was not counted when it was accepted, once for all its passes; tell if it is over.

        Raises:
            StateUnavailable: nothing was counted.
        """
        with self._transaction() as connection:
            self._lapse(connection)
            row = connection.execute(
                "SELECT answer, evidence FROM charges WHERE ticket_id = ?", (ticket_id,)
            ).fetchone()
            if row:
                return Finding(Answer(row[0]), row[1])
            finding = self._count(charge)[1]
            connection.execute(
                "INSERT INTO charges VALUES (?, ?, ?, ?)",
                (ticket_id, finding.answer.value, finding.evidence, self._clock() + _CHARGE_SECONDS),
            )
            return finding

    def use_ticket(self, ticket_id: str, queue_id: str, most_uses: int, lifetime_seconds: float) -> bool:
        """Note that a queue file carries this ticket; tell whether that is within the uses it may have.

        Raises:
            StateUnavailable: nothing was noted.
        """
        with self._transaction() as connection:
            self._prune(connection)
            added = connection.execute(
                "INSERT OR IGNORE INTO ticket_uses VALUES (?, ?, ?)",
                (ticket_id, queue_id, self._clock() + lifetime_seconds),
            ).rowcount
            if not added:
                return True
            (uses,) = connection.execute(
                "SELECT COUNT(*) FROM ticket_uses WHERE ticket_id = ?", (ticket_id,)
            ).fetchone()
            return bool(uses <= most_uses)

    def remember_sender_domain(self, domain: str, finding: Finding, keep_seconds: float) -> None:
        """Keep what DNS said about a domain.

        Raises:
            StateUnavailable: nothing was kept.
        """
        with self._transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO sender_domains VALUES (?, ?, ?, ?)",
                (domain, finding.answer.value, finding.evidence, self._clock() + keep_seconds),
            )

    def last_known_sender_domain(self, domain: str) -> Finding | None:
        """Return what DNS last said about a domain, if that is still kept.

        Raises:
            StateUnavailable: it cannot be told.
        """
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT answer, evidence FROM sender_domains WHERE domain = ? AND expires_at > ?",
                (domain, self._clock()),
            ).fetchone()
            return Finding(Answer(row[0]), row[1]) if row else None

    def recipients_in_last_day(self, ingress: Ingress, account: str) -> int:
        """Return how many recipients are counted for an account in the last 24 hours, reservations included.

        Raises:
            StateUnavailable: it cannot be told.
        """
        with self._transaction() as connection:
            self._lapse(connection)
            return self._counters.used(_key(account_key(ingress, account)), _DAY)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _count(self, charge: Charge) -> tuple[int, Finding]:
        key, limit = _key(charge.key), charge.recipients_per_day
        item: RateLimitItem = _PerDay(max(1, limit))
        used = self._counters.used(key, _DAY)
        within = limit == 0 or self._limiter.test(item, charge.key, cost=charge.recipients)
        # Counted whether it is within the limit or not: what went by high-risk was sent all the same.
        bucket = self._counters.add(key, _DAY, charge.recipients)
        if within:
            return bucket, Finding(Answer.NO)
        return bucket, Finding(
            Answer.YES,
            f"{charge.account}: {used} recipients in 24 hours and {charge.recipients} more, the limit is {limit}",
        )

    def _give_back(self, connection: sqlite3.Connection, queue_id: str) -> None:
        account, recipients, bucket = connection.execute(
            "DELETE FROM reservations WHERE queue_id = ? RETURNING account, recipients, bucket", (queue_id,)
        ).fetchone()
        self._counters.give_back(_key(account), bucket, recipients)

    def _lapse(self, connection: sqlite3.Connection) -> None:
        lapsed = connection.execute(
            "SELECT queue_id FROM reservations WHERE expires_at < ?", (self._clock(),)
        ).fetchall()
        for (queue_id,) in lapsed:
            self._give_back(connection, queue_id)
        self._prune(connection)

    def _prune(self, connection: sqlite3.Connection) -> None:
        now = self._clock()
        if abs(now - self._pruned_at) < _PRUNE_EVERY_SECONDS:
            return
        self._pruned_at = now
        self._counters.prune()
        for table in ("charges", "ticket_uses", "sender_domains"):
            connection.execute(f"DELETE FROM {table} WHERE expires_at < ?", (now,))  # noqa: S608  (our own names)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        if not self._lock.acquire(timeout=_BUSY_SECONDS):
            raise StateUnavailable(f"{self._path}: busy")
        try:
            if self._connection is not None and self._depth:
                yield self._connection
            else:
                with self._outermost_transaction() as connection:
                    yield connection
        finally:
            self._lock.release()

    @contextmanager
    def _outermost_transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._current_connection()
            connection.execute("BEGIN IMMEDIATE")
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise StateUnavailable(f"{self._path}: {error}") from error
        self._depth = 1
        try:
            yield connection
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            # A connection that failed is given up: the file may have been replaced or repaired by the next call.
            self.close()
            raise StateUnavailable(f"{self._path}: {error}") from error
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        finally:
            self._depth = 0

    def _current_connection(self) -> sqlite3.Connection:
        """Return the connection to the file that is at the path now: in one that was replaced we would count alone."""
        if self._connection is not None and self._file_id != _file_id(self._path):
            self.close()
        if self._connection is None:
            Path(self._path).parent.mkdir(parents=True, exist_ok=True)
            self._connection = _open(self._path)
            self._file_id = _file_id(self._path)
        return self._connection


def _open(path: str) -> sqlite3.Connection:
    """Open the file and make sure of its tables.

    Changing the journal mode of a new file does not wait for others that make it too, so that is tried again.
    """
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            _prepare(connection)
        except sqlite3.OperationalError as error:
            connection.close()
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            select.select([], [], [], _TRY_AGAIN_SECONDS)
        except BaseException:
            connection.close()
            raise
        else:
            return connection


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > _SCHEMA_VERSION:
        raise sqlite3.DatabaseError(f"written by a newer version (schema {version}, ours is {_SCHEMA_VERSION})")
    if version < _SCHEMA_VERSION:
        connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT;")


def _file_id(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116  (asked at each transaction)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _key(account: str) -> str:
    return _PerDay(1).key_for(account)
