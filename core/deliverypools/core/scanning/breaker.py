"""A circuit breaker: a scanner that fails is left alone for a while, and then asked about one message first.

Mail must not wait for a scanner that is down, one time-out after the other. Times are seconds of whatever clock the
caller has, as long as it never goes back; calls come one at a time.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

FAILURES_IN_A_ROW: Final = 5
"""So many, and the scanner is asked no more: fewer happen when it is restarted."""
PAUSE_SECONDS: Final = 30.0
"""However often the scanner has failed. A probe costs nothing; mail that comes in a pause is tried again by Postfix
only minutes later."""


class Permission(Enum):
    """Whether a question may be asked, and what hangs on its answer."""

    ORDINARY = auto()
    PROBE = auto()
    """It would be the one that shows whether the scanner is back."""
    LATER = auto()
    """A probe is under way: when it has been answered, there is another permission."""
    REFUSED = auto()


class Breaker:
    """What is known of one scanner's health. Whoever asks with a permission tells how it went: `succeed` or `fail`."""

    def __init__(self) -> None:
        """Begin with a scanner that is well."""
        self._failures = 0
        self._paused_until: float | None = None
        """None while the scanner is well."""
        self._is_probing = False

    @property
    def is_open(self) -> bool:
        """Tell whether the scanner is left alone, or being probed."""
        return self._paused_until is not None

    def permission(self, now: float) -> Permission:
        """Return what a question may do now; nothing is changed."""
        if self._paused_until is None:
            return Permission.ORDINARY
        if self._is_probing:
            return Permission.LATER
        return Permission.REFUSED if now < self._paused_until else Permission.PROBE

    def probe(self) -> None:
        """The probe is under way: somebody asks who had the permission for it."""
        self._is_probing = True

    def succeed(self) -> None:
        """The scanner has answered: it is well, whoever had asked."""
        self._failures = 0
        self._paused_until = None
        self._is_probing = False

    def fail(self, permission: Permission, now: float) -> bool:
        """The scanner has failed; tell whether it is left alone therefore, from now on.

        What was asked before a pause and fails in it says nothing new.
        """
        if self.is_open:
            is_pause = permission is Permission.PROBE and self._is_probing
        else:
            self._failures += 1
            is_pause = self._failures >= FAILURES_IN_A_ROW
        if is_pause:
            self._paused_until = now + PAUSE_SECONDS
            self._is_probing = False
        return is_pause
