"""The page of metrics: what all processes have counted, and what can only be told when it is asked for."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from deliverypools.adapters.fast_path import FastPathWatch
from deliverypools.adapters.metrics import measure
from deliverypools.adapters.metrics.definitions import (
    ALERTS_WAITING,
    BUILD,
    FAST_PATH_OPEN,
    PROCESSES,
    RESTRICTIONS,
    SHADOW,
    STATE_UP,
    Metric,
)
from deliverypools.adapters.metrics.exchange import Gathered, Gatherer
from deliverypools.adapters.metrics.exposition import Page, page
from deliverypools.adapters.state import State, StateUnavailable
from deliverypools.core.settings import Settings

_KEPT_SECONDS: Final = 15.0
"""So old may be what the state says: several servers may ask, and the state has other work."""
_ROLES: Final = ("worker", "policy")


class MetricsPage:
    """Makes the page; for one thread."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        state: State,
        alerts_waiting: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Ask for what is told by the settings, the state and the dispatcher; `clock` (seconds) is for what is kept."""
        self._settings = settings
        self._state = state
        self._alerts_waiting = alerts_waiting
        self._clock = clock
        self._gatherer = Gatherer(Path(settings().metrics.directory))
        self._of_state: Mapping[tuple[Metric, tuple[str, ...]], float] = {}
        self._asked_at = float("-inf")
        self._version = importlib.metadata.version("delivery-pools")

    def make(self, accept: str) -> Page:
        """Return the page.

        Raises:
            OSError: the folder of the processes' numbers cannot be read.
        """
        measure.publish()
        gathered = self._gatherer.gather()
        gauges = {
            (ALERTS_WAITING, ()): float(self._alerts_waiting()),
            (SHADOW, ()): float(self._settings().shadow),
            (FAST_PATH_OPEN, ()): float(not FastPathWatch(self._settings()).reason),
            (BUILD, (self._version,)): 1.0,
            **self._told_by_state(),
            **_living(gathered),
        }
        return page(gathered.numbers | {series: [number] for series, number in gauges.items()}, accept)

    def _told_by_state(self) -> Mapping[tuple[Metric, tuple[str, ...]], float]:
        if self._clock() - self._asked_at >= _KEPT_SECONDS:
            self._of_state = self._ask_state()
            self._asked_at = self._clock()
        return self._of_state

    def _ask_state(self) -> dict[tuple[Metric, tuple[str, ...]], float]:
        try:
            restrictions = self._state.restrictions()
        except StateUnavailable:
            return {(STATE_UP, ()): 0.0}
        by_hand = sum(restriction.until is None for restriction in restrictions)
        return {
            (STATE_UP, ()): 1.0,
            (RESTRICTIONS, ("by_hand",)): float(by_hand),
            (RESTRICTIONS, ("by_itself",)): float(len(restrictions) - by_hand),
        }


def _living(gathered: Gathered) -> dict[tuple[Metric, tuple[str, ...]], float]:
    return {(PROCESSES, (role,)): float(gathered.living[role]) for role in _ROLES}
