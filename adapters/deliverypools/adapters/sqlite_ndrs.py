"""The events that surges are made of, in a SQLite file; see `state`."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any, Final

from deliverypools.adapters.sqlite_base import SQLiteBase
from deliverypools.adapters.state import MOST_NDRS, NDR_SECONDS
from deliverypools.core.surges.events import Category, NdrEvent, Way

_FIELDS: Final = ", ".join(NdrEvent.__dataclass_fields__)
_WRITE: Final = (
    f"INSERT INTO ndrs ({_FIELDS}) VALUES ({', '.join('?' * len(NdrEvent.__dataclass_fields__))})"  # noqa: S608  (our own names)
    " ON CONFLICT (event_id) DO NOTHING"
)
_MOST_REMOVED: Final = 20
"""With one that is written: so the old ones go faster than new ones come."""


class SQLiteNdrEvents(SQLiteBase):
    """A part of the shared state."""

    def note_ndr(self, event: NdrEvent) -> None:
        """Note an event, once; see `State.note_ndr`."""
        with self._file.transaction() as connection:
            connection.execute(_WRITE, astuple(event))
            # Events are numbered as they are written, and go from the lower end: nothing has to be counted.
            connection.execute(
                "DELETE FROM ndrs WHERE number IN (SELECT number FROM ndrs"
                " WHERE number <= (SELECT MAX(number) FROM ndrs) - ? ORDER BY number LIMIT ?)",
                (MOST_NDRS, _MOST_REMOVED),
            )
            connection.execute(
                "DELETE FROM ndrs WHERE number IN (SELECT number FROM ndrs WHERE at <= ? ORDER BY at LIMIT ?)",
                (self._clock() - NDR_SECONDS, _MOST_REMOVED),
            )

    def ndrs(self, *, since: float, most: int) -> list[NdrEvent]:
        """Return the events of a time, newest first."""
        with self._file.reading() as connection:
            rows = connection.execute(
                f"SELECT {_FIELDS} FROM ndrs WHERE at >= ? AND at > ? ORDER BY at DESC, number DESC LIMIT ?",  # noqa: S608
                (since, self._clock() - NDR_SECONDS, most),
            ).fetchall()
        return [_event(row) for row in rows]


def _event(row: tuple[Any, ...]) -> NdrEvent:
    event = dict(zip(NdrEvent.__dataclass_fields__, row, strict=True))
    event["way"], event["category"] = Way(event["way"]), Category(event["category"])
    return NdrEvent(**event)
