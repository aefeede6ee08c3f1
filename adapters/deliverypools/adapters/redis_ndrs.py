"""The events that surges are made of, on a Redis server; see `state`.

A hundred thousand take some 40 MB there. A row is a list of values, without their names.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import astuple
from typing import Final

from deliverypools.adapters.redis_base import RedisBase, json_of, ttl
from deliverypools.adapters.state import MOST_NDRS, NDR_SECONDS
from deliverypools.core.surges.events import Category, NdrEvent, Way

_ROWS_AT_ONCE: Final = 2000
"""Some milliseconds of the server, in which nobody else is answered."""

_log = logging.getLogger(__name__)


class RedisNdrEvents(RedisBase):
    """A part of the shared state."""

    def note_ndr(self, event: NdrEvent) -> None:
        """Note an event, once; see `State.note_ndr`."""
        with self._server() as server:
            server.call(
                "note_ndr",
                id=event.event_id,
                at=repr(event.at),
                row=json.dumps(astuple(event), ensure_ascii=False),
                expired_at=repr(self._clock() - NDR_SECONDS),
                most=MOST_NDRS,
                ttl=ttl(NDR_SECONDS),
            )

    def ndrs(self, *, since: float, most: int) -> list[NdrEvent]:
        """Return the events of a time, newest first."""
        found: dict[str, NdrEvent] = {}
        first = 0
        oldest = self._clock() - NDR_SECONDS
        lower = repr(since) if since > oldest else f"({oldest!r}"
        with self._server() as server:
            # Many steps: what is written meanwhile moves the others on, so some come twice.
            while len(found) < most:
                rows = server.call("ndrs", since=lower, first=first, most=min(most, _ROWS_AT_ONCE))
                found |= {event.event_id: event for event in _events(rows)}
                first += len(rows)
                if not rows:
                    break
        return list(found.values())[:most]


def _events(rows: Iterable[bytes | None]) -> Iterator[NdrEvent]:
    """Yield events; one that a host with another version wrote, or that is damaged, hides none of the others."""
    for stored in filter(None, rows):
        try:
            yield _event(stored)
        except ValueError as error:
            _log.error("an event cannot be read: %s", error)


def _event(stored: bytes) -> NdrEvent:
    values = json_of(stored)
    try:
        # Another version may have fewer values at the end, or more: what is missing has its default.
        event = dict(zip(NdrEvent.__dataclass_fields__, values, strict=False))
        event["way"], event["category"] = Way(event["way"]), Category(event["category"])
        return NdrEvent(**event)
    except (KeyError, TypeError) as error:
        raise ValueError(f"an event is damaged: {error}") from error
