"""What a header alone tells of a message's kind: who wrote it, report, automatic reply, list mail."""

from __future__ import annotations

import re
from enum import Enum
from functools import cached_property
from typing import Final

from deliverypools.core.dsn.parts import Part, media_type, plain_phrase, without_comments
from deliverypools.core.dsn.texts import AUTOMATIC_SUBJECTS, CHALLENGE_SUBJECTS
from deliverypools.core.headers import Headers
from deliverypools.core.message_kind import Kind

FIELDS: Final = (
    *("From", "Subject", "Content-Type", "Content-Transfer-Encoding", "Auto-Submitted", "Precedence", "In-Reply-To"),
    *("X-Failed-Recipients", "X-Mailer", "X-Autoreply", "X-Autorespond", "TLS-Report-Domain"),
    *("List-Id", "List-Post", "List-Unsubscribe"),
)
"""Header fields that are looked at."""
_WANTED: Final = {name.lower(): name for name in FIELDS}
_MOST_OF_A_FIELD: Final = 4000
_MOST_OF_AN_ADDRESS: Final = 1000
_MOST_FIELDS: Final = 1000

# Tolerant of what broken MTAs write: a missing semicolon, odd or unclosed quotes, RFC 2231 forms.
_REPORT_TYPE = re.compile(r"""\breport-type(?:\*\d?\*?)?\s*=\s*["']?(?:[\w-]*'[\w-]*')?\s*([a-z-]+)""")
_NO_NAME: Final = " \t\r\n\"'"
_ANGLE = re.compile(r"<([^<>]{0,400})>")
_SYSTEM = re.compile(
    r"""["']?(?:mailer[-_. ]?daemon|mail[-_. ]?daemon|mdaemon|double-bounce|mail(?:er)?[-_]?system"""
    r"""|mail delivery (?:sub)?system|bounces?(?=@|$)|microsoftexchange[0-9a-f]{32})(?![a-z0-9])"""
)
_POSTMASTER = re.compile(r"""["']?(?:post[-_]?master|system administrator)(?![a-z0-9])""")
_A_REPLY = re.compile(r"(?:re|aw|sv|antw|fwd?|wg|tr|rv|i|r)\s*:|\[fwd:")
_AGGREGATE_REPORT = re.compile(r"(?:\[[^\]]{0,40}\] ?)?(?:dmarc aggregate )?report domain:.{1,260}\bsubmitter:")
_AGGREGATE_FILE = re.compile(r"""name\s*=\s*"?[^\s"!]{1,255}![^\s"!]{1,255}!\d+!\d+[^\s"]{0,80}\.(?:xml|zip|gz)""")
_COMPLAINT_SUBJECT = re.compile(r"complaint about message from [\[\dx]|e-?mail feedback report for ip\b")


class Author(Enum):
    """Who wrote a message, by the address in From (RFC 5322 section 3.6.2)."""

    PERSON = 0
    """Somebody, or some program, with an address of its own; or no From at all."""
    POSTMASTER = 1
    """Postmaster's address (RFC 5321 section 4.5.1), which people use too."""
    SYSTEM = 2
    """An address that only mail systems use, or none: `From: <>`."""


