"""What is to be counted, and over which time it is summed up: the language between the limits and the stores.

A *stream* is a series of numbers under one name, kept in buckets. A window is a rolling time: what one or several
streams hold in the last so many seconds, exact to one bucket.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MINUTE: Final = 60
HOUR: Final = 3600
DAY: Final = 86_400

_MOST_BUCKETS: Final = 1440

Used = tuple[int, ...]
"""What each window of a tally held before the tally itself was counted."""


def bucket_seconds(keep_seconds: int) -> int:
    """Return the length of the buckets of a stream that is kept so long: a minute for a day, a second for a minute."""
    return max(1, keep_seconds // _MOST_BUCKETS)


@dataclass(frozen=True, slots=True)
class Entry:
    """So much is to be counted in a stream, which is kept so many seconds."""

    stream: str
    amount: int
    keep_seconds: int


@dataclass(frozen=True, slots=True)
class Window:
    """The last so many seconds of some streams, summed up; all of them are kept `keep_seconds`, at least as long."""

    streams: tuple[str, ...]
    seconds: int
    keep_seconds: int


@dataclass(frozen=True, slots=True)
class Tally:
    """What one message adds, and the windows that are looked at just before: one step, whoever else counts."""

    entries: tuple[Entry, ...]
    windows: tuple[Window, ...] = ()
