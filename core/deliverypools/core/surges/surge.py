"""A surge, when it is told, and which surges are one incident."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from deliverypools.core.facts import printable
from deliverypools.core.restrictions import utc_day
from deliverypools.core.surges.causes import Cause, Explanation, alone, explain
from deliverypools.core.surges.flows import Flow
from deliverypools.core.surges.groups import Group, Subject

SETTLE_SECONDS: Final = 120.0
_UNCLEAR_SECONDS: Final = 600.0
ACTIVE_SECONDS: Final = 900.0
_SAME_NETWORKS: Final = 0.2
"""Independent ones share next to nothing."""
_SAME_DOMAINS: Final = 0.5
_LONGEST_NAME: Final = 400
_MOST_PARTS: Final = 20
_MUCH: Final = 0.1
_WEAKER: Final[Mapping[Cause, Sequence[Cause]]] = {
    Cause.SPAM_ATTACK: (Cause.OLD_LIST_OR_STOLEN_PASSWORD, Cause.OLD_LIST, Cause.UNCLEAR),
    Cause.OLD_LIST_OR_STOLEN_PASSWORD: (Cause.OLD_LIST, Cause.UNCLEAR),
    Cause.ROGUE_SERVER: (Cause.DESTINATION_DOWN, Cause.UNCLEAR),
    Cause.DESTINATION_DOWN: (Cause.ROGUE_SERVER, Cause.UNCLEAR),
    Cause.UNCLEAR: (),
}


@dataclass(frozen=True, slots=True)
class Surge:
    """Too many events of one subject, and the likely cause."""

    group: Group
    usual: float
    """In an hour."""
    threshold: float
    crossed_at: float
    """Time of the event with which it became a surge, in seconds since the epoch."""
    explanations: Sequence[Explanation]
    """The likely cause first."""
    joined: tuple[Surge, ...] = ()
    """Others that are the same incident."""

    @property
    def cause(self) -> Cause:
        """Return the likely cause."""
        return self.explanations[0].cause

    @property
    def since(self) -> float:
        """Return the time of its first event in the hour."""
        return self.group.events[0].at

    def is_due(self, now: float) -> bool:
        """Tell whether it has settled, and still goes on.

        The cause is to be seen, not guessed from the first events: `SETTLE_SECONDS` after it became a surge, and longer
        where none is likely yet. What ended before midnight is not told again on the new day: `ACTIVE_SECONDS` after
        its last event it is history.
        """
        settled = _UNCLEAR_SECONDS if self.cause is Cause.UNCLEAR else SETTLE_SECONDS
        newest = max(one.group.events[-1].at for one in self.parts())
        return now - self.crossed_at >= settled and now - newest <= ACTIVE_SECONDS

    def parts(self) -> Iterator[Surge]:
        """Yield itself and what is joined to it."""
        yield self
        yield from self.joined

    def whole(self) -> Group:
        """Return the events of all parts as one group."""
        if not self.joined:
            return self.group
        return replace(self.group, events=tuple(event for part in self.parts() for event in part.group.events))

    @property
    def once(self) -> str:
        """Return the name under which it is told once: cause, subject, and the day (UTC) on which it began.

        What began more than an hour ago begins, for us, an hour ago: so it is told once a day while it goes on.
        """
        return self._once(self.cause, self.group.subject, self.group.name)

    def names(self) -> Iterator[str]:
        """Yield the names by which this was told before, if it was: when a part of it was, it has only spread since.

        Parts of a surge of a domain are networks, or accounts, that bring much of it and may stand out later.
        """
        for part in self.parts():
            yield part.once
            if part.group.subject is Subject.DOMAIN and self.cause is not Cause.UNCLEAR:
                is_own = part.group.flow is Flow.OWN
                for name, volume in (part.group.accounts if is_own else part.group.networks).most_common(_MOST_PARTS):
                    if volume >= _MUCH * part.group.volume:
                        yield self._once(self.cause, Subject.ACCOUNT if is_own else Subject.CLIENT, str(name))

    def weaker_names(self) -> Iterator[str]:
        """Yield further names that need not be told once this is told: what says less is no news then."""
        for part in self.parts():
            for cause in _WEAKER.get(self.cause, (Cause.UNCLEAR,)):
                yield self._once(cause, part.group.subject, part.group.name)

    def _once(self, cause: Cause, subject: Subject, name: str) -> str:
        return f"surge/{cause}/{self.group.flow}/{subject}/{utc_day(self.since)}/{printable(name, _LONGEST_NAME)}"


def joined(surges: Sequence[Surge]) -> list[Surge]:
    """Join surges that are one incident; the part that became a surge first leads.

    One incident are surges of one flow and cause
    - of the same subject;
    - whose cause is not known: when our own DNS fails, all domains are in trouble at once;
    - that are spam attacks by the same client networks, in part;
    - that are harvests of the same domains, in part, or by many networks: of a botnet each domain sees other machines.
    """
    incidents: list[list[Surge]] = []
    for surge in sorted(surges, key=lambda one: (one.crossed_at, one.group.key)):
        for incident in incidents:
            if any(_is_the_same(one, surge) for one in incident):
                incident.append(surge)
                break
        else:
            incidents.append([surge])
    return [_incident(first, others) for first, *others in incidents]


def _incident(first: Surge, others: Sequence[Surge]) -> Surge:
    """Return surges as one. What explains none of them alone may explain all of them together."""
    surge = replace(first, joined=tuple(others))
    if not others or surge.cause is not Cause.UNCLEAR:
        return surge
    everything = surge.whole()
    explanations = explain(everything, alone(everything))
    if explanations[0].cause in (Cause.UNCLEAR, Cause.OLD_LIST, Cause.OLD_LIST_OR_STOLEN_PASSWORD):
        return surge
    return replace(
        surge,
        explanations=explanations,
        joined=tuple(replace(other, explanations=explanations) for other in surge.joined),
    )


def _is_the_same(one: Surge, other: Surge) -> bool:
    if (one.group.flow, one.cause) != (other.group.flow, other.cause):
        return False
    if one.group.key == other.group.key or one.cause is Cause.UNCLEAR:
        return True
    match one.cause:
        case Cause.DIRECTORY_HARVEST:
            return (
                one.group.subject is other.group.subject is Subject.DOMAIN
                or _overlap(one.group.domains, other.group.domains) >= _SAME_DOMAINS
            )
        case Cause.SPAM_ATTACK:
            return _overlap(one.group.sending_networks, other.group.sending_networks) >= _SAME_NETWORKS
        case _:
            return False


def _overlap(one: Counter[Hashable], other: Counter[Hashable]) -> float:
    """Return which share of the smaller volume has names that the larger one has too."""
    smaller, larger = sorted((one, other), key=lambda counted: counted.total())
    if not smaller.total():
        return 0.0
    return sum(volume for name, volume in smaller.items() if name in larger) / smaller.total()
