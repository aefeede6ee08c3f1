"""How much is usual: what is counted when an event is noted, and what that makes for an hour of an ordinary day.

Each accepted domain has a stream in each flow, each account and each destination one for our own mail, what is refused
as spam of all our mail has one, and one holds everything: it tells how long we have been counting. They are kept for a
week. A stream costs one row every seven minutes at most. Clients outside have none: there are as many of them as
somebody wants.

The usual number of an hour is the median of the last seven days, each divided by 24, without the hour that is looked
at. One bad day changes nothing: a campaign of yesterday does not hide that of today. What has gone on for most of the
week has become usual. Whoever can wait can raise it, slowly: that is so with every baseline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Final

from deliverypools.core.surges.events import Category, NdrEvent
from deliverypools.core.surges.flows import Flow, account_of_event, amount_of, flow_of
from deliverypools.core.tallies import DAY, HOUR, Entry, Tally, Used, Window

EVERYTHING: Final = "ndr/all"
REFUSED_AS_SPAM: Final = "ndr/own/refused-as-spam"
"""Mail of all our accounts."""
_DAYS: Final = 7
_HOURS_OF_A_DAY: Final = DAY // HOUR
_KEEP_SECONDS: Final = _DAYS * DAY + HOUR


def noted(event: NdrEvent) -> Tally:
    """Return what is to be counted when an event is noted."""
    amount = amount_of(event)
    return Tally(tuple(Entry(stream, amount, _KEEP_SECONDS) for stream in (EVERYTHING, *_streams_of(event))))


def _streams_of(event: NdrEvent) -> list[str]:
    flow = flow_of(event)
    streams = [domain_stream(flow, event.domain)]
    if flow is Flow.OWN:
        if account := account_of_event(event):
            streams.append(account_stream(account))
        if event.remote:
            streams.append(destination_stream(event.remote))
        if event.category is Category.SPAM:
            streams.append(REFUSED_AS_SPAM)
    return streams


def domain_stream(flow: Flow, domain: str) -> str:
    """Return the name of what is counted for a domain, "" being none of ours."""
    return f"ndr/{flow}/domain/{domain}"


def account_stream(account: str) -> str:
    """Return the name of what is counted for an account's own mail."""
    return f"ndr/{Flow.OWN}/account/{account}"


def destination_stream(remote: str) -> str:
    """Return the name of what is counted for a destination of our own mail."""
    return f"ndr/{Flow.OWN}/destination/{remote}"


def usual_numbers(streams: Sequence[str], used: Callable[[Sequence[Window]], Used]) -> Mapping[str, float]:
    """Return the usual number of an hour of each stream, asking for all of them in one step.

    `used` is `State.used`. 0.0 everywhere as long as we have counted for less than a day.
    """
    names = (EVERYTHING, *streams)
    held = used([window for name in names for window in _windows(name)])
    days = [_days(held[start : start + _DAYS + 1]) for start in range(0, len(held), _DAYS + 1)]
    known = _days_known(days[0])
    return {name: _median(of_name[:known]) / _HOURS_OF_A_DAY for name, of_name in zip(streams, days[1:], strict=True)}


def _median(amounts: Sequence[int]) -> int:
    """Return the middle one of amounts, of two the smaller; 0 of none."""
    return sorted(amounts)[(len(amounts) - 1) // 2] if amounts else 0


def _windows(stream: str) -> list[Window]:
    """Return the last hour, then that and one day, and so on: windows that all end now."""
    return [Window((stream,), HOUR + number * DAY, _KEEP_SECONDS) for number in range(_DAYS + 1)]


def _days(held: Sequence[int]) -> list[int]:
    """Return the single days, newest first."""
    return [max(0, longer - shorter) for shorter, longer in pairwise(held)]


def _days_known(everything: Sequence[int]) -> int:
    """Return how many whole days we have been counting for."""
    oldest = max((number for number, amount in enumerate(everything) if amount), default=0)
    # That day itself may have begun with the installation. All seven: older days are there, but not kept.
    return _DAYS if oldest == _DAYS - 1 else oldest
