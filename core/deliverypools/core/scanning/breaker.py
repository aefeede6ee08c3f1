"""A circuit breaker: a scanner that fails is left alone for a while, and then asked about one message first.

Mail must not wait for a scanner that is down, one time-out after the other. Times are seconds of whatever clock the
caller has, as long as it never goes back; calls come one at a time.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

FAILURES_IN_A_ROW: Final = 5
"""So many, and the scanner is asked no more: fewer happen when it is restarted."""
FIRST_PAUSE_SECONDS: Final = 30.0
LONGEST_PAUSE_SECONDS: Final = 300.0
"""A pause is twice as long as the one before it, up to this."""


class Permission(Enum):
    """Whether a question may be asked, and what hangs on its answer."""

    ORDINARY = auto()
    PROBE = auto()
    """It is the one that shows whether the scanner is back; the others do without until it has been answered."""
    REFUSED = auto()


class Breaker:
    """What is known of one scanner's health. Whoever has a permission tells how it went: `succeed` or `fail`."""

    def __init__(self) -> None:
        """Begin with a scanner that is well."""
        self._failures = 0
        self._pause_seconds = 0.0
        """0 while the scanner is well."""
        self._paused_until = 0.0
        self._is_probing = False

    @property
    def is_open(self) -> bool:
        """Tell whether the scanner is left alone, or being probed."""
        return self._pause_seconds > 0

    def refuses(self, now: float) -> bool:
        """Tell whether `permit` would refuse now; nothing is changed."""
        return self.is_open and (self._is_probing or now < self._paused_until)

    def permit(self, now: float) -> Permission:
        """Ask for a permission; after a pause the first who asks gets the probe."""
        if self.refuses(now):
            return Permission.REFUSED
        if not self.is_open:
            return Permission.ORDINARY
        self._is_probing = True
        return Permission.PROBE

    def succeed(self) -> None:
        """The scanner has answered: it is well, whoever had asked."""
        self._failures = 0
        self._pause_seconds = 0.0
        self._is_probing = False

    def fail(self, permission: Permission, now: float) -> float:
        """The scanner has failed; return for how many seconds it is left alone therefore, 0.0: nothing changes.

        What was asked before a pause and fails in it says nothing new.
        """
        if permission is Permission.PROBE and self._is_probing:
            return self._pause(2 * self._pause_seconds, now)
        if not self.is_open:
            self._failures += 1
            if self._failures >= FAILURES_IN_A_ROW:
                return self._pause(FIRST_PAUSE_SECONDS, now)
        return 0.0

    def _pause(self, seconds: float, now: float) -> float:
        self._pause_seconds = min(seconds, LONGEST_PAUSE_SECONDS)
        self._paused_until = now + self._pause_seconds
        self._is_probing = False
        return self._pause_seconds
