"""What surges are made of: one event for each notice, and for the refused recipients of one connection."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from deliverypools.core.facts import printable

LONGEST_REPLY: Final = 100
"""Characters."""


class Way(StrEnum):
    """How an event came about."""

    ARRIVED = "arrived"
    """A DSN arrived from outside for one of our users."""
    MADE = "made"
    """This Postfix has made a notice about a message that it could not deliver."""
    REFUSED = "refused"
    """Recipients that do not exist were refused at RCPT TO."""


class Category(StrEnum):
    """Why a recipient was not reached."""

    UNKNOWN_USER = "unknown-user"
    MAILBOX_FULL = "mailbox-full"
    SPAM = "spam"
    """The message, or its sender, was refused as spam or for a bad reputation."""
    UNREACHABLE = "unreachable"
    """The destination did not answer, could not be found, or had no time for us: 4xx until it was given up."""
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class NdrEvent:
    """One event. All texts are printable and bounded; names of hosts and domains are lower case."""

    event_id: str
    """The same event is noted once: host and queue id, or host and connection."""
    at: float
    """Seconds since the epoch."""
    way: Way
    domain: str
    """Accepted domain concerned: of our user who gets the DSN, of the sender of what failed, of the refused
    recipients; "" where none is."""
    address: str = ""
    """The address of ours that gets the DSN, or whose message failed, or the first one that was refused."""
    account: str = ""
    """The responsible account, where what failed was sent by one."""
    verdict: str = ""
    """`genuine`, `backscatter`, `unknown` (`dsn.was_it_ours.Verdict`): whether what failed was sent by us."""
    category: Category = Category.OTHER
    client: str = ""
    """Address of the client that delivered the DSN, was refused, or had sent what failed; IPv6 as its /64 network."""
    remote: str = ""
    """Domain of the recipient that was not reached."""
    original: str = ""
    """What the message that failed is known by: a digest of its Message-ID, or "". The same for one mailing."""
    amount: int = 1
    """Recipients that were not reached or were refused."""
    local_parts: int = 1
    """How many different local parts these had."""
    reply: str = ""
    """How what the server said begins (`reply_of`), of the first recipient; "" where nobody is quoted."""


def reply_of(diagnostic: str) -> str:
    """Return as much of what a server said as an event keeps."""
    return printable(diagnostic, LONGEST_REPLY)
