"""The drop ledger on a Redis server; see `state`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from math import inf
from typing import Final

from deliverypools.adapters.redis_base import RedisBase, row_of, text_of_row
from deliverypools.adapters.redis_counters import RedisCounters
from deliverypools.core.records import DroppedNotice

_ROWS_AT_ONCE: Final = 500

_log = logging.getLogger(__name__)


class RedisDropLedger(RedisBase):
    """A part of the shared state."""

    def drop(self, notice: DroppedNotice, keep_seconds: float, most: int) -> None:
        """Write an entry of the drop ledger; see `State.drop`."""
        with self._server() as server:
            server.call(
                "drop",
                id=f"{notice.queue_id}/{notice.host}",
                row=text_of_row(asdict(notice)),
                at=repr(notice.at),
                most=most,
                **self._kept_for(keep_seconds),
            )

    def dropped(self, *, since: float = 0.0, until: float = inf, most: int = 1000) -> list[DroppedNotice]:
        """Return entries of the drop ledger of a time, newest first."""
        found: dict[tuple[str, str], DroppedNotice] = {}
        first = 0
        with self._server() as server:
            self._forget(server)
            # Many steps: what is written meanwhile moves the others on, so some come twice.
            while len(found) < most:
                rows = server.call("dropped", first=first, most=_ROWS_AT_ONCE, **_bounds(since, until))
                found |= {(one.host, one.queue_id): one for one in _notices(rows)}
                first += len(rows)
                if len(rows) < _ROWS_AT_ONCE:
                    break
        return list(found.values())[:most]

    def count_dropped(self, *, since: float = 0.0, until: float = inf) -> int:
        """Return how many entries of the drop ledger there are of a time."""
        with self._server() as server:
            self._forget(server)
            return int(server.call("count_dropped", **_bounds(since, until)))

    def _forget(self, server: RedisCounters) -> None:
        """Forget what has expired, so that what is left counts; some at a time, so that nobody waits for it."""
        while server.call("forget_dropped", now=self._now()):
            pass


def _bounds(since: float, until: float) -> dict[str, str]:
    return {"since": repr(since), "before": f"({until!r}"}


def _notices(rows: Iterable[bytes | None]) -> Iterator[DroppedNotice]:
    """Yield entries; one that a host with another version wrote, or that is damaged, hides none of the others."""
    for stored in filter(None, rows):
        try:
            yield DroppedNotice(**row_of(stored))
        except (TypeError, ValueError) as error:
            _log.error("an entry of the drop ledger cannot be read: %s", error)
