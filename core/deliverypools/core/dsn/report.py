"""Reading a DSN: what it says of the recipients, and the message that it returns.

Only the parts of the top level count, and of those that return a message only the first. What a server said, or the
returned message holds, stands inside of one part and can pose as nothing else: Postfix folds replies into lines that
begin with blanks, so that none is a boundary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from deliverypools.core.dsn.parts import STATUS_TYPES, Part, text_of
from deliverypools.core.dsn.recipient_statuses import DeliveryStatus, RecipientStatus, read_delivery_status
from deliverypools.core.dsn.returned import Returned, binding_of, read_returned
from deliverypools.core.dsn.text_forms import recipients_in, split_text
from deliverypools.core.headers import Headers

__all__ = ["REPORT_BYTES_READ", "RecipientStatus", "Report", "Returned", "binding_of", "read_report"]

REPORT_BYTES_READ: Final = 2 * 1024 * 1024
"""So much of a notice's body is read: some hundred recipients with long replies, then the returned header."""

_RETURNED_TYPES: Final = frozenset(
    {
        *("message/rfc822", "message/global"),
        *("text/rfc822-headers", "message/rfc822-headers", "message/global-headers"),
        # As some servers spell it.
        *("text/rfc822-header", "text/rfc822"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A DSN that was read."""

    reporting_mta: str = ""
    """Host name, without its type; "" where it says none."""
    queue_id: str = ""
    """Of the message it is about, where a Postfix says it (X-Postfix-Queue-ID)."""
    recipients: tuple[RecipientStatus, ...] = ()
    """Bounded in number."""
    text: str = ""
    """The part for people, bounded; without the message that it returns."""
    returned: Returned | None = None


def read_report(headers: Headers, body_start: bytes) -> Report:
    """Read a DSN: multipart/report (RFC 3464, RFC 6533) or the texts of qmail, Exim, Exchange and others.

    Never raises; what cannot be read is missing. Time and memory are bounded, and linear in `body_start`.
    """
    whole = Part(
        content_type=headers.first("Content-Type") or "",
        encoding=headers.first("Content-Transfer-Encoding") or "",
        body=body_start[:REPORT_BYTES_READ],
    )
    parts = whole.parts
    status_part = next((part for part in parts if part.media_type in STATUS_TYPES), None)
    returned_part = next((part for part in parts if part.media_type in _RETURNED_TYPES), None)
    returned = read_returned(returned_part.content) if returned_part else None
    if status_part is not None:
        status = read_delivery_status(status_part.content)
        return _report(status, text_of(whole), returned)
    text, returned_in_text = _own_text(whole, parts)
    recipients = recipients_in(text, ", ".join(headers.all("X-Failed-Recipients")))
    return _report(DeliveryStatus(recipients=recipients), text, returned or returned_in_text)


def _report(status: DeliveryStatus, text: str, returned: Returned | None) -> Report:
    return Report(
        reporting_mta=status.reporting_mta,
        queue_id=status.queue_id,
        recipients=status.recipients,
        text=text,
        returned=returned,
    )


def _own_text(whole: Part, parts: list[Part]) -> tuple[str, Returned | None]:
    """Return the text for people of a notice without a status part, and the message that is returned in it."""
    texts = [part for part in parts or [whole] if part.media_type == "text/plain"]
    if not texts:
        return text_of(whole), None
    text, returned = split_text(texts[0].content)
    shown = Part(content_type=texts[0].content_type, encoding="", body=text)
    return text_of(shown), returned
