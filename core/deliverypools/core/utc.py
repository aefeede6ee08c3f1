"""The calendar, UTC, for times that are handed over: the core has no clock, and no module that has one."""

from __future__ import annotations

from typing import Final

DAY_SECONDS: Final = 86_400
_EPOCH: Final = 719_468
"""Days from 1 March of the year 0 to 1 January 1970. With years that begin in March, the leap day is their last."""
_DAYS_OF_400_YEARS: Final = 146_097


def calendar_day(now: float) -> tuple[int, int, int]:
    """Return year, month and day of a time in seconds since the epoch."""
    cycle, day = divmod(int(now // DAY_SECONDS) + _EPOCH, _DAYS_OF_400_YEARS)
    # Every fourth year is a day longer, but not the hundredth, but the four hundredth.
    year = (day - day // 1460 + day // 36_524 - day // 146_096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153  # 0 is March; five months have 153 days
    day -= (153 * month + 2) // 5
    is_next_year = month >= 10  # noqa: PLR2004  (January and February)
    return 400 * cycle + year + is_next_year, month - 9 if is_next_year else month + 3, day + 1
