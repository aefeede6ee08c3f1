"""One line of the mail log: which queue file it is about, and what happened to that.

A line holds what strangers wrote: recipients, Message-IDs, what other servers replied. So it is read from the left,
each field by its own grammar, and only where a Postfix program writes it: "status=sent" in a Message-ID is text.
Postfix itself puts a recipient with odd characters into quotes (info_log_address_format = external, its default).
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, TypeAlias

from deliverypools.core.audit.times import FORMS, LogTimes
from deliverypools.core.records import DECIDING_PASSES

QUEUE_ID: Final = r"(?:[0-9A-F]{5,20}|[0-9B-DF-HJ-NP-TV-Zb-df-hj-np-tv-z]{12,30})"
"""Short ids are hexadecimal; long ones have no vowels, so that no word is one."""

# No way back into a part that has matched (?>...): hostile lines cost as much as others.
ADDRESS: Final = r'(?>[^<>"]+|"(?>[^"\\]+|\\.)*+")*+'

_PRIORITY: Final = r"[a-z0-9]{2,8}\.[a-z]{3,7}"

HEAD: Final = re.compile(
    # The host may be left out. What ends with a colon is a tag; else the queue id would pass for one.
    rf"(?:<\d{{1,3}}>(?:1 )?)?(?P<when>{FORMS}) {{1,4}}(?:(?P<host>[^\s]{{0,254}}[^\s:]) {{1,4}})?"
    # Some loggers name facility and severity: busybox before the tag, Solaris after it.
    rf"(?:{_PRIORITY} )?(?P<tag>[^\s\[\]:]{{1,128}})"
    # "[123]:" of syslog, or " 123 - -" of RFC 5424: process, message and structured data; UTF-8 begins with a mark.
    r"(?:(?:\[\d{1,10}\])?: | (?:\d{1,10}|-) [^\s]{1,32} (?:-|\[[^\]]{0,1000}\]) \ufeff?)"
    rf"(?:\[ID \d{{1,10}} {_PRIORITY}\] )?"
)
_DELIVERY: Final = re.compile(
    rf"(?P<queue_id>{QUEUE_ID}): to=<(?P<recipient>{ADDRESS})>, (?:orig_to=<{ADDRESS}>, )?relay=(?P<relay>[^\s,]+), "
    r"(?:conn_use=\d+, )?delay=[\d.]+, delays=[\d./]+, "
    # Postfix 3.11: tls=... (smtp_log_tls_feature_status); what later versions write there must not hide deliveries.
    r"(?:(?!(?:to|relay|dsn|status)=)[a-z_]{1,32}=[^\s,]{0,200}, ){0,8}+"
    r"dsn=[\d.]+, status=(?P<status>[A-Za-z-]+)(?: \(|\Z)"
)
# Words before the queue id may be a logger's. With a colon they are Postfix's, and what follows is another's text.
_ABOUT_RECIPIENT: Final = re.compile(rf"(?:[^:]{{0,64}}[^:0-9A-Za-z])?(?P<queue_id>{QUEUE_ID}): to=<")
_REMOVED: Final = re.compile(rf"(?P<queue_id>{QUEUE_ID}): removed\Z")
_EXPIRED: Final = re.compile(
    rf"(?P<queue_id>{QUEUE_ID}): from=<{ADDRESS}>, status=(?:force-)?expired, returned to sender\Z"
)
_CLEANUP: Final = re.compile(
    rf"(?P<queue_id>{QUEUE_ID}): (?P<what>message-id=|(?:milter-|milter-header-)?(?:hold|discard): |"
    r"(?:milter-header-)?filter: header X-Delivery-Pool:\s*(?P<tag>[a-z0-9-]{1,30}(?: content)?)"
    # One address of several, and the port of a probe: the pool's name comes first.
    r"(?:\s+\d{1,5})?(?:\s+probe-[46]\s+\d{1,5})?\s* from )"
)
_REQUEUED: Final = re.compile(rf"(?P<queue_id>{QUEUE_ID}): uid=\d+ from=<{ADDRESS}> orig_id=(?P<old>{QUEUE_ID})\Z")
_REFUSED: Final = re.compile(rf"(?P<queue_id>{QUEUE_ID}): (?:milter-)?reject: (?:END-OF-MESSAGE|header|body) ")
_PLACED_ON_HOLD: Final = re.compile(rf"(?P<queue_id>{QUEUE_ID}): placed on hold\Z")
_DECIDED: Final = re.compile(
    r"(?P<ours>delivery-pools/milter\[\d{1,10}\]: )?(?:[A-Z]{4,8}: )?"
    rf"(?P<queue_id>{QUEUE_ID}): pass=(?:{'|'.join(DECIDING_PASSES)}) pool=(?P<pool>[a-z0-9-]{{1,30}})"
    r"(?: shadow=(?P<shadow>[a-z0-9-]{1,30}))? rule=(?P<rule>\w{1,60})"
)

DELIVERY_PROGRAMS: Final = frozenset(("smtp", "lmtp", "local", "virtual", "pipe", "error", "discard"))
_POSTFIX_PROGRAMS: Final = DELIVERY_PROGRAMS | {"qmgr", "cleanup", "pickup", "postsuper", "smtpd", "bounce", "master"}


class Delivery(NamedTuple):
    """A delivery agent has tried one recipient."""

    queue_id: str
    recipient: str
    tag: str
    """As syslog has it: "postfix/pool-high-risk/smtp"."""
    relay: str
    """ "mx.example.com[198.51.100.25]:25"; "none" where no server was reached."""
    status: str
    """ "sent", "deferred", "bounced"; "softbounce" (soft_bounce = yes); "deliverable", "undeliverable" of a probe."""


class Begun(NamedTuple):
    """A queue file was made."""

    queue_id: str


class Removed(NamedTuple):
    """A queue file is gone: everybody has it, or was told why not, or its client was."""

    queue_id: str


class Expired(NamedTuple):
    """A message was given up, and returned."""

    queue_id: str


class Requeued(NamedTuple):
    """postsuper(1) has turned a queue file into a new one."""

    queue_id: str
    old_queue_id: str


class Tagged(NamedTuple):
    """Our tag in a message was acted on."""

    queue_id: str
    pool: str


class Held(NamedTuple):
    """A message was put on hold."""

    queue_id: str


class Discarded(NamedTuple):
    """cleanup(8) has thrown a message away, by order of a site's check or of a milter."""

    queue_id: str


