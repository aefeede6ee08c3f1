"""What a message says of itself in its header: report, automatic reply, spam."""

from __future__ import annotations

import re
from collections.abc import Iterable

from deliverypools.core.facts import printable
from deliverypools.core.headers import Headers
from deliverypools.core.sender import from_address

_COMMENT = re.compile(r"\([^()]*\)")
_PARAMETER = re.compile(r""";\s*([a-z-]+)\s*=\s*(?:"([^"]*)"|([^\s;"]+))""")
_MOST_OF_A_HEADER = 4000
_DAEMONS = frozenset({"mailer-daemon", "postmaster", "mail-daemon", "mdaemon"})


def content_type(headers: Headers) -> tuple[str, dict[str, str]]:
    """Return the media type and its parameters, in lower case (RFC 2045 section 5.1); tolerant of anything."""
    value = (headers.first("Content-Type") or "")[:_MOST_OF_A_HEADER].lower()
    value = _COMMENT.sub(" ", value)
    media_type = value.partition(";")[0].strip()
    parameters = {match[1]: (match[2] or match[3] or "").strip() for match in _PARAMETER.finditer(value)}
    return media_type, parameters


def is_delivery_status_report(headers: Headers) -> bool:
    """Tell whether this is a multipart/report of a delivery status (RFC 6522, RFC 3464)."""
    media_type, parameters = content_type(headers)
    return media_type == "multipart/report" and parameters.get("report-type") == "delivery-status"


def is_automatic_reply(headers: Headers) -> bool:
    """Tell whether this is a vacation reply (RFC 3834 section 5), or a report that is no NDR (MDN, ARF).

    `Auto-Submitted: auto-replied` alone does not tell: Exim writes it into its NDRs. A person's address in From does.
    """
    media_type, parameters = content_type(headers)
    if media_type == "multipart/report":
        return parameters.get("report-type", "delivery-status") != "delivery-status"
    submitted = (headers.first("Auto-Submitted") or "")[:_MOST_OF_A_HEADER].lower()
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
