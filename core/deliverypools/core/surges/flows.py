"""What kind of thing an event is, how much of it counts, and whose it is: before anything is compared with anything.

Three flows never share a number. A domain whose users are asked for by bots all day long must not hide a spoofing
campaign, and a newsletter must not hide a harvest.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from deliverypools.core.dsn.was_it_ours import Verdict
from deliverypools.core.surges.events import NdrEvent, Way

MOST_OF_AN_EVENT: Final = 1000
"""No event counts for more recipients than that."""


class Flow(StrEnum):
    """What an event is about."""

    NOT_OURS = "not-ours"
    """A notice that arrived about mail that we have not sent, as far as can be told."""
    OUTSIDE = "from-outside"
    """Recipients refused to a client outside, or a notice of ours about its mail."""
    OWN = "own"
    """Mail of one of our accounts failed."""


def flow_of(event: NdrEvent) -> Flow:
    """Return what an event is about."""
    if event.verdict == Verdict.GENUINE:
        return Flow.OWN
    if event.way is Way.ARRIVED:
        return Flow.NOT_OURS
    return Flow.OWN if event.account else Flow.OUTSIDE


def amount_of(event: NdrEvent) -> int:
    """Return what an event counts for: recipients, but 1 for a notice about mail that is not ours.

    What such a notice says of recipients, anybody may have written.
    """
    if flow_of(event) is Flow.NOT_OURS:
        return 1
    return min(max(event.amount, 1), MOST_OF_AN_EVENT)


def account_of_event(event: NdrEvent) -> str:
    """Return whose mail failed: the account, else the address of ours; "" if neither is known."""
    return event.account or event.address
