"""The likely cause of a surge: a score of named features for each cause, which anybody can check by hand.

A feature is a number that is measured, and two values of it: at `nothing` it says nothing for the cause, at `enough`
all that it can say, and between them in proportion. The score of a cause is what its features earn of their weights. A
feature that is `needed` must earn half of its own weight, otherwise the cause is none. The cause with the highest score
is named if that is at least `LEAST_SCORE`. Of scores that differ by less than `NEAR_TIE`, the cause that comes first in
`Cause` wins: what our own users do first, for it can be stopped, and what harms nobody last.

What cannot be fooled: who brought a notice or asked for recipients is the peer of a TCP connection, not what a notice
says of itself; a forged reporting MTA changes nothing. Whether a message was ours is what our own decision log says.
What can be fooled:
- Whoever has many networks can look like many: one sender of false notices is taken for a spoofing campaign, and a
  harvest by a botnet that asks for one name from each address looks like users that are gone. That is `unclear`.
- Whoever got a message of an account knows its Message-ID and can invent notices about it, destinations and reasons
  included: they look like a spam attack of that account, or an old list. The alert shows who brought them.
- Whoever forges the domain of one customer from the network of another blames nobody: the network is what is shown.
- A spam attack in which nothing but unknown users is refused, from one network, looks like an old list and is only
  logged. The limits on what an account may send do not depend on this.
- What joins an incident that was told is not told again that day: a small harvest hides a larger one of the same domain
  that begins within the hour, and a surge without a cause hides the next one in its flow.
- A flood of one kind hides another only within one flow and one domain or account, or by more than `MOST_EVENTS`
  events in an hour; the alert about the flood says so then. More than `MOST_ALERTS` alerts an hour wait, in the log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from deliverypools.core.dsn.was_it_ours import Verdict
from deliverypools.core.payloads import Number
from deliverypools.core.surges.events import Category
from deliverypools.core.surges.flows import Flow
from deliverypools.core.surges.groups import Group, Subject, largest

LEAST_SCORE: Final = 0.7
NEAR_TIE: Final = 0.05
_MOST: Final = 1000.0
"""Of a ratio whose other side is nothing."""


class Cause(StrEnum):
    """Why there are so many notices or refusals; the order decides near ties."""

    SPAM_ATTACK = "spam-attack"
    DIRECTORY_HARVEST = "directory-harvest"
    SPOOFING_CAMPAIGN = "spoofing-campaign"
    ROGUE_SERVER = "rogue-server"
    OLD_LIST = "old-list"
    """Harmless: a mailing of one account, to addresses that are gone."""
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """Something that was measured, and what it says for a cause."""

    name: str
    value: float
    nothing: float
    enough: float
    weight: Number
    needed: bool = False

    @property
    def earned(self) -> float:
        """Return what it earns of its weight."""
        return self.weight * min(1.0, max(0.0, (self.value - self.nothing) / (self.enough - self.nothing)))

    @property
    def is_missing(self) -> bool:
        """Tell whether the cause needs it, and it is not there."""
        return self.needed and self.earned < self.weight / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A cause, and what speaks for it."""

    cause: Cause
    features: tuple[Feature, ...]

    @property
    def score(self) -> float:
        """Return what its features earn of their weights, 0.0 to 1.0."""
        if any(feature.is_missing for feature in self.features):
            return 0.0
        return self.merit

    @property
    def merit(self) -> float:
        """Return the same for a cause that is none, because something it needs is missing."""
        return sum(feature.earned for feature in self.features) / sum(feature.weight for feature in self.features)


@dataclass(frozen=True, slots=True)
class Around:
    """What happened beyond the usual in the domains that a group touches: in its flow, and not explained otherwise."""

    volume: int
    """With the group."""
    next_largest: int
    """The volume of the largest other group with a subject of this kind."""


def alone(group: Group) -> Around:
    """Return surroundings in which nothing else happened."""
    return Around(group.volume, 0)


def spoofing_campaign(group: Group, around: Around) -> Explanation:
    """Somebody sends as one of our domains: notices about mail we never sent, from servers all over the world."""
    del around
    verdicts = group.amounts(lambda event: event.verdict)
    not_ours = verdicts[Verdict.BACKSCATTER] + verdicts[Verdict.UNKNOWN] / 2
    top = largest(group.networks)
    return _explanation(
        Cause.SPOOFING_CAMPAIGN,
        # "Unknown" counts half: it may have been ours.
        _feature("share not sent by us", group.part(not_ours), 0.2, 0.6, 2, needed=True),
        _feature("client networks", len(group.networks), 3, 12, 3, needed=True),
        _feature("share of the largest network", group.part(top), 0.8, 0.4, 2, needed=True),
        _feature("different messages", len(group.originals), 1, 5, 1),
    )


def directory_harvest(group: Group, around: Around) -> Explanation:
    """Somebody tries which addresses exist: many names that do not, from one network or a few."""
    source = (
        (
            _feature("times the next network", _ratio(group.volume, around.next_largest), 2, 6, 1, needed=True),
            _feature("share of the refusals around it", group.volume / around.volume, 0.15, 0.5, 1),
        )
        if group.subject is Subject.CLIENT
        # When our own list of users is lost, everybody asks for few names, and many ask for the same.
        else (_feature("names tried by a network", group.names_tried / len(group.networks), 2, 6, 2, needed=True),)
    )
    return _explanation(
        Cause.DIRECTORY_HARVEST,
        _feature("share of unknown users", group.share(Category.UNKNOWN_USER), 0.5, 0.8, 3, needed=True),
        _feature("names tried", group.names_tried, 10, 40, 3, needed=True),
        _feature("names in one refusal", group.part(group.names_tried), 0.2, 0.6, 2, needed=True),
        *source,
    )


