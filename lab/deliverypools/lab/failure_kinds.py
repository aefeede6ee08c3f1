"""The kinds of mail that meet a failure, and what can become of each: the closed sets of docs/failures.md."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final


class Kind(enum.Enum):
    """One kind of mail; the value is what docs/failures.md calls it."""

    SUBMISSION = "submitted, to outside"
    MIXED_OUTSIDE = "submitted, to a mailbox and to outside: the copy for outside"
    MIXED_LOCAL = "the same: the copy for the mailbox"
    SENDMAIL = "sendmail(1), to outside"
    INBOUND = "from outside, to a mailbox"
    ALIAS = "from outside, forwarded by an alias"
    DOT_FORWARD = "from outside, forwarded by ~/.forward"
    NOTICE_TO_US = "Postfix's own NDR, to a mailbox"
    NOTICE_TO_OUTSIDE = "Postfix's own NDR, to outside"
    DSN = "a DSN from outside, to a mailbox"
    SRS_BOUNCE = "a DSN from outside, to an SRS address"
    REQUEUED = "deferred mail, requeued"
    REQUEUED_SPAM = "deferred mail that is spam, requeued"


class Place(enum.Enum):
    """Where a message arrives, exactly once; the value is its word in the table."""

    NORMAL = "normal"
    HIGH_RISK = "high-risk"
    RELAY = "relay"
    MAILBOX = "mailbox"
    MAILBOX_UNMARKED = "mailbox, unmarked"
    """A DSN that could not be compared with what was sent: it is not told genuine."""
    MAILBOX_PERHAPS_MARKED = "mailbox, marked or not"
    """Either of these: it depends on how busy the state is."""
    NOWHERE = ""
    """It was refused for good."""


class Meanwhile(enum.Enum):
    """What is seen of a message while the failure lasts; the value is its word in the table."""

    ARRIVES = ""
    WAITS = "waits"
    """In Postfix's queue or maildrop; it leaves by itself after the repair."""
    REFUSED = "4xx"
    """Its client is told to try again, and queues it."""
    NO_ANSWER = "silence"
    """Its client waits for a reply, gives up, and queues it."""
    UNREACHABLE = "no connection"
    """Its client finds nobody on port 25, and queues it."""
    NOT_TAKEN = "refused by sendmail"
    """sendmail(1) ends with an error, so that the program that called it knows."""
    REFUSED_FOR_GOOD = "5xx"
    """Its client is told not to try again."""


WHEN_WELL: Final[Mapping[Kind, Place]] = {
    Kind.SUBMISSION: Place.NORMAL,
    Kind.MIXED_OUTSIDE: Place.NORMAL,
    Kind.MIXED_LOCAL: Place.MAILBOX,
    Kind.SENDMAIL: Place.NORMAL,
    Kind.INBOUND: Place.MAILBOX,
    Kind.ALIAS: Place.RELAY,
    Kind.DOT_FORWARD: Place.RELAY,
    Kind.NOTICE_TO_US: Place.MAILBOX,
    Kind.NOTICE_TO_OUTSIDE: Place.HIGH_RISK,
    Kind.DSN: Place.MAILBOX,
    Kind.SRS_BOUNCE: Place.HIGH_RISK,
    Kind.REQUEUED: Place.NORMAL,
    Kind.REQUEUED_SPAM: Place.HIGH_RISK,
}
"""Where each kind arrives while nothing fails."""

BY_SMTP: Final = (
    Kind.SUBMISSION,
    Kind.MIXED_OUTSIDE,
    Kind.MIXED_LOCAL,
    Kind.INBOUND,
    Kind.ALIAS,
    Kind.DOT_FORWARD,
    Kind.DSN,
    Kind.SRS_BOUNCE,
)
"""What a client brings: while it is not taken, the client keeps it."""
QUEUED_BEFORE: Final = (Kind.NOTICE_TO_US, Kind.NOTICE_TO_OUTSIDE, Kind.REQUEUED, Kind.REQUEUED_SPAM)
"""What is in the queue when the failure begins."""
LEAVING: Final = (
    Kind.SUBMISSION,
    Kind.MIXED_OUTSIDE,
    Kind.SENDMAIL,
    Kind.ALIAS,
    Kind.DOT_FORWARD,
    Kind.NOTICE_TO_OUTSIDE,
    Kind.SRS_BOUNCE,
    Kind.REQUEUED,
    Kind.REQUEUED_SPAM,
)
"""What takes the hop."""
