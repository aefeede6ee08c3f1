"""Events that may belong together, and what can be measured of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final

from deliverypools.core.client_networks import network_of
from deliverypools.core.dsn.was_it_ours import Verdict
from deliverypools.core.surges.events import Category, NdrEvent, Way
from deliverypools.core.surges.flows import Flow, account_of_event


class Subject(StrEnum):
    """What a surge is about."""

    ACCOUNT = "account"
    DOMAIN = "domain"
    """An accepted domain; "" is mail that concerns none."""
    CLIENT = "client"
    """A network of clients."""
    DESTINATION = "destination"
    """A domain that our mail goes to."""
    EVERYBODY = "site"
    """Accounts of all domains."""


ALL_ACCOUNTS: Final = "all accounts"


def subject_name(event: NdrEvent, subject: Subject) -> str:
    """Return whom an event is about, seen as one of the subjects."""
    match subject:
        case Subject.ACCOUNT:
            return account_of_event(event)
        case Subject.DOMAIN:
            return event.domain
        case Subject.CLIENT:
            return network_of(event.client)
        case Subject.DESTINATION:
            return event.remote
        case Subject.EVERYBODY:
            return ALL_ACCOUNTS


def volume_of(events: Iterable[NdrEvent]) -> int:
    """Return how much events of groups count for."""
    return sum(event.amount for event in events)


@dataclass(frozen=True)
class Group:
    """The events of one flow that have one subject."""

    flow: Flow
    subject: Subject
    name: str
    events: tuple[NdrEvent, ...]
    """Oldest first. Their `amount` is what they count for (`flows.amount_of`)."""

    @property
    def key(self) -> tuple[Flow, Subject, str]:
        """Return what tells it from every other group."""
        return self.flow, self.subject, self.name

    @cached_property
    def volume(self) -> int:
        """Return how much its events count for."""
        return volume_of(self.events)

    def amounts(self, by: Callable[[NdrEvent], Hashable]) -> Counter[Hashable]:
        """Return how much of the volume falls to each value of something."""
        counted: Counter[Hashable] = Counter()
        for event in self.events:
            counted[by(event)] += event.amount
        return counted

    @cached_property
    def networks(self) -> Counter[Hashable]:
        """Return the volume of each network of clients."""
        return self.amounts(lambda event: network_of(event.client))

    @cached_property
    def domains(self) -> Counter[Hashable]:
        """Return the volume of each domain."""
        return self.amounts(lambda event: event.domain)

    @cached_property
    def accounts(self) -> Counter[Hashable]:
        """Return the volume of each account."""
        return self.amounts(account_of_event)

    @cached_property
    def remotes(self) -> Counter[Hashable]:
        """Return the volume of each destination that is known."""
        return _named(self.amounts(lambda event: event.remote))

    @cached_property
    def sending_networks(self) -> Counter[Hashable]:
        """Return the volume of each network that our accounts' mail came from, where we know it.

        Of a notice that arrived, the client is the one that brought the notice.
        """
        return _named(self.amounts(lambda event: network_of(event.client) if event.way is not Way.ARRIVED else ""))

    @cached_property
    def originals(self) -> Counter[Hashable]:
        """Return the volume of each message that failed, as far as it is known."""
        return _named(self.amounts(lambda event: event.original))

    @cached_property
    def names_tried(self) -> int:
        """Return how many different local parts there are, at least.

        An event says how many it has, and the first of them: the same first one again is the same event again.
        """
        most: dict[str, int] = defaultdict(int)
        for event in self.events:
            first = event.address or event.event_id
            most[first] = max(most[first], min(event.local_parts, event.amount))
        return sum(most.values())

    def share(self, *categories: Category) -> float:
        """Return the share of the volume that failed for such a reason."""
        return volume_of(event for event in self.events if event.category in categories) / self.volume

    @cached_property
    def share_not_ours(self) -> float:
        """Return the share of the volume of which our log knows that we have not sent what failed."""
        return volume_of(event for event in self.events if event.verdict == Verdict.BACKSCATTER) / self.volume

    def part(self, amount: float) -> float:
        """Return which share of the volume an amount is."""
        return amount / self.volume


def largest(counted: Counter[Hashable]) -> int:
    """Return the largest amount, 0 where there is none."""
    return max(counted.values(), default=0)


def _named(counted: Counter[Hashable]) -> Counter[Hashable]:
    """Return amounts without those of whatever is not known."""
    del counted[""]
    return counted


def groups_of(events: Sequence[NdrEvent], flow: Flow, subject: Subject, least: int) -> list[Group]:
    """Return the groups that count for `least` at least, largest first."""
    found: dict[str, list[NdrEvent]] = defaultdict(list)
    for event in events:
        found[subject_name(event, subject)].append(event)
    if subject is not Subject.DOMAIN:
        found.pop("", None)
    groups = [Group(flow, subject, name, tuple(some)) for name, some in found.items() if volume_of(some) >= least]
    return sorted(groups, key=lambda group: (-group.volume, group.name))
