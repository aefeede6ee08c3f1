"""The decision log: one row for each pass of a message, to find an account's mail again and to explain it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FIRST_PASS: Final = "first"  # noqa: S105  (none of these is a password)
EGRESS_PASS: Final = "egress"  # noqa: S105
EXPRESS_PASS: Final = "express"  # noqa: S105
"""The passes, as they are called in the log and in records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRecord:
    """What one pass found about one queue file."""

    queue_id: str
    host: str
    """Postfix's myhostname: queue ids are a host's own."""
    pass_name: str
    """`first`, `egress` or `express`."""
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