class Decided(NamedTuple):
    """The milter's own line about a decision."""

    queue_id: str
    pool: str
    rule: str
    leaves_by: str
    """The pool that the message was tagged with: with `shadow` another than was decided."""


class Unreadable(NamedTuple):
    """A delivery agent wrote this about a recipient, and it is not understood."""

    queue_id: str
    tag: str


class Headless(NamedTuple):
    """It looks like a delivery, but who wrote it cannot be told: it begins as no line of a log that is known."""

    text: str


Event: TypeAlias = (
    Delivery | Begun | Removed | Expired | Requeued | Tagged | Held | Discarded | Decided | Unreadable | Headless | None
)


class Line(NamedTuple):
    """A line of the log."""

    at: float | None
    """Seconds since the epoch."""
    host: str
    """ "" if the log does not name it."""
    is_of_postfix: bool
    event: Event
    tag: str = ""
    """As syslog has it: "postfix/pool-high-risk/smtp"; "" if that is not known."""


def read_line(text: str, times: LogTimes) -> Line | None:
    """Return what a line says; None where it is no line of a log. Never raises, whatever the line holds."""
    head = HEAD.match(text)
    if head is None:
        return Line(None, "", is_of_postfix=False, event=Headless(text)) if _looks_like_delivery(text) else None
    tag = head["tag"]
    program = tag.rpartition("/")[2]
    rest = text[head.end() :]
    is_of_postfix = program in _POSTFIX_PROGRAMS
    event = _event(tag, program, rest) if is_of_postfix else _decided(tag, rest)
    return Line(times.seconds(head["when"]), head["host"] or "", is_of_postfix, event, tag)


def _looks_like_delivery(text: str) -> bool:
    return ": to=<" in text and "status=" in text


def _event(tag: str, program: str, text: str) -> Event:  # noqa: PLR0911  (one for each kind of program)
    if program in DELIVERY_PROGRAMS:
        return _delivery(tag, text)
    match program:
        case "qmgr":
            if match := _REMOVED.match(text):
                return Removed(match["queue_id"])
            return Expired(match["queue_id"]) if (match := _EXPIRED.match(text)) else None
        case "cleanup":
            return _cleanup(text)
        case "pickup":
            return Requeued(match["queue_id"], match["old"]) if (match := _REQUEUED.match(text)) else None
        case "smtpd":
            return Removed(match["queue_id"]) if (match := _REFUSED.match(text)) else None
        case "postsuper":
            return Held(match["queue_id"]) if (match := _PLACED_ON_HOLD.match(text)) else None
    return None


def _delivery(tag: str, text: str) -> Event:
    if match := _DELIVERY.match(text):
        return Delivery(match["queue_id"], match["recipient"], tag, match["relay"], match["status"].lower())
    return Unreadable(match["queue_id"], tag) if (match := _ABOUT_RECIPIENT.match(text)) else None


def _cleanup(text: str) -> Event:
    match = _CLEANUP.match(text)
    if match is None:
        return Removed(match["queue_id"]) if (match := _REFUSED.match(text)) else None
    queue_id, what = match["queue_id"], match["what"]
    if what == "message-id=":
        return Begun(queue_id)
    if match["tag"] is not None:
        return Tagged(queue_id, match["tag"])
    return Held(queue_id) if "hold" in what else Discarded(queue_id)


def _decided(tag: str, text: str) -> Event:
    """Return a decision. Its program is called as systemd or the terminal calls it, so the line may name it itself."""
    match = _DECIDED.match(text)
    if match is None or not (match["ours"] or tag.startswith("delivery-pools")):
        return None
    return Decided(match["queue_id"], match["pool"], match["rule"], match["shadow"] or match["pool"])
