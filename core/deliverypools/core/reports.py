"""What a message says of itself in its header: report, automatic reply, spam."""

from __future__ import annotations

import re
from collections.abc import Iterable

from deliverypools.core.facts import printable
from deliverypools.core.headers import Headers
from deliverypools.core.sender import from_address

_COMMENT = re.compile(r"\([^()]*\)")
# Tolerant of what broken MTAs write: a missing semicolon, odd or unclosed quotes, RFC 2231 forms.
_REPORT_TYPE = re.compile(r"""\breport-type(?:\*\d?\*?)?\s*=\s*["']?(?:[\w-]*'[\w-]*')?\s*([a-z-]+)""")
# Postfix names the queue file in the per-message fields: X-<mail_name>-Queue-ID, see bounce(5).
_RETURNED_QUEUE_ID = re.compile(rb"(?mi)^X-[!-9;-~]{1,60}-Queue-ID:[ \t]*([0-9A-Za-z]{5,40})[ \t]*\r?$")
_STATUS_PART = re.compile(rb"(?mi)^Content-Type:[ \t]*message/(?:global-)?delivery-status")
_NEXT_PART = re.compile(rb"(?mi)^Content-Type:")
_FAILED = re.compile(rb"(?mi)^Action:[ \t]*failed[ \t]*\r?$")
_REFUSED = re.compile(rb"(?mi)^Status:[ \t]*5\.[0-9]{1,3}\.[0-9]{1,3}[ \t]*\r?$")
_MOST_OF_A_HEADER = 4000
_MOST_NESTED_COMMENTS = 5
_DAEMONS = frozenset({"mailer-daemon", "postmaster", "mail-daemon", "mdaemon"})


def report_type(headers: Headers) -> str | None:
    """Return the report-type of a multipart/report (RFC 6522), "" if it names none; None for other mail."""
    value = _without_comments(headers.first("Content-Type") or "")
    if not re.match(r"\s*multipart\s*/\s*report\b", value):
        return None
    match = _REPORT_TYPE.search(value)
    return match[1] if match else ""


def _without_comments(value: str) -> str:
    value = value[:_MOST_OF_A_HEADER].lower()
    for _ in range(_MOST_NESTED_COMMENTS):
        value = _COMMENT.sub(" ", value)
    return value


def is_delivery_status_report(headers: Headers) -> bool:
    """Tell whether this is a multipart/report of a delivery status (RFC 6522, RFC 3464)."""
    return report_type(headers) == "delivery-status"


def is_automatic_reply(headers: Headers) -> bool:
    """Tell whether this is a vacation reply (RFC 3834 section 5), or a report that is no NDR (MDN, ARF).

    `Auto-Submitted: auto-replied` alone does not tell: Exim writes it into its NDRs. A person's address in From does.
    """
    if (kind := report_type(headers)) is not None:
        return kind not in ("delivery-status", "")
    submitted = _without_comments(headers.first("Auto-Submitted") or "")
    if submitted.partition(";")[0].strip() != "auto-replied" or headers.first("X-Failed-Recipients") is not None:
        return False
    author = from_address(headers).lower().partition("@")[0]
    return bool(author) and author not in _DAEMONS


_SAYS_YES = frozenset({"yes", "true", "spam", "1"})


def spam_evidence(headers: Headers, signs: Iterable[str]) -> str:
    """Return the first header that calls the message spam, or "".

    `signs` is the setting `spam.headers`: "Name: value" matches a value that begins with that word or phrase,
    without case; "Name" alone matches yes, true, spam or 1.
    """
    for sign in signs:
        name, colon, wanted = (part.strip() for part in sign.partition(":"))
        for value in headers.all(name):
            if _says(value, wanted.lower() if colon else ""):
                return f"{name}: {printable(value.strip(), 80)}"
    return ""


def _says(value: str, wanted: str) -> bool:
    given = " ".join(value[:_MOST_OF_A_HEADER].lower().split())
    if not wanted:
        return re.split(r"[\s,;]", given, maxsplit=1)[0] in _SAYS_YES
    return given.startswith(wanted) and not given[len(wanted) : len(wanted) + 1].isalnum()


def refused_in_notice(body: bytes) -> tuple[str, int] | None:
    """Return what a non-delivery notice of this Postfix is about: the queue file, and how many recipients were refused.

    `body` is the first part of it: the delivery status (RFC 3464) comes before the message that is returned. None for a
    notice about nothing that was refused for good: a delay, a success.
    """
    # Only what Postfix wrote: before it stands what remote servers said, after it what the sender wrote.
    status = _STATUS_PART.search(body)
    if status is None:
        return None
    body = body[status.end() :]
    following = _NEXT_PART.search(body)
    body = body[: following.start()] if following else body
    found = _RETURNED_QUEUE_ID.search(body)
    refused = min(len(_FAILED.findall(body)), len(_REFUSED.findall(body)))
    return (found[1].decode("ascii"), refused) if found and refused else None
