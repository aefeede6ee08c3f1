"""The likely cause of a surge: a score of named features for each cause, which anybody can check by hand.

A feature is a number that is measured, and two values of it: at `nothing` it says nothing for the cause, at `enough`
all that it can say, and between them in proportion. The score of a cause is what its features earn of their weights. A
feature that is `needed` must earn half of its own weight, otherwise the cause is none. The cause with the highest score
is named if that is at least `LEAST_SCORE`. Of scores that differ by less than `NEAR_TIE`, the cause that comes first in
`Cause` wins: first what accuses nobody, then what our own users do, for it can be stopped, and last what harms nobody.
`OLD_LIST_OR_STOLEN_PASSWORD` is named only where no other cause is likely.

What cannot be fooled: who brought a notice or asked for recipients is the peer of a TCP connection, not what a notice
says of itself; a forged reporting MTA changes nothing. Whether a message was ours is what our own decision log says.
What can be fooled:
- Whoever has many networks can look like many: one sender of false notices is taken for a spoofing campaign, and a
  harvest by a botnet that asks for one name from each address looks like users that are gone. That is `unclear`.
- Whoever got a message of an account knows its Message-ID and can invent notices about it, destinations and reasons
  included: they look like a spam attack of that account, or an old list. The alert shows who brought them.
- Whoever forges the domain of one customer from the network of another blames nobody: the network is what is shown.
- A spam attack of one message from one network, of which nearly nothing is refused as spam, looks like an old list and
  is only logged. The limits on what an account may send do not depend on this.
- Many stolen passwords that are used to the same extent look like addresses of ours that are listed: they soon are.
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
NO_OTHER: Final = 1000.0
"""A ratio whose other side is nothing."""
_HOURS_OF_A_DAY: Final = 24
_FEW_DAYS: Final = 4.0
"""Of usual volume: a mailing to all who get it each day, or to all on some days, is within that."""


class Cause(StrEnum):
    """Why there are so many notices or refusals; the order decides near ties."""

    LISTED_ADDRESS = "listed-address"
    """Addresses that we send from are on a block list, or have a bad reputation: mail of many accounts is refused."""
    SPAM_ATTACK = "spam-attack"
    DIRECTORY_HARVEST = "directory-harvest"
    SPOOFING_CAMPAIGN = "spoofing-campaign"
    ROGUE_SERVER = "rogue-server"
    """A host or network unlike the others; a destination that refuses us."""
    DESTINATION_DOWN = "destination-down"
    """A destination that cannot be reached."""
    OLD_LIST = "old-list"
    """Harmless: a mailing of one account, to addresses that are gone."""
    OLD_LIST_OR_STOLEN_PASSWORD = "old-list-or-stolen-password"  # noqa: S105  (a name)
    """Mail of one account to addresses that are gone, and nothing that tells whether it is his."""
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
    usual: float = 0.0
    """Of the group itself, in an hour."""


def alone(group: Group, usual: float = 0.0) -> Around:
    """Return surroundings in which nothing else happened."""
    return Around(group.volume, 0, usual)


def spoofing_campaign(group: Group, around: Around) -> Explanation:
    """Somebody sends as one of our domains: notices about mail we never sent, from servers all over the world."""
    del around
    unknown = group.amounts(lambda event: event.verdict)[Verdict.UNKNOWN]
    not_ours = group.share_not_ours + group.part(unknown) / 2
    top = largest(group.networks)
    return _explanation(
        Cause.SPOOFING_CAMPAIGN,
        # In the first days, and of notices that return nothing, nothing else is known: then it is no evidence.
        _feature("share known not to be ours", group.share_not_ours, 0.0, 0.2, 2, needed=True),
        # "Unknown" counts half: it may have been ours.
        _feature("share not sent by us", not_ours, 0.2, 0.6, 2, needed=True),
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
    # A provider's many notices about many messages are about a mailing of ours, as long as nobody knows better.
    odd = (
        _feature("share of repetition", repeated, 0.3, 0.8, 2, needed=True)
        if group.flow is Flow.OUTSIDE
        else _feature("share of repetition, or not ours", max(repeated, group.share_not_ours), 0.0, 0.5, 2, needed=True)
    )
    return _explanation(Cause.ROGUE_SERVER, *_unlike_the_rest(group, around), odd)


def refusing_destination(group: Group, around: Around) -> Explanation:
    """One destination refuses the mail of many accounts, others do not."""
    return _explanation(
        Cause.ROGUE_SERVER,
        *_unlike_the_rest(group, around),
        _feature("accounts", len(group.accounts), 1, 5, 2, needed=True),
        _feature(
            "share that could not be delivered at all", group.share(Category.UNREACHABLE), 0.8, 0.2, 2, needed=True
        ),
    )


def destination_down(group: Group, around: Around) -> Explanation:
    """One destination does not answer, or answers that it cannot now, until mail to it is too old; others do not."""
    return _explanation(
        Cause.DESTINATION_DOWN,
        *_unlike_the_rest(group, around),
        _feature(
            "share that could not be delivered at all", group.share(Category.UNREACHABLE), 0.2, 0.8, 3, needed=True
        ),
    )


def _unlike_the_rest(group: Group, around: Around) -> tuple[Feature, ...]:
    share = group.volume / around.volume
    return (
        _feature("share of all around it", share, 0.15, 0.5, 2, needed=True),
        _feature("share beyond most of it", share, 0.6, 0.9, 2),
        _feature(f"times the next {group.subject}", _ratio(group.volume, around.next_largest), 2, 8, 2, needed=True),
    )


def listed_address(group: Group, around: Around) -> Explanation:
    """Mail of many accounts is refused as spam at many destinations: not the accounts have changed, but our name."""
    top = group.part(largest(group.accounts))
    return _explanation(
        Cause.LISTED_ADDRESS,
        _feature("accounts", len(group.accounts), 2, 12, 3, needed=True),
        _feature("destinations", len(group.remotes), 2, 8, 2, needed=True),
        _feature("share of the largest account", top, 0.5, 0.2, 2, needed=True),
        # Where it is a website that sends with many senders, many of the recipients do not exist.
        _feature(
            "unknown users from there, for one refused", around.volume / group.volume - 1, 1.0, 0.4, 2, needed=True
        ),
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
    # Who sends as much every day, with a Message-ID for each reader or not, is known for it.
    days = group.volume / (around.usual * _HOURS_OF_A_DAY) if around.usual else NO_OTHER
    messages = group.part(len(group.originals))
    return _explanation(
        Cause.OLD_LIST,
        _feature(
            "share refused as spam", group.share(Category.SPAM), *((0.2, 0.0) if days < _FEW_DAYS else (0.05, 0.01)), 3,
            needed=True,
        ),
        *_to_nobody(group, (Category.UNKNOWN_USER, Category.MAILBOX_FULL)),
        _feature("networks it was sent from", len(group.sending_networks), 4, 2, 1, needed=True),
        _feature("different messages for one recipient", messages, 0.5, 0.1, 2, needed=days >= _FEW_DAYS),
    )  # fmt: skip


def old_list_or_stolen_password(group: Group, around: Around) -> Explanation:
    """Mail of one account to many addresses that are gone, but not as a mailing of his would be: somebody must look."""
    del around
    return _explanation(
        Cause.OLD_LIST_OR_STOLEN_PASSWORD,
        *_to_nobody(group, (Category.UNKNOWN_USER, Category.MAILBOX_FULL, Category.SPAM)),
    )


def _to_nobody(group: Group, reasons: Sequence[Category]) -> tuple[Feature, ...]:
    """Return what makes a mailing of one account to addresses that do not take it."""
    return (
        _feature(f"share of {', '.join(reasons)}", group.share(*reasons), 0.5, 0.8, 3, needed=True),
        _feature("destinations", len(group.remotes), 2, 8, 2, needed=True),
        _feature("share of the largest account", group.part(largest(group.accounts)), 0.3, 0.8, 2, needed=True),
    )


def _one_sender(group: Group) -> Feature:
    """Return how much of it one account or one client has sent."""
    top = max(largest(group.accounts), largest(group.sending_networks))
    return _feature("share of the largest account or client", group.part(top), 0.3, 0.8, 2, needed=True)


Score = Callable[[Group, Around], Explanation]

_SCORES: Final[Mapping[Flow, tuple[Score, ...]]] = {
    Flow.NOT_OURS: (spoofing_campaign,),
    Flow.OUTSIDE: (directory_harvest,),
    Flow.OWN: (spam_attack, old_list, old_list_or_stolen_password),
}


def explain(group: Group, around: Around) -> Sequence[Explanation]:
    """Return the likely cause of a group, `UNCLEAR` where none is likely, then all others that it may have."""
    order = list(Cause)
    found = sorted((score(group, around) for score in _scores_of(group)), key=lambda one: order.index(one.cause))
    likely = [one for one in found if one.score >= LEAST_SCORE]
    if not likely:
        nearest = max(found, key=lambda one: one.merit)
        return [Explanation(cause=Cause.UNCLEAR, features=nearest.features), *found]
    certain = [one for one in likely if one.cause is not Cause.OLD_LIST_OR_STOLEN_PASSWORD] or likely
    best = max(one.score for one in certain)
    chosen = next(one for one in certain if one.score > best - NEAR_TIE)
    return [chosen, *(one for one in found if one is not chosen)]


def _scores_of(group: Group) -> Sequence[Score]:
    """Return the causes that a group may have. A domain or an account is no server; a campaign has no one client."""
    match group.subject:
        case Subject.EVERYBODY:
            return (listed_address,)
        case Subject.DESTINATION:
            return (refusing_destination, destination_down)
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
    return amount / other if other else NO_OTHER
