"""The decision log on a Redis server; see `state`."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import asdict
from itertools import islice

from deliverypools.adapters import log_times
from deliverypools.adapters.redis_base import RedisBase, row_of, text_of_row, ttl
from deliverypools.adapters.redis_counters import PREFIX, RedisCounters, bytes_of, text_of
from deliverypools.adapters.state import MOST_CLUES, MOST_HOSTS, MOST_OF_A_MESSAGE
from deliverypools.core.facts import printable
from deliverypools.core.records import DecisionRecord, newest_first

_ROWS_AT_ONCE = 1000


class RedisDecisionLog(RedisBase):
    """A part of the shared state."""

    def record(self, record: DecisionRecord, keep_seconds: float) -> None:
        """Write a row of the decision log."""
        with self._server() as server:
            server.call(
                "record",
                id=_decision_id(record.host, record.queue_id),
                account=record.account,
                row=text_of_row(asdict(record)),
                at=repr(record.at),
                expired_at=repr(self._clock() - keep_seconds),
                host=record.host,
                named=_list_of(record.message_id, went_on=record.went_on) if record.message_id else None,
                most_named=MOST_OF_A_MESSAGE,
                **_times(record.at, keep_seconds),
                **self._kept_for(keep_seconds),
            )

    def record_of(self, host: str, queue_id: str) -> DecisionRecord | None:
        """Return what is on record about a queue file."""
        with self._server() as server:
            row = server.call("record_of", id=_decision_id(host, queue_id), now=self._now())
            return _record(row) if row else None

    def records_of(self, account: str, *, since: float = 0.0, most: int = 1_000_000) -> list[DecisionRecord]:
        """Return what is on record about an account's mail, newest first."""
        found: dict[tuple[str, str], DecisionRecord] = {}
        with self._server() as server:
            # Many steps: what is written meanwhile moves the others on, so some come twice.
            for rows in self._pages_of(server, account, min(most, _ROWS_AT_ONCE)):
                records = [_record(row) for row in rows if row]
                found |= {(one.host, one.queue_id): one for one in records if one.at >= since}
                if len(found) >= most or any(one.at < since for one in records):
                    break
        return list(found.values())[:most]

    def _pages_of(self, server: RedisCounters, account: str, rows_at_once: int) -> Iterator[list[bytes | None]]:
        first, rows = 0, [None]
        while rows and rows_at_once > 0:
            last = first + rows_at_once - 1
            rows = server.call("records_of", account=account, first=first, last=last, now=self._now())
            yield rows
            first = last + 1

    def sent(self, message_ids: Collection[str], queue_files: Collection[tuple[str, str]]) -> list[DecisionRecord]:
        """Return rows about messages that have one of these names; see `State.sent`."""
        names = {printable(one) for one in islice(message_ids, MOST_CLUES)} - {""}
        lists = [_list_of(one, went_on=True) for one in names]
        ids = {_decision_id(printable(host), printable(queue_id)) for host, queue_id in islice(queue_files, MOST_CLUES)}
        if not names and not ids:
            return []
        with self._server() as server:
            by_name, by_id = server.call("named", names=lists, ids=[*ids], now=self._now())
            # Whoever has taken the place of a row since may be about another message.
            found = [one for one in map(_record, by_name) if one.message_id in names]
            found += map(_record, by_id)
            return newest_first(one for one in found if one.went_on)

    def records_about(self, name: str) -> list[DecisionRecord]:
        """Return rows about queue files, or messages, of that name; see `State.records_about`."""
        wanted = printable(name)
        if not wanted:
            return []
        lists = [_list_of(wanted, went_on=went_on) for went_on in (True, False)]
        with self._server() as server:
            hosts = map(text_of, server.call("hosts", now=self._now(), most=MOST_HOSTS))
            ids = [_decision_id(host, wanted) for host in hosts]
            by_name, by_id = server.call("named", names=lists, ids=ids, now=self._now())
            found = [one for one in map(_record, by_name) if one.message_id == wanted]
            return newest_first([*found, *(one for one in map(_record, by_id) if one.queue_id == wanted)])

    def recorded_since(self) -> float | None:
        """Return since when the decision log tells of every message; see `State.recorded_since`."""
        with self._server() as server:
            times = server.storage.hgetall(f"{PREFIX}:log-times")
            return log_times.complete_since(((float(kept), float(at)) for kept, at in times.items()), self._clock())

    def decisions(self, *, since: float = 0.0) -> Iterator[DecisionRecord]:
        """Yield what is on record; see `State.decisions`. A row may come twice where the server rearranges its keys."""
        cursor: int | None = None
        while cursor != 0:
            with self._server() as server:
                found = server.storage.scan(cursor or 0, match=f"{PREFIX}:decision:*", count=_ROWS_AT_ONCE)
                cursor, keys = int(found[0]), found[1]
                pipeline = server.storage.pipeline(transaction=False)
                for key in keys:
                    pipeline.hmget(key, "row", "expires_at")
                rows = [_record(row) for row, end in pipeline.execute() if row and float(end) > self._clock()]
            yield from (record for record in rows if record.at >= since)

    def note_waiting(self, record: DecisionRecord, names: Collection[str], keep_seconds: float) -> None:
        """Note what was last found about a message that waits; see `State.note_waiting`."""
        stored = bytes_of(text_of_row({"row": asdict(record), "expires_at": self._clock() + keep_seconds}))
        with self._server() as server:
            for name in filter(None, names):
                server.storage.set(_waiting_key(name), stored, ex=ttl(keep_seconds))

    def waiting(self, name: str) -> DecisionRecord | None:
        """Return what was last found about a message that waits; see `State.waiting`."""
        with self._server() as server:
            stored = server.storage.get(_waiting_key(name))
            found = row_of(stored) if stored else {}
            if not float(found.get("expires_at", 0.0)) > self._clock():
                return None
            return _record(bytes_of(text_of_row(found.get("row", {}))))


def _waiting_key(name: str) -> str:
    return f"{PREFIX}:waiting:{_digest(printable(name))}"


def _times(at: float, keep_seconds: float) -> dict[str, object]:
    """Return what the Lua program needs to do what `log_times.noted` does."""
    return {
        "kept": repr(float(keep_seconds)),
        "noted_until": repr(at + log_times.EXACT_TO_SECONDS),
        "beginning": repr(log_times.BEGINNING),
        "most_times": log_times.MOST,
    }


def _decision_id(host: str, queue_id: str) -> str:
    return f"{queue_id}/{host}"


def _list_of(message_id: str, *, went_on: bool) -> str:
    """Return the key, behind the prefix, of the rows of a Message-ID: short, whatever somebody wrote."""
    return f"{'sent' if went_on else 'not-sent'}:{_digest(message_id)}"


def _digest(name: str) -> str:
    return hashlib.blake2b(bytes_of(name), digest_size=16).hexdigest()


def _record(stored: bytes) -> DecisionRecord:
    try:
        row = row_of(stored)
        # A newer version on another host may have written more.
        return DecisionRecord(**{name: row[name] for name in DecisionRecord.__dataclass_fields__ if name in row})
    except TypeError as error:
        raise ValueError(f"a decision is damaged: {error}") from error
