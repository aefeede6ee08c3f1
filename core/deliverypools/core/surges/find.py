"""Finds surges in the events of the last hour: which events belong together, whether that is too many, and why.

In each flow, what is explained is taken out before the rest is looked at, so that no event is part of two surges:
1. mail of outsiders and notices about mail that is not ours: a client network unlike all others around it, over all
   domains that it touches; then what is left of each domain; then networks that touch many domains a little;
2. our own mail: a destination unlike all others; then accounts whose mail is refused as spam everywhere, all together;
   then single accounts; then destinations again; then what is left of domains.
Surges that are one incident are then joined into one (`surge.joined`).

A group is a surge when it counts for `minimum` and for `factor` times what is usual in an hour, for the account or the
domain or destination; for a network, what is usual for all domains that it touches. A surge of a domain that one
network explains is a surge of that network. What grows slowly is compared with the whole hour, as what comes at once.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from deliverypools.core.client_networks import network_of
from deliverypools.core.surges.baseline import REFUSED_AS_SPAM, account_stream, destination_stream, domain_stream
from deliverypools.core.surges.causes import Around, Cause, Explanation, alone, explain
from deliverypools.core.surges.events import Category, NdrEvent
from deliverypools.core.surges.flows import Flow, account_of_event, amount_of, flow_of
from deliverypools.core.surges.groups import ALL_ACCOUNTS, Group, Subject, groups_of, subject_name, volume_of
from deliverypools.core.surges.surge import Surge, joined
from deliverypools.core.tallies import HOUR

MOST_EVENTS: Final = 20_000
"""So many are looked at, the newest of the last hour."""
_MOST_CANDIDATES: Final = 20
"""Of each kind of subject, the largest, in one look."""
_MOST_OF_IT: Final = 0.8
_MUCH: Final = 0.3
_FAR_AHEAD: Final = 3
_MOST_DOMAINS: Final = 100
"""Of a group that touches more, the rest counts as one that nothing is usual for."""

Usual = Callable[[Sequence[str]], Mapping[str, float]]
"""Returns the usual number of an hour of streams (`baseline`)."""


@dataclass(frozen=True, slots=True)
class Level:
    """How much too much is."""

    minimum: int
    factor: int
    usual: Usual


def find_surges(events: Sequence[NdrEvent], *, now: float, level: Level) -> list[Surge]:
    """Return the surges among events, in any order, settled or not; each event is in one of them at most."""
    latest = sorted(
        (event for event in events if now - HOUR < event.at <= now), key=lambda event: (event.at, event.event_id)
    )[-MOST_EVENTS:]
    flows: dict[Flow, list[NdrEvent]] = {flow: [] for flow in Flow}
    for event in latest:
        amount = amount_of(event)
        flows[flow_of(event)].append(event if event.amount == amount else replace(event, amount=amount))
    return joined([surge for flow, some in flows.items() for surge in _Search(flow, some, level).surges()])


class _Search:
    """The search in one flow: `left` is what nothing has explained yet."""

    def __init__(self, flow: Flow, events: Sequence[NdrEvent], level: Level) -> None:
        self._flow = flow
        self._left = list(events)
        self._level = level
        self._volumes: dict[Subject, Mapping[str, Counter[str]]] = {}

    def surges(self) -> Iterator[Surge]:
        if volume_of(self._left) < self._level.minimum:
            return
        if self._flow is Flow.OWN:
            yield from self._unlike_the_rest(Subject.DESTINATION)
            yield from self._everybody()
            yield from self._each(Subject.ACCOUNT)
            yield from self._unlike_the_rest(Subject.DESTINATION)
            yield from self._domains()
        else:
            yield from self._unlike_the_rest(Subject.CLIENT)
            yield from self._domains()
            yield from self._each(Subject.CLIENT)

    def _unlike_the_rest(self, subject: Subject) -> Iterator[Surge]:
        """Take out groups whose cause is likely, compared with what else happens in the domains that they touch."""
        groups = self._groups(subject)
        by_itself = {group.name: explain(group, alone(group))[0].cause for group in groups}
        for group in groups:
            cause = by_itself[group.name]
            if cause is Cause.UNCLEAR:
                continue
            # Two networks that do different things are two incidents, however alike in size.
            others = {name for name, other in by_itself.items() if other not in (cause, Cause.UNCLEAR)}
            explanations = explain(group, self._around(group, others))
            if explanations[0].cause is not Cause.UNCLEAR:
                yield from self._taken(group, explanations)

    def _everybody(self) -> Iterator[Surge]:
        """Take out the accounts whose mail is refused for what all of them have in common, the addresses it leaves by.

        Not those that are a surge of another kind, and not the largest where it is far ahead: one that sends spam is
        often why an address is listed.
        """
        others = self._other_senders()
        events = [event for event in self._left if account_of_event(event) not in others]
        refused = [event for event in events if event.category is Category.SPAM]
        if volume_of(refused) < self._level.minimum:
            return
        everybody = Group(self._flow, Subject.EVERYBODY, ALL_ACCOUNTS, tuple(refused))
        networks = everybody.sending_networks
        unknown = (event for event in events if event.category is Category.UNKNOWN_USER)
        unknown_from_there = volume_of(event for event in unknown if network_of(event.client) in networks)
        usual = sum(self._level.usual(_domain_streams(everybody)).values())
        explanations = explain(
            everybody, Around(everybody.volume + max(0, unknown_from_there - round(usual)), next_largest=0)
        )
        if explanations[0].cause is Cause.UNCLEAR:
            return
        for surge in self._taken(everybody, explanations):
            self._left = [event for event in self._left if account_of_event(event) not in everybody.accounts]
            yield surge

    def _other_senders(self) -> set[str]:
        """Return the accounts that are a surge of another kind, and the one that is refused far more than the next."""
        others = {group.name for group in self._groups(Subject.ACCOUNT) if group.share(Category.SPAM) < _MUCH}
        refused = [event for event in self._left if event.category is Category.SPAM]
        largest = groups_of(refused, self._flow, Subject.ACCOUNT, 1)[:2]
        if len(largest) > 1 and largest[0].volume >= _FAR_AHEAD * largest[1].volume:
            others.add(largest[0].name)
        return others

    def _each(self, subject: Subject) -> Iterator[Surge]:
        """Take out every group that is a surge, whatever its cause."""
        for group in self._groups(subject):
            yield from self._taken(group, explain(group, self._by_itself(group)))

    def _domains(self) -> Iterator[Surge]:
        """Take out every domain that is a surge; one that its largest network or account explains as that one's."""
        for group in self._groups(Subject.DOMAIN):
            for surge in self._taken(group, explain(group, alone(group))):
                yield self._narrowed(surge)

    def _narrowed(self, surge: Surge) -> Surge:
        """Return a surge of a domain as that of what explains it, if something does."""
        group = surge.group
        subject = Subject.ACCOUNT if self._flow is Flow.OWN else Subject.CLIENT
        found = groups_of(group.events, self._flow, subject, 1)
        if not found:
            return surge
        first = found[0]
        if subject is Subject.ACCOUNT:
            explanations = explain(first, self._by_itself(first))
            explains = first.volume >= _MOST_OF_IT * group.volume
        else:
            rest = max(0, group.volume - first.volume - round(surge.usual))
            explanations = explain(first, Around(first.volume + rest, found[1].volume if found[1:] else 0))
            explains = explanations[0].cause is not Cause.UNCLEAR
        return replace(surge, group=first, explanations=explanations) if explains else surge

    def _by_itself(self, group: Group) -> Around:
        """Return surroundings in which nothing else happened."""
        streams = _streams_of(group)
        return alone(group, sum(self._level.usual(streams).values()))

    def _groups(self, subject: Subject) -> list[Group]:
        return groups_of(self._left, self._flow, subject, self._level.minimum)[:_MOST_CANDIDATES]

    def _around(self, group: Group, others: set[str]) -> Around:
        """Return what is left in the domains of a group beyond the usual, without groups that are something else."""
        volumes: Counter[str] = Counter()
        for domain in group.domains:
            volumes.update(self._by_domain(group.subject)[str(domain)])
        own = volumes.pop(group.name)
        rest = [volume for name, volume in volumes.items() if name not in others]
        usual = sum(self._level.usual(_domain_streams(group)).values())
        return Around(own + max(0, sum(rest) - round(usual)), max(rest, default=0))

    def _by_domain(self, subject: Subject) -> Mapping[str, Counter[str]]:
        """Return what is left in each domain, by the name of a kind of subject."""
        if subject not in self._volumes:
            volumes: dict[str, Counter[str]] = defaultdict(Counter)
            for event in self._left:
                volumes[event.domain][subject_name(event, subject)] += event.amount
            self._volumes[subject] = volumes
        return self._volumes[subject]

    def _taken(self, group: Group, explanations: Sequence[Explanation]) -> Iterator[Surge]:
        """Take a group's events out if it is a surge."""
        streams = _streams_of(group)
        usual = self._level.usual(streams)
        expected = sum(usual[stream] for stream in streams)
        threshold = max(float(self._level.minimum), self._level.factor * expected)
        if group.volume < threshold:
            return
        own = {event.event_id for event in group.events}
        self._left = [event for event in self._left if event.event_id not in own]
        self._volumes.clear()
        yield Surge(group, expected, threshold, _crossed_at(group, threshold), explanations)


def _streams_of(group: Group) -> list[str]:
    """Return what counts the usual number of a group."""
    if group.subject is Subject.ACCOUNT:
        return [account_stream(group.name)]
    if group.subject is Subject.DESTINATION:
        return [destination_stream(group.name)]
    if group.subject is Subject.EVERYBODY:
        return [REFUSED_AS_SPAM]
    return _domain_streams(group)


def _domain_streams(group: Group) -> list[str]:
    return [domain_stream(group.flow, str(domain)) for domain, _ in group.domains.most_common(_MOST_DOMAINS)]


def _crossed_at(group: Group, threshold: float) -> float:
    """Return when a group had become a surge."""
    volume = 0
    for event in group.events:
        volume += event.amount
        if volume >= threshold:
            return event.at
    return group.events[-1].at
