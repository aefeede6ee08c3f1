"""Since when the decision log tells of every message, though rows expire, and hosts may keep them for different times.

For each time that rows were to be kept (`milter.ticket_lifetime`; hosts may differ, and settings change) it is known
when the last of them was written. Those that are gone were written before that, and so long ago. What came before the
first row of all counts as a row that was not kept. A store notes this in the step that writes a row, once a minute.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

EXACT_TO_SECONDS: Final = 60.0
MOST: Final = 20
"""Different times; more are not remembered apart."""
BEGINNING: Final = 0.0
"""How long that was kept which came before the first row."""


def complete_since(times: Iterable[tuple[float, float]], now: float) -> float | None:
    """Return since when no row is missing; `times`: how long rows are kept, and when the last of them was written."""
    return max((min(last_at, now - keep_seconds) for keep_seconds, last_at in times), default=None)


def noted(times: Mapping[float, float], at: float, keep_seconds: float) -> dict[float, float] | None:
    """Return the times with a row that is written now; None where they say it already."""
    last_at = times.get(keep_seconds)
    if last_at is not None and last_at >= at:
        return None
    changed = {BEGINNING: at, **times, keep_seconds: at + EXACT_TO_SECONDS}
    if len(changed) > MOST:
        forgotten = min((one for one in changed if one not in (BEGINNING, keep_seconds)), key=changed.__getitem__)
        changed[BEGINNING] = max(changed[BEGINNING], changed.pop(forgotten))
    return changed
