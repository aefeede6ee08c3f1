"""Looks for surges of bounces and refusals, and tells of each once: `core/surges`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from deliverypools.adapters.state import State
from deliverypools.adapters.telling import tell
from deliverypools.core.settings import Settings
from deliverypools.core.surges.alert import alert_of
from deliverypools.core.surges.baseline import usual_numbers
from deliverypools.core.surges.causes import Cause
from deliverypools.core.surges.find import MOST_EVENTS, Level, find_surges
from deliverypools.core.surges.surge import Surge
from deliverypools.core.tallies import DAY, HOUR, Entry, Tally, Window

MOST_ALERTS: Final = 20
"""In an hour, of all hosts with this state: whoever makes more surges than that floods no mailbox."""
_ALERTS: Final = "surges/alerts"
_ONCE_SECONDS: Final = 2.0 * DAY
_USUAL_SECONDS: Final = 600.0
_MOST_REMEMBERED: Final = 10_000

_log = logging.getLogger(__name__)


class SurgeWatch:
    """Tells of surges that have settled. What it remembers only saves questions: several hosts may watch one state."""

    every_seconds = 20.0

    def __init__(self) -> None:
        self._told: set[str] = set()
        """Names that are known to have been told."""
        self._usual: dict[str, float] = {}
        self._usual_since = float("-inf")
        self._is_full = False

    def look(self, state: State, settings: Settings, now: float) -> None:
        """Look at the events of the last hour; see `Watch.look`."""
        bounces = settings.bounces
        if not bounces.surge_minimum:
            return
        events = state.ndrs(since=now - HOUR, most=MOST_EVENTS)
        level = Level(bounces.surge_minimum, bounces.surge_factor, lambda streams: self._usual_of(streams, state, now))
        for surge in find_surges(events, now=now, level=level):
            if surge.is_due(now):
                self._tell(surge, state, settings, now, is_cut=len(events) >= MOST_EVENTS)

    def _usual_of(self, streams: Sequence[str], state: State, now: float) -> Mapping[str, float]:
        """Return what is usual, as it was up to ten minutes ago."""
        if not 0 <= now - self._usual_since < _USUAL_SECONDS or len(self._usual) > _MOST_REMEMBERED:
            self._usual.clear()
            self._usual_since = now
        if missing := [stream for stream in streams if stream not in self._usual]:
            self._usual.update(usual_numbers(missing, state.used))
        return {stream: self._usual[stream] for stream in streams}

    def _tell(self, surge: Surge, state: State, settings: Settings, now: float, *, is_cut: bool) -> None:
        """Tell of an incident, unless any part of it was told before: it has only spread since."""
        names = list(surge.names())
        if self._told.isdisjoint(names):
            if not self._may_tell(surge, state):
                return
            self._tell_now(surge, state, settings, now, is_cut=is_cut)
        self._note([*names, *surge.weaker_names()], state)

    def _tell_now(self, surge: Surge, state: State, settings: Settings, now: float, *, is_cut: bool) -> None:
        """Tell of an incident, if no other host has, and this one has not before it was started again."""
        alert = alert_of(surge, now=now, is_cut=is_cut)
        if surge.cause is Cause.OLD_LIST:
            if state.post(surge.once, _ONCE_SECONDS, []):
                _log.info("no alert: %s", alert.summary())
        elif tell(alert, settings, state, once_seconds=_ONCE_SECONDS):
            state.count(Tally((Entry(_ALERTS, 1, DAY),)))

    def _may_tell(self, surge: Surge, state: State) -> bool:
        """Tell whether there may be one more alert now."""
        if surge.cause is Cause.OLD_LIST:
            return True
        (told,) = state.used([Window((_ALERTS,), HOUR, DAY)])
        is_full = told >= MOST_ALERTS
        if is_full and not self._is_full:
            _log.error("%d alerts about surges in an hour: further ones wait", told)
        self._is_full = is_full
        return not is_full

    def _note(self, names: Iterable[str], state: State) -> None:
        """Note that something needs not be told any more."""
        for name in names:
            if name not in self._told:
                state.post(name, _ONCE_SECONDS, [])
                if len(self._told) >= _MOST_REMEMBERED:
                    self._told.clear()
                self._told.add(name)