def rogue_server(group: Group, around: Around) -> Explanation:
    """One host or network behaves unlike all others: it sends nearly everything, and often the same again."""
    distinct = group.names_tried if group.flow is Flow.OUTSIDE else len(group.originals)
    repeated = 1 - min(1.0, group.part(distinct))
    return _explanation(
        Cause.ROGUE_SERVER,
        *_unlike_the_rest(group, around),
        _feature("share of repetition", repeated, 0.3, 0.8, 2, needed=group.flow is Flow.OUTSIDE),
    )


def refusing_destination(group: Group, around: Around) -> Explanation:
    """One destination refuses the mail of many accounts, others do not."""
    return _explanation(
        Cause.ROGUE_SERVER,
        *_unlike_the_rest(group, around),
        _feature("accounts", len(group.accounts), 1, 5, 2, needed=True),
    )


def _unlike_the_rest(group: Group, around: Around) -> tuple[Feature, ...]:
    share = group.volume / around.volume
    return (
        _feature("share of all around it", share, 0.15, 0.5, 2, needed=True),
        _feature("share beyond most of it", share, 0.6, 0.9, 2),
        _feature(f"times the next {group.subject}", _ratio(group.volume, around.next_largest), 2, 8, 2, needed=True),
    )


def spam_attack(group: Group, around: Around) -> Explanation:
    """An account, or a client, of ours sends spam: many destinations refuse it for that."""
    del around
    return _explanation(
        Cause.SPAM_ATTACK,
        _feature("share refused as spam", group.share(Category.SPAM), 0.1, 0.3, 3, needed=True),
        _feature("destinations", len(group.remotes), 2, 8, 2, needed=True),
        _one_sender(group),
    )


def old_list(group: Group, around: Around) -> Explanation:
    """A mailing of one account to many addresses that are gone: no harm, and nothing to do but to tidy up the list."""
    del around
    gone = group.share(Category.UNKNOWN_USER, Category.MAILBOX_FULL)
    return _explanation(
        Cause.OLD_LIST,
        _feature("share refused as spam", group.share(Category.SPAM), 0.25, 0.1, 3, needed=True),
        _feature("share of unknown users and full mailboxes", gone, 0.5, 0.8, 3, needed=True),
        _feature("destinations", len(group.remotes), 2, 8, 2, needed=True),
        _one_sender(group),
        _feature("networks it was sent from", len(group.sending_networks), 4, 2, 1, needed=True),
        # Personal mailings have a Message-ID for each recipient: so this is not needed.
        _feature("different messages for one recipient", group.part(len(group.originals)), 0.5, 0.1, 2),
    )


def _one_sender(group: Group) -> Feature:
    """Return how much of it one account or one client has sent: addresses of ours that are listed concern many."""
    top = max(largest(group.accounts), largest(group.sending_networks))
    return _feature("share of the largest account or client", group.part(top), 0.3, 0.8, 2, needed=True)


Score = Callable[[Group, Around], Explanation]

_SCORES: Final[Mapping[Flow, tuple[Score, ...]]] = {
    Flow.NOT_OURS: (spoofing_campaign,),
    Flow.OUTSIDE: (directory_harvest,),
    Flow.OWN: (spam_attack, old_list),
}


def explain(group: Group, around: Around) -> Sequence[Explanation]:
    """Return the likely cause of a group, `UNCLEAR` where none is likely, then all others that it may have."""
    order = list(Cause)
    found = sorted((score(group, around) for score in _scores_of(group)), key=lambda one: order.index(one.cause))
    likely = [one for one in found if one.score >= LEAST_SCORE]
    if not likely:
        nearest = max(found, key=lambda one: one.merit)
        return [Explanation(cause=Cause.UNCLEAR, features=nearest.features), *found]
    best = max(one.score for one in likely)
    chosen = next(one for one in likely if one.score > best - NEAR_TIE)
    return [chosen, *(one for one in found if one is not chosen)]


def _scores_of(group: Group) -> Sequence[Score]:
    """Return the causes that a group may have. A domain or an account is no server; a campaign has no one client."""
    match group.subject:
        case Subject.DESTINATION:
            return (refusing_destination,)
        case Subject.CLIENT:
            return (rogue_server,) if group.flow is Flow.NOT_OURS else (directory_harvest, rogue_server)
        case Subject.ACCOUNT | Subject.DOMAIN:
            return _SCORES[group.flow]


def _explanation(cause: Cause, *features: Feature) -> Explanation:
    return Explanation(cause=cause, features=features)


def _feature(name: str, value: float, nothing: float, enough: float, weight: int, *, needed: bool = False) -> Feature:
    return Feature(
        name=name, value=float(value), nothing=float(nothing), enough=float(enough), weight=weight, needed=needed
    )


def _ratio(amount: int, other: int) -> float:
    return amount / other if other else _MOST
