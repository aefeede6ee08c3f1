"""Why a recipient was not reached, from what the server answered: for the cause of a surge, so roughly."""

from __future__ import annotations

import re
from typing import Final

from deliverypools.core.dsn.recipient_statuses import RecipientStatus, enhanced_status
from deliverypools.core.surges.events import Category

_MOST_TEXT: Final = 4000

_BY_STATUS: Final = {
    # Subject and detail of RFC 3463 and of the registry of enhanced status codes.
    "1.1": Category.UNKNOWN_USER,
    "1.6": Category.UNKNOWN_USER,  # the mailbox has moved
    "1.10": Category.UNKNOWN_USER,  # null MX (RFC 7505); Exchange says so of any mailbox
    "2.1": Category.UNKNOWN_USER,  # the mailbox is disabled
    "2.2": Category.MAILBOX_FULL,
    # Exchange Online
    "1.8": Category.SPAM,  # "bad outbound sender"
    "7.350": Category.SPAM,
}
_NOT_ROUTED: Final = ("5.4.3", "5.4.4", "5.4.6", "5.4.7")
"""RFC 3463 section 3.5. Not 5.4.1: Exchange says so of unknown users."""
_BY_REPLY: Final = {"551": Category.UNKNOWN_USER, "552": Category.MAILBOX_FULL}
"""SMTP replies without an enhanced status code (RFC 5321 section 4.2.2)."""

_CLEARLY_SPAM: Final = re.compile(
    r"black ?list|block ?list|\b(?:dns|r)bl\b|spamhaus|spamcop|barracuda|\bsorbs\b|uribl|surbl"
    r"|blocked (?:using|by|for|due)|listed (?:in|on|at|by) |(?:poor|bad|low|ip|sender|domain|your) reputation"
    r"|(?:considered|classified|identified|detected|marked|rejected|looks? like|suspected|likely|because of)"
    r" (?:as |to be |is |be )?(?:an? )?(?:unsolicited|spam|bulk|junk)"
    r"|unsolicited (?:bulk |commercial )?e?-?mail|spam (?:message|score|content|filter|detected)|banned sending ip"
)
"""Says more than the code before it: many servers answer 5.1.1 or 5.0.0 to spam."""
_TOO_LARGE: Final = re.compile(r"message (?:size|is too large|too large|too big)|exceeds (?:the )?(?:maximum|size)")
_TEXTS: Final = (
    (
        Category.UNKNOWN_USER,
        re.compile(
            r"(?:user|recipient|mailbox|address|account|addressee|alias)\b.{0,80}?"
            r"(?:unknown|not (?:found|known|exist|listed|active|a valid|valid|here|local)|n't (?:exist|found|have)"
            r"|(?:does|do|did) not exist|invalid|disabled|inactive|suspended|unavailable|no longer|undeliverable)"
            r"|(?:unknown|invalid|no such|nonexist\w{1,5}|bad|deactivated|not an? (?:known|valid|active))[ _]"
            r"(?:local |destination )?(?:user|recipient|mail ?box|address|account|person|part)"
            r"|no (?:mail ?box|user|account|recipient)\b|does(?: not|n't) have an? .{0,40}account|user not local"
            r"|rcpt .{0,80}does not exist"
        ),
    ),
    (
        Category.MAILBOX_FULL,
        re.compile(
            r"quota|(?:mailbox|inbox|account)\b.{0,40}?\b(?:full|exceeded|over(?:\b|drawn))"
            r"|(?:mailbox|storage|disk|enough) (?:space|limit|storage)"
            r"|insufficient (?:system )?storage|out of (?:disk )?space"
        ),
    ),
    (
        Category.SPAM,
        re.compile(
            r"spam|unsolicited|\bube\b|junk ?mail|bulk (?:e-?)?mail|mass mail|content (?:filter|reject)"
            r"|\breputation\b|\bblocked\b|\bvirus\b|\bmalware\b|\bphish"
        ),
    ),
)
"""What is said where the code tells nothing; the first that is found counts."""

_UNREACHABLE: Final = re.compile(
    r"timed? ?-?out|connection (?:refused|reset|lost)|lost connection|no route to host|network is unreachable"
    r"|(?:host|domain|server) (?:or domain name )?(?:not found|unreachable|is down)|name service error"
    r"|mail for .{1,255} loops back|cannot (?:connect|be reached)|unable to connect|(?<![\d.])4\d\d[ -]"
)

# In addresses and names of hosts any word may stand.
_NAMES: Final = re.compile(r"\S{1,200}@\S{1,200}|\bhost \S{1,300} (?:said|refused)")
_REPLY: Final = re.compile(r"(?<![\d.])[45]\d\d(?=[ -])")


def category_of(status: RecipientStatus, text: str) -> Category:
    """Return why a recipient was not reached; `text` is what the notice says where the server's answer is not given."""
    said = _NAMES.sub(" ", (status.diagnostic or text)[:_MOST_TEXT].lower())
    if _CLEARLY_SPAM.search(said):
        return Category.SPAM
    if by_status := _BY_STATUS.get(status.status[2:]) or _BY_STATUS.get(enhanced_status(status.diagnostic)[2:]):
        return by_status
    if _TOO_LARGE.search(said):
        return Category.OTHER
    if by_text := next((category for category, pattern in _TEXTS if pattern.search(said)), None):
        return by_text
    reply = _REPLY.search(said) if status.status.endswith(".0.0") or not status.status else None
    if by_reply := _BY_REPLY.get(reply[0]) if reply else None:
        return by_reply
    return Category.UNREACHABLE if _is_unreachable(status, said) else Category.OTHER


def _is_unreachable(status: RecipientStatus, said: str) -> bool:
    """Tell whether a destination failed rather than refused: it was tried until the message was too old."""
    code = status.status or enhanced_status(status.diagnostic)
    return code.startswith("4.") or code in _NOT_ROUTED or _UNREACHABLE.search(said) is not None
