"""The decision log: one row for each pass of a message, to find an account's mail again and to explain it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from deliverypools.core.decisions import REFUSED_TAG
from deliverypools.core.facts import Ingress

FIRST_PASS: Final = "first"  # noqa: S105  (none of these is a password)
EGRESS_PASS: Final = "egress"  # noqa: S105
EXPRESS_PASS: Final = "express"  # noqa: S105
FAST_PASS: Final = "fast"  # noqa: S105
"""The passes, as they are called in the log and in records; `fast` is a first pass that decides."""
DECIDING_PASSES: Final = (EGRESS_PASS, EXPRESS_PASS, FAST_PASS)
PUT_ON_HOLD: Final = "put on hold; "
"""How the reasons begin where a message is kept in Postfix's hold queue: no evidence begins so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRecord:
    """What one pass found about one queue file."""

    queue_id: str
    host: str
    """Postfix's myhostname: queue ids are a host's own."""
    pass_name: str
    """`first`, `egress`, `express` or `fast`."""
    at: float
    """Seconds since the epoch."""
    ingress: str
    """"" where it is unknown."""
    account: str
    """The responsible account; "" if none."""
    pool: str
    """"" in the first pass, which decides nothing."""
    rule: str
    reasons: str
    envelope_sender: str
    recipients: int
    client_address: str
    subject: str
    """The first characters, printable."""
    message_id: str
    leaves_by: str = ""
    """The pool that it was tagged with: in shadow mode `normal`, whatever `pool` says.

    "" where it was given none, and in rows of versions that did not tell.
    """
    details: str = ""
    """The evidence, as `evidence.evidence_text` writes it; "" in rows of versions that kept none."""

    @property
    def is_in_shadow(self) -> bool:
        """Tell whether it leaves by another pool than was decided, because shadow mode was on."""
        return self.leaves_by not in ("", self.pool)

    @property
    def is_on_hold(self) -> bool:
        """Tell whether this pass had it put on hold."""
        return self.reasons.startswith(PUT_ON_HOLD)

    @property
    def went_on(self) -> bool:
        """Tell whether it is about a message that was sent: by one of our users, or on its way out.

        Not what merely came in, nor what was refused or is undecided.
        """
        if self.pass_name == FIRST_PASS:
            return self.ingress not in ("", Ingress.OUTSIDE)
        return bool(self.leaves_by) or self.pool not in ("", REFUSED_TAG)


def newest_first(records: Iterable[DecisionRecord]) -> list[DecisionRecord]:
    """Return records in order, newest first, each once."""
    found = {(record.host, record.queue_id): record for record in records}
    return sorted(found.values(), key=lambda record: record.at, reverse=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class DroppedNotice:
    """An entry of the drop ledger: a notice of this Postfix that was not sent. All texts are printable and bounded."""

    queue_id: str
    """Of the notice; with `host` it is one entry, however often it is written."""
    host: str
    at: float
    """Seconds since the epoch."""
    kind: str
    """`non-delivery` or `delay-warning` (`dsn.kinds.Kind`)."""
    sender: str
    """To whom it would have gone: the envelope sender that is taken for forged."""
    recipients: str
    """Who was not reached, and why: the first of them."""
    client_address: str
    """Of the client that brought the message."""
    reason: str
    original_queue_id: str
    message_id: str
    """Of the message that could not be delivered, and its Subject and From."""
    subject: str
    header_from: str
    first_lines: str
    """The first lines of its body, LF between them; "" where only the header was returned."""
