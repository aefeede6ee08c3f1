"""The shared state in one SQLite file (WAL), for one Postfix host. The contract is in `state`.

Every method is one transaction, so that two processes never both take the last recipient of a limit. The decision log,
the drop ledger, the events of surges and the answers of scanners are parts in modules of their own.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Sequence

from deliverypools.adapters import sqlite_file, sqlite_schema
from deliverypools.adapters.sqlite_counters import PreparedTally, SQLiteCounters
from deliverypools.adapters.sqlite_decisions import SQLiteDecisionLog
from deliverypools.adapters.sqlite_ledger import SQLiteDropLedger
from deliverypools.adapters.sqlite_ndrs import SQLiteNdrEvents
from deliverypools.adapters.sqlite_queued import SQLiteQueued
from deliverypools.adapters.sqlite_scans import SQLiteScans
from deliverypools.adapters.state import (
    ENDING_SECONDS,
    ONCE_SECONDS,
    RELEASED_SECONDS,
    RESERVATION_SECONDS,
    Notice,
    Reservation,
)
from deliverypools.core.accounts import Account
from deliverypools.core.facts import Answer, Finding, Ingress
from deliverypools.core.restrictions import Restriction, utc_day
from deliverypools.core.tallies import Tally, Used, Window

_MOST_NAMES = 500
"""In one statement."""


def examine(path: str) -> None:
    """See whether a file can be used, without changing it.

    Raises:
        StateUnavailable: it cannot.
    """
    sqlite_file.examine(path, sqlite_schema.VERSION)


class SQLiteState(SQLiteDecisionLog, SQLiteDropLedger, SQLiteNdrEvents, SQLiteScans, SQLiteQueued):
    """The shared state. Threads of one process share one connection; a forked child makes its own SQLiteState."""

    def __init__(self, path: str, clock: Callable[[], float]) -> None:
        super().__init__(path, clock)
        self._counters = SQLiteCounters(self._file.transaction, clock)

    # ---- counting

    def reserve(self, reservations: Sequence[Reservation]) -> list[Used]:
        """Count messages that are about to be accepted; see `State.reserve`."""
        now = self._clock()
        with self._file.transaction() as connection:
            self._lapse(connection, writes=len(reservations))
            return [self._reserve(connection, one, now) for one in reservations]

    def _reserve(self, connection: sqlite3.Connection, reservation: Reservation, now: float) -> Used:
        queue_id, instance = reservation.queue_id, reservation.instance
        prepared = PreparedTally(reservation.tally)
        used = prepared.used(connection, now)
        row = (
            *(queue_id, instance or "", prepared.digest, _text_of(used), prepared.entries),
            now + RESERVATION_SECONDS,
        )
        is_new = connection.execute(
            "INSERT INTO reservations VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", row
        ).rowcount
        if not is_new:
            before = connection.execute(
                "SELECT instance, tally, used FROM reservations WHERE queue_id = ?", (queue_id,)
            ).fetchone()
            if before[1] == prepared.digest and instance in (None, before[0]):
                return _used(before[2])
            self._give_back(connection, queue_id)
            return self._reserve(connection, reservation, now)
        prepared.count(connection, now)
        return used

    def commit(self, queue_id: str, tally: Tally) -> Used:
        """Make a reservation final; see `State.commit`."""
        with self._file.transaction() as connection:
            self._lapse(connection)
            reserved = connection.execute(
                "DELETE FROM reservations WHERE queue_id = ? AND tally = ? RETURNING used",
                (queue_id, PreparedTally(tally).digest),
            ).fetchall()
            if reserved:
                return _used(reserved[0][0])
            self._give_back(connection, queue_id)
            return self._counters.tally(tally)

    def cancel(self, queue_id: str) -> None:
        """Give a reservation back at once."""
        with self._file.transaction() as connection:
            self._give_back(connection, queue_id)

    def count(self, tally: Tally) -> Used:
        """Count; return what the windows held before."""
        with self._file.transaction() as connection:
            self._lapse(connection)
            return self._counters.tally(tally)

    def count_once(self, name: str, tally: Tally) -> Used:
        """Count, once for a name; see `State.count_once`."""
        with self._file.transaction() as connection:
            self._lapse(connection)
            digest = PreparedTally(tally).digest
            row = connection.execute(
                "SELECT tally, used FROM once WHERE name = ? AND expires_at > ?", (name, self._clock())
            ).fetchone()
            if row:
                return _used(row[1]) if row[0] == digest else self._used_by_others(tally)
            used = self._counters.tally(tally)
            self._note_once(connection, name, ONCE_SECONDS, digest, _text_of(used))
            return used

    def _used_by_others(self, tally: Tally) -> Used:
        """Return what the windows hold now, without a tally that was counted already."""
        own = [
            sum(entry.amount for entry in tally.entries if entry.stream in window.streams) for window in tally.windows
        ]
        held = self._counters.used(tally.windows)
        return tuple(max(0, amount - less) for amount, less in zip(held, own, strict=True))

    def used(self, windows: Sequence[Window]) -> Used:
        """Return what windows hold now, reservations included."""
        with self._file.transaction() as connection:
            self._lapse(connection)
            return self._counters.used(windows)

    def see(self, name: str, members: Collection[str], keep_seconds: float, *, renew: bool) -> int:
        """Note that things were seen; see `State.see`."""
        now = self._clock()
        new = 0
        with self._file.transaction() as connection:
            self._prune(connection, writes=len(members))
            for member in set(members):
                row = connection.execute(
                    "SELECT 1 FROM seen WHERE name = ? AND member = ? AND expires_at > ?", (name, member, now)
                ).fetchone()
                new += row is None
                if row is None or renew:
                    connection.execute(
                        "INSERT OR REPLACE INTO seen VALUES (?, ?, ?)", (name, member, now + keep_seconds)
                    )
        return new

    def first_time(self, name: str, keep_seconds: float) -> bool:
        """Tell whether a name was not asked about lately."""
        with self._file.transaction() as connection:
            self._prune(connection)
            return self._first_time(connection, name, keep_seconds)

    def _first_time(self, connection: sqlite3.Connection, name: str, keep_seconds: float) -> bool:
        row = connection.execute(
            "SELECT 1 FROM once WHERE name = ? AND expires_at > ?", (name, self._clock())
        ).fetchone()
        if row is None:
            self._note_once(connection, name, keep_seconds)
        return row is None

    def _note_once(
        self, connection: sqlite3.Connection, name: str, keep_seconds: float, digest: bytes = b"", used: str = ""
    ) -> None:
        row = (name, digest, used, self._clock() + keep_seconds)
        connection.execute("INSERT OR REPLACE INTO once VALUES (?, ?, ?, ?)", row)

    def _give_back(self, connection: sqlite3.Connection, queue_id: str) -> None:
        self._return_counts(
            connection.execute("DELETE FROM reservations WHERE queue_id = ? RETURNING entries, expires_at", (queue_id,))
        )

    def _lapse(self, connection: sqlite3.Connection, *, writes: int = 1) -> None:
        self._return_counts(
            connection.execute(
                "DELETE FROM reservations WHERE expires_at < ? RETURNING entries, expires_at", (self._clock(),)
            )
        )
        self._prune(connection, writes=writes)

    def _return_counts(self, reservations: sqlite3.Cursor) -> None:
        counted = [(entries, expires_at - RESERVATION_SECONDS) for entries, expires_at in reservations.fetchall()]
        if counted:
            self._counters.give_back(counted)

    # ---- tickets, sender domains

    def use_ticket(self, ticket_id: str, queue_id: str, most_uses: int, lifetime_seconds: float) -> bool:
        """Note that a queue file carries this ticket; tell whether that is within the uses it may have."""
        with self._file.transaction() as connection:
            self._prune(connection)
            uses, is_one_of_them = connection.execute(
                "SELECT COUNT(*), COALESCE(MAX(queue_id = ?), 0) FROM ticket_uses WHERE ticket_id = ?",
                (queue_id, ticket_id),
            ).fetchone()
            if is_one_of_them:
                return True
            # What is refused leaves no trace: asked again, it would be taken for a use.
            if uses >= most_uses:
                return False
            connection.execute(
                "INSERT INTO ticket_uses VALUES (?, ?, ?)", (ticket_id, queue_id, self._clock() + lifetime_seconds)
            )
            return True

    def remember_sender_domain(self, domain: str, finding: Finding, keep_seconds: float) -> None:
        """Keep what DNS said about a domain."""
        with self._file.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO sender_domains VALUES (?, ?, ?, ?)",
                (domain, finding.answer.value, finding.evidence, self._clock() + keep_seconds),
            )

    def last_known_sender_domain(self, domain: str) -> Finding | None:
        """Return what DNS last said about a domain, if that is still kept."""
        with self._file.reading() as connection:
            row = connection.execute(
                "SELECT answer, evidence FROM sender_domains WHERE domain = ? AND expires_at > ?",
                (domain, self._clock()),
            ).fetchone()
            return Finding(Answer(row[0]), row[1]) if row else None

    # ---- restricted accounts

    def restrictions_on(self, accounts: Sequence[Account]) -> list[Restriction | None]:
        """Return for each account the restriction that closes its way of sending now, or None."""
        with self._file.reading() as connection:
            found = _restrictions_of({account.name for account in accounts}, connection, self._clock())
        return [
            next((one for one in found.get(account.name, ()) if one.concerns(account.ingress)), None)
            for account in accounts
        ]

    def restrictions(self) -> list[Restriction]:
        """Return all restrictions in effect, oldest first."""
        with self._file.reading() as connection:
            rows = connection.execute(
                "SELECT * FROM restrictions WHERE until IS NULL OR until > ? ORDER BY since, account", (self._clock(),)
            ).fetchall()
            return [_restriction(row) for row in rows]

    def restrict(self, restriction: Restriction, *, by_hand: bool = False) -> Restriction | None:
        """Restrict an account; see `State.restrict`."""
        account, ingress = restriction.account, restriction.ingress or ""
        with self._file.transaction() as connection:
            connection.execute("DELETE FROM restrictions WHERE until <= ?", (self._clock(),))
            released = connection.execute(
                "SELECT 1 FROM releases WHERE account = ? AND day = ?", (account, utc_day(restriction.since))
            ).fetchone()
            if released and not by_hand:
                return None
            row = connection.execute(
                "SELECT * FROM restrictions WHERE account = ? AND ingress = ?", (account, ingress)
            ).fetchone()
            standing = _restriction(row) if row else None
            if standing and (standing.until is None or restriction.until is not None):
                return standing
            connection.execute(
                "INSERT OR REPLACE INTO restrictions VALUES (?, ?, ?, ?, ?)",
                (account, ingress, restriction.since, restriction.until, restriction.reason),
            )
            self._note_ending(connection, account, ingress, restriction.until)
            return restriction

    def release(self, account: str) -> list[Restriction]:
        """End all restrictions of an account; see `State.release`."""
        now = self._clock()
        with self._file.transaction() as connection:
            rows = connection.execute("DELETE FROM restrictions WHERE account = ? RETURNING *", (account,)).fetchall()
            connection.execute(
                "INSERT OR IGNORE INTO releases VALUES (?, ?, ?)", (account, utc_day(now), now + RELEASED_SECONDS)
            )
            connection.execute("DELETE FROM endings WHERE account = ? AND at > ?", (account, now))
            self._note_ending(connection, account, "", now)
            ended = [_restriction(row) for row in rows]
            return [restriction for restriction in ended if restriction.is_in_effect(now)]

    def _note_ending(self, connection: sqlite3.Connection, account: str, ingress: str, at: float | None) -> None:
        """Note when the restriction that is written now ends, in the place of one that has not ended yet."""
        connection.execute(
            "DELETE FROM endings WHERE account = ? AND ingress = ? AND at > ?", (account, ingress, self._clock())
        )
        if at is not None:
            connection.execute(
                "INSERT OR REPLACE INTO endings VALUES (?, ?, ?, ?)", (account, ingress, at, at + ENDING_SECONDS)
            )

    def last_ending(self, account: Account) -> float | None:
        """Return when the last restriction of an account ended; see `State.last_ending`."""
        now = self._clock()
        with self._file.reading() as connection:
            (at,) = connection.execute(
                "SELECT MAX(at) FROM endings WHERE account = ? AND ingress IN ('', ?) AND at <= ? AND expires_at > ?",
                (account.name, account.ingress, now, now),
            ).fetchone()
            return None if at is None else float(at)

    def was_released_today(self, account: str) -> bool:
        """Tell whether an administrator has released the account today (UTC)."""
        with self._file.reading() as connection:
            row = connection.execute(
                "SELECT 1 FROM releases WHERE account = ? AND day = ?", (account, utc_day(self._clock()))
            ).fetchone()
            return row is not None

    # ---- the outbox

    def post(self, once: str, keep_seconds: float, notices: Sequence[tuple[str, str]]) -> bool:
        """Put notices into the outbox, once; see `State.post`."""
        with self._file.transaction() as connection:
            self._prune(connection)
            if not self._first_time(connection, once, keep_seconds):
                return False
            connection.executemany(
                "INSERT INTO notices (channel, payload, attempts, due_at) VALUES (?, ?, 0, ?)",
                [(channel, payload, self._clock()) for channel, payload in notices],
            )
            return True

    def claim_notices(self, most: int, lease_seconds: float) -> list[Notice]:
        """Return notices that are due; see `State.claim_notices`."""
        now = self._clock()
        with self._file.reading() as connection:
            if not connection.execute("SELECT 1 FROM notices WHERE due_at <= ?", (now,)).fetchone():
                return []
        with self._file.transaction() as connection:
            rows = connection.execute(
                "SELECT notice_id, channel, payload, attempts FROM notices WHERE due_at <= ?"
                " ORDER BY due_at, notice_id LIMIT ?",
                (now, most),
            ).fetchall()
            connection.executemany(
                "UPDATE notices SET attempts = attempts + 1, due_at = ? WHERE notice_id = ?",
                [(now + lease_seconds, row[0]) for row in rows],
            )
            return [Notice(str(row[0]), *row[1:]) for row in rows]

    def settle_notice(self, notice_id: str) -> None:
        """Drop a notice."""
        with self._file.transaction() as connection:
            connection.execute("DELETE FROM notices WHERE notice_id = ?", (int(notice_id),))

    def postpone_notice(self, notice_id: str, due_at: float) -> None:
        """Make a notice due at a time."""
        with self._file.transaction() as connection:
            connection.execute("UPDATE notices SET due_at = ? WHERE notice_id = ?", (due_at, int(notice_id)))


def _text_of(used: Used) -> str:
    return " ".join(map(str, used))


def _used(text: str) -> Used:
    return tuple(map(int, text.split()))


def _restrictions_of(
    names: Collection[str], connection: sqlite3.Connection, now: float
) -> dict[str, list[Restriction]]:
    """Return the restrictions in effect on accounts; of each, the one that lasts longest comes first."""
    found: dict[str, list[Restriction]] = {}
    ordered = sorted(names)
    for start in range(0, len(ordered), _MOST_NAMES):
        some = ordered[start : start + _MOST_NAMES]
        rows = connection.execute(
            f"SELECT * FROM restrictions WHERE account IN ({','.join('?' * len(some))})"  # noqa: S608  (question marks)
            " AND (until IS NULL OR until > ?) ORDER BY until IS NOT NULL, until DESC",
            (*some, now),
        )
        for row in rows:
            found.setdefault(row[0], []).append(_restriction(row))
    return found


def _restriction(row: tuple[str, str, float, float | None, str]) -> Restriction:
    account, ingress, since, until, reason = row
    return Restriction(
        account=account, ingress=Ingress(ingress) if ingress else None, since=since, until=until, reason=reason
    )
