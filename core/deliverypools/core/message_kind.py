"""The kinds of messages. `dsn.kinds` tells which one a message is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """A kind of message; its value is how log, records and docs call it."""

    NON_DELIVERY = "non-delivery"
    """Some recipient was not reached for good: an NDR, in whatever form (RFC 3464, RFC 6533, or text)."""
    DELAY = "delay-warning"
    """Some recipient was not reached yet."""
    DELIVERY = "delivery-report"
    """A report of success: delivered, relayed, expanded (RFC 3464 section 2.3.3)."""
    AUTOMATIC_REPLY = "automatic-reply"
    """Vacation and the like (RFC 3834)."""
    CHALLENGE = "challenge"
    """Asks the sender to confirm that he is a person."""
    COMPLAINT = "complaint"
    """An abuse report (ARF, RFC 5965)."""
    DISPOSITION = "disposition-notification"
    """Read, deleted (MDN, RFC 8098)."""
    TLS_REPORT = "tls-report"
    """RFC 8460."""
    DMARC_REPORT = "dmarc-report"
    """Aggregate or failure report."""
    LIST_MAIL = "list-mail"
    """Sent by a mailing list."""
    ORDINARY = "ordinary"


DSN_KINDS: Final = frozenset({Kind.NON_DELIVERY, Kind.DELAY, Kind.DELIVERY})
"""The kinds that tell what became of a message."""


@dataclass(frozen=True, slots=True)
class MessageKind:
    """The kind of a message, and what shows it."""

    kind: Kind
    evidence: str = ""
    """One printable line; "" for ordinary mail."""

    @property
    def is_dsn(self) -> bool:
        """Tell whether it reports what became of a message."""
        return self.kind in DSN_KINDS


ORDINARY: Final = MessageKind(Kind.ORDINARY)
