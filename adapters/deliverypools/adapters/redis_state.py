"""The shared state on one Redis or Valkey server, for several Postfix hosts. The contract is in `state`.

The server needs `maxmemory-policy noeviction` and persistence (`appendonly yes`). With another policy a full server
drops counters and restrictions without a word. Without persistence a restart of the server loses everything: counters
begin at zero, restricted accounts may send again, the decision log and alerts not yet sent are gone. Redis Cluster does
not do: a step touches many keys. All keys begin with `delivery-pools:`; whatever can be old expires.

Everything that reads and writes is one Lua script (redis_*.lua), so one step. Time is the clock of whoever calls:
the clocks of all hosts must agree to a few seconds. Whatever goes wrong raises `StateUnavailable`, after a second for a
server that does not answer, two if it has to be connected to; finding its address by DNS comes on top. Nothing is sent
twice: where only the answer was lost, the step was done, and the caller's next try of `commit` or `count` counts again.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any

from deliverypools.adapters.redis_base import row_of, text_of_row, ttl
from deliverypools.adapters.redis_counters import PREFIX, RedisCounters, bytes_of, text_of
from deliverypools.adapters.redis_decisions import RedisDecisionLog
from deliverypools.adapters.redis_ledger import RedisDropLedger
from deliverypools.adapters.redis_ndrs import RedisNdrEvents
from deliverypools.adapters.redis_queued import RedisQueued
from deliverypools.adapters.redis_scans import RedisScans
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
from deliverypools.core.tallies import DAY, Tally, Used, Window

_NOTICE_SECONDS = 30 * DAY
"""Notices that nobody sends are dropped then."""


class RedisState(RedisDecisionLog, RedisDropLedger, RedisNdrEvents, RedisScans, RedisQueued):
    """The shared state. Threads of one process share it; a forked child makes its own."""

    # ---- counting

    def reserve(self, reservations: Sequence[Reservation]) -> list[Used]:
        """Count messages that are about to be accepted; see `State.reserve`."""
        with self._server() as server:
            messages = [
                {"queue_id": one.queue_id, "instance": one.instance, "tally": _tally(server, one.tally)}
                for one in reservations
            ]
            answers = server.call("reserve", messages=messages, **self._kept_for(RESERVATION_SECONDS))
            return [tuple(used) for used in answers]

    def commit(self, queue_id: str, tally: Tally) -> Used:
        """Make a reservation final; see `State.commit`."""
        with self._server() as server:
            return tuple(server.call("commit", queue_id=queue_id, tally=_tally(server, tally), now=self._now()))

    def cancel(self, queue_id: str) -> None:
        """Give a reservation back at once."""
        with self._server() as server:
            server.call("cancel", queue_id=queue_id)

    def count(self, tally: Tally) -> Used:
        """Count; return what the windows held before."""
        with self._server() as server:
            return tuple(server.call("count", tally=_tally(server, tally), now=self._now()))

    def count_once(self, name: str, tally: Tally) -> Used:
        """Count, once for a name; see `State.count_once`."""
        with self._server() as server:
            counted = _tally(server, tally)
            return tuple(server.call("count_once", name=name, tally=counted, **self._kept_for(ONCE_SECONDS)))

    def used(self, windows: Sequence[Window]) -> Used:
        """Return what windows hold now, reservations included."""
        with self._server() as server:
            return tuple(server.call("used", windows=[server.window(one) for one in windows], now=self._now()))

    def see(self, name: str, members: Collection[str], keep_seconds: float, *, renew: bool) -> int:
        """Note that things were seen; see `State.see`."""
        kept = self._kept_for(keep_seconds)
        with self._server() as server:
            return int(server.call("see", name=name, members=sorted(set(members)), renew=renew, **kept))

    def first_time(self, name: str, keep_seconds: float) -> bool:
        """Tell whether a name was not asked about lately."""
        with self._server() as server:
            return bool(server.call("first_time", name=name, **self._kept_for(keep_seconds)))

    # ---- tickets, sender domains

    def use_ticket(self, ticket_id: str, queue_id: str, most_uses: int, lifetime_seconds: float) -> bool:
        """Note that a queue file carries this ticket; tell whether that is within the uses it may have."""
        kept = self._kept_for(lifetime_seconds)
        with self._server() as server:
            return bool(server.call("use_ticket", ticket_id=ticket_id, queue_id=queue_id, most_uses=most_uses, **kept))

    def remember_sender_domain(self, domain: str, finding: Finding, keep_seconds: float) -> None:
        """Keep what DNS said about a domain."""
        row = {"answer": finding.answer, "evidence": finding.evidence, "expires_at": self._clock() + keep_seconds}
        with self._server() as server:
            server.storage.set(_sender_domain_key(domain), bytes_of(text_of_row(row)), ex=ttl(keep_seconds))

    def last_known_sender_domain(self, domain: str) -> Finding | None:
        """Return what DNS last said about a domain, if that is still kept."""
        with self._server() as server:
            stored = server.storage.get(_sender_domain_key(domain))
            finding, expires_at = _finding_and_end(stored) if stored else (None, 0.0)
            return finding if expires_at > self._clock() else None

    # ---- restricted accounts

    def restrictions_on(self, accounts: Sequence[Account]) -> list[Restriction | None]:
        """Return for each account the restriction that closes its way of sending now, or None."""
        if not accounts:
            return []
        fields = [bytes_of(_field(one.name, ingress)) for one in accounts for ingress in (None, one.ingress)]
        with self._server() as server:
            rows = server.storage.hmget(f"{PREFIX}:restrictions", fields)
            return [self._strongest(pair) for pair in zip(rows[::2], rows[1::2], strict=True)]

    def _strongest(self, rows: Sequence[bytes | None]) -> Restriction | None:
        return max(self._in_effect(rows), key=lambda one: math.inf if one.until is None else one.until, default=None)

    def _in_effect(self, rows: Sequence[bytes | None]) -> list[Restriction]:
        now = self._clock()
        return [one for one in (_restriction(row) for row in rows if row) if one.is_in_effect(now)]

    def restrictions(self) -> list[Restriction]:
        """Return all restrictions in effect, oldest first."""
        with self._server() as server:
            rows = server.storage.hvals(f"{PREFIX}:restrictions")
            return sorted(self._in_effect(rows), key=lambda one: (one.since, one.account))

    def restrict(self, restriction: Restriction, *, by_hand: bool = False) -> Restriction | None:
        """Restrict an account; see `State.restrict`."""
        with self._server() as server:
            row = server.call(
                "restrict",
                field=_field(restriction.account, restriction.ingress),
                row=text_of_row(asdict(restriction)),
                ends_at=None if restriction.until is None else repr(restriction.until),
                day_and_account=_day_and_account(restriction.since, restriction.account),
                by_hand=by_hand,
                **self._endings(restriction.until),
            )
            return _restriction(row) if row else None

    def release(self, account: str) -> list[Restriction]:
        """End all restrictions of an account; see `State.release`."""
        with self._server() as server:
            rows = server.call(
                "release",
                fields=[_field(account, ingress) for ingress in (None, *Ingress)],
                day_and_account=_day_and_account(self._clock(), account),
                released_ttl=ttl(RELEASED_SECONDS),
                **self._endings(),
            )
            return self._in_effect(rows)

    def _endings(self, at: float | None = None) -> dict[str, Any]:
        """Return the times that the Lua program needs to note an ending at a time, and to forget old ones."""
        now = self._clock()
        ahead = 0.0 if at is None else max(0.0, at - now)
        return {
            "now": self._now(),
            "forgotten": repr(now - ENDING_SECONDS),
            "endings_ttl": ttl(ahead + ENDING_SECONDS),
        }

    def last_ending(self, account: Account) -> float | None:
        """Return when the last restriction of an account ended; see `State.last_ending`."""
        fields = [_field(account.name, ingress) for ingress in (None, account.ingress)]
        with self._server() as server:
            return max(map(float, server.call("last_endings", fields=fields, **self._endings())), default=None)

    def was_released_today(self, account: str) -> bool:
        """Tell whether an administrator has released the account today (UTC)."""
        key = f"{PREFIX}:released:{_day_and_account(self._clock(), account)}"
        with self._server() as server:
            return bool(server.storage.exists(bytes_of(key)))

    # ---- the outbox

    def post(self, once: str, keep_seconds: float, notices: Sequence[tuple[str, str]]) -> bool:
        """Put notices into the outbox, once; see `State.post`."""
        kept = self._kept_for(keep_seconds)
        with self._server() as server:
            return bool(server.call("post", name=once, notices=list(notices), notice_ttl=_NOTICE_SECONDS, **kept))

    def claim_notices(self, most: int, lease_seconds: float) -> list[Notice]:
        """Return notices that are due; see `State.claim_notices`."""
        leased_until = repr(self._clock() + lease_seconds)
        with self._server() as server:
            rows = server.call("claim", most=most, now=self._now(), leased_until=leased_until)
            return [
                Notice(text_of(notice_id), text_of(channel), text_of(payload), attempts)
                for notice_id, channel, payload, attempts in rows
            ]

    def settle_notice(self, notice_id: str) -> None:
        """Drop a notice."""
        with self._server() as server:
            server.call("settle", id=notice_id)

    def postpone_notice(self, notice_id: str, due_at: float) -> None:
        """Make a notice due at a time."""
        with self._server() as server:
            server.call("postpone", id=notice_id, due_at=repr(due_at))


def _tally(server: RedisCounters, tally: Tally) -> dict[str, object]:
    """Return a tally as the Lua program takes it; its name differs where tallies differ."""
    return {
        "name": hashlib.blake2b(repr(tally).encode(), digest_size=16).hexdigest(),
        "entries": [server.entry(one) for one in tally.entries],
        "windows": [server.window(one) for one in tally.windows],
    }


def _sender_domain_key(domain: str) -> bytes:
    return bytes_of(f"{PREFIX}:sender-domain:{domain}")


def _finding_and_end(stored: bytes) -> tuple[Finding, float]:
    row = row_of(stored)
    try:
        return Finding(Answer(row["answer"]), str(row["evidence"])), float(row["expires_at"])
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"what DNS said is damaged: {error}") from error


def _field(account: str, ingress: Ingress | None) -> str:
    return f"{ingress or ''}:{account}"


def _day_and_account(moment: float, account: str) -> str:
    return f"{utc_day(moment)}:{account}"


def _restriction(stored: bytes) -> Restriction:
    row = row_of(stored)
    try:
        return Restriction(**row | {"ingress": Ingress(row["ingress"]) if row["ingress"] else None})
    except (KeyError, TypeError) as error:
        raise ValueError(f"a restriction is damaged: {error}") from error
