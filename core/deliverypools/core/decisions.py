"""What a rule may answer about a message, and what is decided: the words of `rules`, and of those who carry it out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from deliverypools.core.facts import MessageFacts
from deliverypools.core.settings import Settings
from deliverypools.core.settings.values import NO_POOL_NAME

NORMAL: Final = "normal"
HIGH_RISK: Final = "high-risk"
RELAY: Final = "relay"

SPAM: Final = "spam"
MALWARE: Final = "malware"
ABOUT_CONTENT: Final = (SPAM, MALWARE)
RESTRICTED_SENDER: Final = "restricted_sender"
OVER_LIMIT: Final = "over_limit"
"""Rules that make a message suspicious, by name."""

FORWARDED: Final = "forwarded"
FORWARDING_REFUSED: Final = "forwarding_refused"
"""Rules about forwarded mail, by name."""

REFUSED_TAG: Final = NO_POOL_NAME
"""Stands in the place of a pool's name where a message does not leave."""
REFUSED_CONTENT_TAG: Final = f"{NO_POOL_NAME} content"
"""The same, where spam or malware is the reason: Postfix's notice has another text."""

UNDECIDED: Final = "undecided"
"""The rule's name of a message that could not be decided."""


class Refusal(Enum):
    """The message does not leave, and somebody is told."""

    TO_SENDER = "sender"
    """Postfix returns it to the sender, who is known to be legitimate."""
    TO_FORWARDER = "forwarder"
    """Postfix returns it to the mailbox of ours that forwards it: the sender may be forged."""
    TO_POSTMASTER = "postmaster"
    """Postfix returns it to postmaster: the sender may be forged, and so it is of no use to tell the mailbox."""


@dataclass(frozen=True, slots=True)
class Match:
    """The message belongs into `pool`; `reasons` are the evidence."""

    pool: str
    reasons: tuple[str, ...]
    hold: bool = False
    """It waits in Postfix's hold queue until an administrator releases it."""
    refusal: Refusal | None = None
    """It does not leave at all."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Cannot be told now. `pools` are those that the rule may turn out to choose."""

    pools: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class NotAsked:
    """The evidence was not looked for."""


Rule = Callable[[MessageFacts, Settings], Match | Unknown | NotAsked | None]


@dataclass(frozen=True, slots=True)
class Asked:
    """A rule that was asked, and what it answered."""

    rule: str
    answer: str
    """`no`, `match`, `unknown` or `not_asked`."""
    reasons: tuple[str, ...] = ()
    """Of a match; why it is unknown."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The pool of a message, the rule that chose it and its reasons. `pool` is None while it is undecided."""

    pool: str | None
    rule: str
    reasons: tuple[str, ...]
    not_asked: tuple[str, ...] = ()
    """Names of the rules before this one whose evidence was not looked for."""
    hold: bool = False
    """It waits in Postfix's hold queue; if it is let go by hand, it leaves by `pool`."""
    refusal: Refusal | None = None
    """It does not leave at all; who is told."""
    asked: tuple[Asked, ...] = field(default=(), compare=False, repr=False)
    """The rules that were asked, in their order; those behind a match were not."""
