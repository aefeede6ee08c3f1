"""Makes the daily digest of the drop ledger, once a day is over (UTC)."""

from __future__ import annotations

from typing import Final

from deliverypools.adapters.state import State
from deliverypools.adapters.telling import tell
from deliverypools.core.dropped_digest import MOST_COUNTED, digest_of
from deliverypools.core.settings import Settings
from deliverypools.core.tallies import DAY

_TOLD_SECONDS: Final = 30.0 * DAY
"""So long it is known that a day was told: a clock that goes wrong and back tells nothing twice."""
_LATE_SECONDS: Final = 300.0
"""The clocks of several hosts may differ by so much: what they write of a day is there then."""


class DigestWatch:
    """Tells of yesterday, whenever it looks: after hours without the daemon, too, but not of the days before."""

    every_seconds = 60.0

    def __init__(self) -> None:
        self._told_day: float | None = None

    def look(self, state: State, settings: Settings, now: float) -> None:
        """Tell what was dropped on the day before, if anything was; see `Watch.look`."""
        day = (now - _LATE_SECONDS) // DAY * DAY - DAY
        if day == self._told_day:
            return
        until = day + DAY
        total = state.count_dropped(since=day, until=until)
        if total:
            notices = state.dropped(since=day, until=until, most=MOST_COUNTED)
            tell(digest_of(notices, total=total, day=day, now=now), settings, state, once_seconds=_TOLD_SECONDS)
        self._told_day = day