class Signs:
    """The header fields that are looked at. Everything is read once."""

    def __init__(self, headers: Headers) -> None:
        self.fields: dict[str, str] = {}
        """The topmost value of each, cut to a bounded length, by its name as in `FIELDS`."""
        for name, value in headers.fields[:_MOST_FIELDS]:
            wanted = _WANTED.get(name.lower())
            if wanted and wanted not in self.fields:
                self.fields[wanted] = value[:_MOST_OF_A_FIELD]

    def has(self, *names: str) -> bool:
        """Tell whether it has any of these fields."""
        return any(name in self.fields for name in names)

    def get(self, name: str) -> str:
        """Return a field's value, "" where it is missing."""
        return self.fields.get(name, "")

    @cached_property
    def subject(self) -> str:
        """The subject: one line, lower case."""
        return plain_phrase(self.get("Subject"))

    @property
    def is_reply_or_forward(self) -> bool:
        """Tell whether the subject begins as a person's reply or forward does."""
        return _A_REPLY.match(self.subject) is not None

    @cached_property
    def author(self) -> Author:
        """Who wrote it."""
        value = self.fields.get("From")
        return Author.PERSON if value is None else _author(value)

    def whole(self, body: bytes) -> Part:
        """Return the message as the part that holds all others."""
        return Part(self.get("Content-Type"), self.get("Content-Transfer-Encoding"), body)

    @property
    def is_auto_replied(self) -> bool:
        """Tell whether it calls itself a reply of a program (RFC 3834 section 5), as NDRs of Exim do too."""
        submitted = without_comments(self.get("Auto-Submitted")).partition(";")[0].strip()
        return submitted == "auto-replied"

    @property
    def is_from_list(self) -> bool:
        """Tell whether a mailing list sent it on to its members (RFC 2919, RFC 2369)."""
        return self.has("List-Id", "List-Post")


def _author(value: str) -> Author:
    value = value[:_MOST_OF_AN_ADDRESS].lower()
    angle = _ANGLE.search(value)
    # Without an address its name tells: "MAILER-DAEMON <>", "Postmaster".
    name = (angle[1] if angle else without_comments(value)).strip() or value[: angle.start() if angle else 0].strip(
        _NO_NAME
    )
    if not name or _SYSTEM.match(name):
        return Author.SYSTEM
    return Author.POSTMASTER if _POSTMASTER.match(name) else Author.PERSON


def report_type(content_type: str) -> str | None:
    """Return the report-type of a multipart/report (RFC 6522), "" if it names none; None for other mail."""
    value = without_comments(content_type)
    if media_type(value) != "multipart/report":
        return None
    match = _REPORT_TYPE.search(value)
    return match[1] if match else ""


def report_evidence(signs: Signs) -> tuple[Kind, str] | None:
    """Return which report of another sort the header tells: TLS (RFC 8460), DMARC, complaints of a mailbox provider."""
    content_type = signs.get("Content-Type")
    if signs.has("TLS-Report-Domain"):
        return Kind.TLS_REPORT, "TLS-Report-Domain"
    if media_type(content_type).startswith("application/tlsrpt"):
        return Kind.TLS_REPORT, "type application/tlsrpt"
    if _AGGREGATE_REPORT.match(signs.subject):
        return Kind.DMARC_REPORT, "subject of an aggregate report"
    if _AGGREGATE_FILE.search(content_type.lower()):
        return Kind.DMARC_REPORT, "file name of an aggregate report"
    if _COMPLAINT_SUBJECT.match(signs.subject):
        return Kind.COMPLAINT, "subject of a feedback loop"
    return None


def automatic_evidence(signs: Signs) -> str:
    """Return what shows that a program of a person replied (RFC 3834 section 5), "" if nothing does.

    `Auto-Submitted: auto-replied` alone does not tell: Exim writes it into its NDRs. A person's address in From does.
    """
    if signs.author is not Author.PERSON or signs.has("X-Failed-Recipients"):
        return ""
    if signs.is_auto_replied and signs.has("From"):
        return "Auto-Submitted: auto-replied"
    for name in ("X-Autoreply", "X-Autorespond"):
        if signs.get(name).strip().lower() not in ("", "no"):
            return name
    if signs.get("Precedence").strip().lower() == "auto_reply":
        return "Precedence: auto_reply"
    return "subject of an automatic reply" if AUTOMATIC_SUBJECTS.search(signs.subject) else ""


def list_evidence(signs: Signs) -> str:
    """Return what shows that a mailing list or a newsletter sent it, "" if nothing does."""
    for name in ("List-Id", "List-Post", "List-Unsubscribe"):
        if signs.has(name):
            return name
    return "Precedence: list" if signs.get("Precedence").strip().lower() == "list" else ""


def challenge_evidence(signs: Signs) -> str:
    """Return what shows that it asks the sender to confirm, "" if nothing does."""
    return "subject of a challenge" if CHALLENGE_SUBJECTS.search(signs.subject) else ""
