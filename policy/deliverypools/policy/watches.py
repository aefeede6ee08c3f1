"""What looks at the shared state from time to time, and tells administrators what it finds there."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from deliverypools.adapters.state import State, StateUnavailable
from deliverypools.core.settings import Settings

_log = logging.getLogger(__name__)


class Watch(Protocol):
    """One of them. It is called by one thread, and may take some seconds: neither mail nor alerts wait for it.

    Several hosts share a state, so several of each kind look at it; `telling.tell` makes of what they find one alert.
    """

    every_seconds: float
    """Between one look and the next."""

    def look(self, state: State, settings: Settings, now: float) -> None:
        """Look, at a time in seconds since the epoch; `settings` are those of now.

        Raises:
            StateUnavailable: it looks again at its next time.
        """


class Watches:
    """Lets each watch look in its turn; one that fails does not keep the others from looking."""

    def __init__(self, watches: Sequence[Callable[[], Watch]]) -> None:
        self._watches = [make() for make in watches]
        self._due_at = [float("-inf")] * len(self._watches)
        self._failing: set[int] = set()

    def look(self, state: State, settings: Settings, now: float) -> None:
        """Let those look whose time has come."""
        for number, watch in enumerate(self._watches):
            if time.monotonic() < self._due_at[number]:
                continue
            try:
                watch.look(state, settings, now)
            except StateUnavailable as error:
                self._report(number, f"{type(watch).__name__} cannot look: {error}")
            except Exception:  # noqa: BLE001  (whatever it is, it is tried again)
                _log.exception("untrapped exception in %s", type(watch).__name__)
            else:
                self._is_over(number)
            self._due_at[number] = time.monotonic() + watch.every_seconds

    def _report(self, number: int, text: str) -> None:
        """Log a failure once until it has passed."""
        if number not in self._failing:
            self._failing.add(number)
            _log.error("%s", text)

    def _is_over(self, number: int) -> None:
        if number in self._failing:
            self._failing.discard(number)
            _log.info("%s: works again", type(self._watches[number]).__name__)
