"""The times of log lines: syslog's own form, which names neither year nor zone, ISO 8601, and journalctl's forms."""

from __future__ import annotations

import re
from collections.abc import Callable
from email.utils import mktime_tz
from typing import Final

from deliverypools.core.utc import DAY_SECONDS, calendar_day

FORMS: Final = (
    r"[A-Z][a-z]{2} [ 0-3]\d [0-2]\d:[0-5]\d:[0-6]\d(?:\.\d{1,9})?"
    r"|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?"
    r"|\d{9,11}\.\d{6}"
)
"""The forms, as one regular expression without groups."""

_ISO: Final = re.compile(
    r"(?P<minute>\d{4}-\d\d-\d\d[T ]\d\d:\d\d):(?P<seconds>\d\d(?:[.,]\d{1,9})?)(?P<zone>Z|[+-]\d\d:?\d\d|)"
)
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAYS: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_MOST_KNOWN: Final = 1000
_SYSLOG_MINUTE: Final = 12
"""So many characters of "Nov 22 11:06:11.123456" are the same in a minute; the rest are a colon and seconds."""
_ISO_MINUTE: Final = 16
"""The same of "2026-11-22T11:06:11"; and where its numbers stand."""
_ISO_NUMBERS: Final = ((0, 4), (5, 7), (8, 10), (11, 13), (14, 16))

Minute = tuple[int, int, int, int, int]
"""Year, month, day, hour, minute."""


class LogTimes:
    """Reads times; what it finds out about a minute it keeps, because the next thousand lines have the same."""

    def __init__(self, now: float, local_time: Callable[[Minute], float]) -> None:
        """Take the time now, in seconds since the epoch, and what turns a minute of local time into such seconds."""
        self._now = now
        self._local_time = local_time
        self._minutes: dict[str, float | None] = {}

    def seconds(self, text: str) -> float | None:
        """Return a time in one of the `FORMS` in seconds since the epoch; None where there is no such time."""
        if text[0].isalpha():
            minute = self._known(text[:_SYSLOG_MINUTE])
            return None if minute is None else minute + float(text[_SYSLOG_MINUTE + 1 :])
        match = _ISO.fullmatch(text)
        if match is None:
            return float(text)
        minute = self._known(match["minute"] + match["zone"])
        return None if minute is None else minute + float(match["seconds"].replace(",", "."))

    def _known(self, text: str) -> float | None:
        if text not in self._minutes:
            if len(self._minutes) >= _MOST_KNOWN:
                self._minutes.clear()
            self._minutes[text] = self._syslog_minute(text) if text[0].isalpha() else self._iso_minute(text)
        return self._minutes[text]

    def _syslog_minute(self, text: str) -> float | None:
        """Return the last such minute that is not in the future: nobody keeps the logs of two years in one file."""
        if text[:3] not in _MONTHS:
            return None
        month, day = _MONTHS.index(text[:3]) + 1, int(text[4:6])
        this_year = calendar_day(self._now)[0]
        # The 29th of February may be five years ago, or nine where a century is no leap year.
        for year in range(this_year + 1, this_year - 9, -1):
            if _is_day(year, month, day):
                seconds = self._local((year, month, day, int(text[7:9]), int(text[10:12])))
                if seconds is not None and seconds <= self._now + DAY_SECONDS:
                    return seconds
        return None

    def _iso_minute(self, text: str) -> float | None:
        year, month, day, hour, minute = (int(text[start:end]) for start, end in _ISO_NUMBERS)
        zone = text[_ISO_MINUTE:].replace(":", "")
        if not _is_day(year, month, day):
            return None
        if not zone:
            return self._local((year, month, day, hour, minute))
        offset = 0 if zone == "Z" else (int(zone[1:3]) * 60 + int(zone[3:])) * (-60 if zone[0] == "-" else 60)
        return float(mktime_tz((year, month, day, hour, minute, 0, 0, 1, 0, offset)))

    def _local(self, minute: Minute) -> float | None:
        try:
            return self._local_time(minute)
        except (OverflowError, ValueError):
            return None


def _is_day(year: int, month: int, day: int) -> bool:
    if year < 1 or not 1 <= month <= len(_DAYS) or not 1 <= day <= _DAYS[month - 1]:
        return False
    is_leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return is_leap or (month, day) != (2, 29)
