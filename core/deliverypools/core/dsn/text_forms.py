"""Notices that are written for people alone: qmail, Exim, sendmail, Exchange, Gmail and others.

Where the returned message begins is told by a line of the program's own. Nothing else is looked for: what looks like
a header may be anything that somebody wrote.
"""

from __future__ import annotations

import re
from typing import Final

from deliverypools.core.dsn.recipient_statuses import (
    MOST_OF_A_DIAGNOSTIC,
    MOST_OF_AN_ADDRESS,
    RecipientStatus,
    enhanced_status,
)
from deliverypools.core.dsn.returned import Returned, read_returned
from deliverypools.core.facts import printable

_MOST_RECIPIENTS: Final = 100
_MOST_TEXT: Final = 64 * 1024
_MOST_DIAGNOSTIC_LINES: Final = 12

_SEPARATORS: Final = (
    # qmail, netqmail and their translations
    rb"--- (?:below this line|enclosed) is a copy of (?:the|your) (?:message|mail)\.",
    rb"--- mensaje original adjunto\.",
    rb"--- undelivered message follows ---",
    # Exim
    rb"------ this is a copy of (?:the|your) message[^\r\n]{0,60}------",
    # sendmail and its successors
    rb"----- (?:original|unsent|returned|undelivered) message(?: header)?s?(?: follows?)? -----",
    rb"----- message headers? follows? -----",
    # Gmail
    rb"----- original message -----",
    # mail servers of hosting companies
    rb"--- the (?:header of the )?(?:original|forwarded) message (?:is following\.?|follows) ---",
    # Exchange
    rb"original message headers:",
    rb"original message follows\.",
)
_SEPARATOR: Final = re.compile(rb"(?mi)^[ \t]{0,8}(?:" + rb"|".join(_SEPARATORS) + rb")[ \t]{0,8}\r?$")
# Exim says there how much of the message is included; blank lines follow.
_BEFORE_THE_MESSAGE: Final = re.compile(rb"(?:[ \t]{0,80}\r?\n|------ [^\n]{0,100}\n){0,12}")

_ADDRESS: Final = r"[^\s<>@,;:()\"]{1,64}@[\w.-]{1,255}"
_RECIPIENT_LINE: Final = re.compile(
    rf"[ \t]{{0,40}}(?:<(?P<bracketed>{_ADDRESS})>|(?P<plain>{_ADDRESS})(?:<mailto:[^>]{{1,400}}>)?)"
    r"(?:[ \t]{0,8}\Z|[ \t]{0,8}[:,;(]|[ \t]{1,8}on[ \t]|\.{3})"
)
_RECIPIENT_AFTER_ITS_NAME: Final = re.compile(
    r"(?i)[ \t]{0,40}(?:recipient(?: address)?|(?:failed|final) recipient)[ \t]?:[ \t]{1,8}"
    rf"<?(?P<named>{_ADDRESS})>?"
)


def split_text(content: bytes) -> tuple[bytes, Returned | None]:
    """Return the part of a text that is the program's own, and the message that it returns below that."""
    separator = _SEPARATOR.search(content)
    if separator is None:
        return content, None
    begin = min(separator.end() + 1, len(content))
    between = _BEFORE_THE_MESSAGE.match(content, begin)
    return content[: separator.start()], read_returned(content[between.end() if between else begin :])


def recipients_in(text: str, failed_recipients: str = "") -> tuple[RecipientStatus, ...]:
    """Return the recipients that a text names, each at the beginning of a line, with what is said below.

    `failed_recipients`: the field X-Failed-Recipients, where Exim and others name them all.
    """
    found = _named_lines(text[:_MOST_TEXT])
    named = [one for one in re.findall(_ADDRESS, failed_recipients[:_MOST_TEXT]) if one][:_MOST_RECIPIENTS]
    wanted = named or list(found)[:_MOST_RECIPIENTS]
    return tuple(_status(address, found.get(address, "")) for address in dict.fromkeys(wanted))


def _named_lines(text: str) -> dict[str, str]:
    """Return each address that begins a line, and the lines that follow it up to an empty one."""
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        if named := _RECIPIENT_LINE.match(line) or _RECIPIENT_AFTER_ITS_NAME.match(line):
            address = next(filter(None, named.groupdict().values()))
            if len(found) == _MOST_RECIPIENTS and address not in found:
                break
            current = found.setdefault(address, [])
            current.append(line[named.end() :])
        elif not line.strip():
            # Some leave a line empty between the address and the reason.
            if any(current):
                current = []
        elif len(current) < _MOST_DIAGNOSTIC_LINES:
            current.append(line)
    return {address: " ".join(" ".join(lines).split()) for address, lines in found.items()}


def _status(address: str, diagnostic: str) -> RecipientStatus:
    address = printable(address, MOST_OF_AN_ADDRESS)
    return RecipientStatus(
        address=address,
        final_address=address,
        status=enhanced_status(diagnostic),
        diagnostic=printable(diagnostic, MOST_OF_A_DIAGNOSTIC),
    )
