"""One line of the mail log, as a replay needs it: who sent a message, how large it is, and to whom it went.

Like `audit.lines`, which see: strangers write into these lines, so they are read from the left, each field by its own
grammar, and only where a Postfix program writes it.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, TypeAlias

from deliverypools.core.audit.lines import ADDRESS, DELIVERY_PROGRAMS, HEAD, QUEUE_ID
from deliverypools.core.audit.times import LogTimes

LISTENER_TAG: Final = "egress-in"
"""In the name that the hop's listener logs under."""

_CLIENT: Final = re.compile(
    rf"(?P<queue_id>{QUEUE_ID}): client=[^\s\[\],]{{1,255}}\[(?P<address>[0-9A-Fa-f.:]{{2,45}})\](?::\d{{1,5}})?"
    r"(?P<rest>(?:, [a-z_]{1,20}=[^\s,]{0,512}){0,8})\Z"
)
_SASL: Final = re.compile(r", sasl_username=(?P<name>[^\s,]{1,512})")
_PICKED_UP: Final = re.compile(rf"(?P<queue_id>{QUEUE_ID}): uid=(?P<user_id>\d{{1,10}}) from=<{ADDRESS}>\Z")
_MESSAGE_ID: Final = re.compile(rf"(?P<queue_id>{QUEUE_ID}): (?:resent-)?message-id=(?P<message_id>.{{0,1000}})")
_QUEUED: Final = re.compile(
    rf"(?P<queue_id>{QUEUE_ID}): from=<(?P<sender>{ADDRESS})>, "
    r"size=(?P<size>\d{1,15}), nrcpt=(?P<number>\d{1,7}) \("
)
_DELIVERY: Final = re.compile(
    rf"(?P<queue_id>{QUEUE_ID}): to=<(?P<recipient>{ADDRESS})>, (?:orig_to=<(?P<accepted>{ADDRESS})>, )?"
    r"relay=(?P<relay>[^\s,]{1,512}), "
)
_REMOVED: Final = re.compile(rf"(?P<queue_id>{QUEUE_ID}): removed\Z")
_REFUSED: Final = re.compile(rf"(?P<queue_id>{QUEUE_ID}): (?:milter-)?reject: ")
_LOOPBACK: Final = re.compile(r"\[(?:127\.\d{1,3}\.\d{1,3}\.\d{1,3}|::1)\]")


class Accepted(NamedTuple):
    """An SMTP client sends a message."""

    queue_id: str
    client_address: str
    sasl_username: str
    is_sent_on: bool
    """It is no new message: the hop, or a content filter, gives it back."""


class PickedUp(NamedTuple):
    """sendmail(1) has sent a message."""

    queue_id: str
    user_id: int


class Identified(NamedTuple):
    """The Message-ID of a message."""

    queue_id: str
    message_id: str


class Queued(NamedTuple):
    """A message is complete, and is delivered, or tried again."""

    queue_id: str
    envelope_sender: str
    size_bytes: int
    recipients: int
    """After aliases were expanded."""


class Tried(NamedTuple):
    """A delivery agent has tried one recipient."""

    queue_id: str
    recipient: str
    accepted_as: str
    """The recipient as the client gave it."""
    stays_here: bool
    """It goes to a mailbox, to another program or to this very machine, not to another host."""


class Removed(NamedTuple):
    """A queue file is gone."""

    queue_id: str


MailEvent: TypeAlias = Accepted | PickedUp | Identified | Queued | Tried | Removed


class MailLine(NamedTuple):
    """A line that tells something."""

    at: float
    """Seconds since the epoch."""
    host: str
    event: MailEvent


def read_mail_line(text: str, times: LogTimes) -> MailLine | None:
    """Return what a line tells; None where that is nothing. Never raises, whatever the line holds."""
    head = HEAD.match(text)
    if head is None:
        return None
    event = _event(head["tag"], text[head.end() :])
    at = times.seconds(head["when"]) if event is not None else None
    return MailLine(at, head["host"] or "", event) if event is not None and at is not None else None


def _event(tag: str, text: str) -> MailEvent | None:
    program = tag.rpartition("/")[2]
    if program in DELIVERY_PROGRAMS:
        return _tried(tag, program, text)
    match program:
        case "smtpd":
            return _of_server(tag, text)
        case "cleanup":
            match = _MESSAGE_ID.match(text)
            return Identified(match["queue_id"], match["message_id"].strip()) if match else _refused(text)
        case "pickup":
            match = _PICKED_UP.match(text)
            return PickedUp(match["queue_id"], int(match["user_id"])) if match else None
        case "qmgr":
            return _of_queue_manager(text)
    return None


def _of_server(tag: str, text: str) -> MailEvent | None:
    match = _CLIENT.match(text)
    if match is None:
        return _refused(text)
    sasl = _SASL.search(match["rest"])
    is_sent_on = LISTENER_TAG in tag.split("/") or ", orig_queue_id=" in match["rest"]
    return Accepted(match["queue_id"], match["address"], sasl["name"] if sasl else "", is_sent_on)


def _refused(text: str) -> Removed | None:
    """Return that a queue file is gone because its message was refused at its end."""
    match = _REFUSED.match(text)
    return Removed(match["queue_id"]) if match and "END-OF-MESSAGE" in text[: match.end() + 20] else None


def _of_queue_manager(text: str) -> MailEvent | None:
    if match := _QUEUED.match(text):
        return Queued(match["queue_id"], match["sender"], int(match["size"]), int(match["number"]))
    match = _REMOVED.match(text)
    return Removed(match["queue_id"]) if match else None


def _tried(tag: str, program: str, text: str) -> Tried | None:
    match = _DELIVERY.match(text)
    if match is None or "status=deliverable" in text or "status=undeliverable" in text:
        return None
    is_hop = tag.endswith("egress/smtp")
    stays_here = program != "smtp" or is_hop or _LOOPBACK.search(match["relay"]) is not None
    return Tried(match["queue_id"], match["recipient"], match["accepted"] or match["recipient"], stays_here)
