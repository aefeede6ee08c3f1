"""Rows of the decision log: what each pass found about a queue file."""

from __future__ import annotations

from deliverypools.core.decisions import NORMAL, REFUSED_TAG, UNDECIDED, Decision
from deliverypools.core.facts import Origin, printable
from deliverypools.core.records import PUT_ON_HOLD, DecisionRecord
from deliverypools.core.settings import Settings
from deliverypools.milter.collector import CollectedMessage, Connection

_MOST_REASONS_CHARACTERS = 600


def outcome_of(decision: Decision) -> str:
    """Return what became of a message, for people: its pool, "refused" or "undecided"."""
    if decision.refusal is not None:
        return REFUSED_TAG
    return decision.pool or UNDECIDED


def pool_it_leaves_by(decision: Decision, settings: Settings) -> str:
    """Return the pool that a message is tagged with, "" where it is not."""
    if settings.shadow:
        return NORMAL
    return "" if decision.refusal is not None else decision.pool or ""


def decision_record(
    log_name: str,
    message: CollectedMessage,
    connection: Connection,
    origin: Origin | None,
    *,
    at: float,
    decision: Decision | None = None,
    leaves_by: str = "",
    details: str = "",
) -> DecisionRecord:
    """Return the row about a message that goes on: `log_name` is its pass, `at` the time in seconds since the epoch.

    `details` is the evidence, as `evidence_text` writes it.
    """
    return DecisionRecord(
        queue_id=message.queue_id,
        host=connection.hostname,
        pass_name=log_name,
        at=at,
        ingress=origin.ingress.value if origin else "",
        account=origin.account if origin else "",
        pool=outcome_of(decision) if decision and decision.pool else "",
        rule=decision.rule if decision else "",
        reasons=_reasons(decision) if decision else "",
        envelope_sender=printable(message.envelope_sender),
        recipients=len(message.recipients),
        client_address=origin.client_address if origin else "",
        subject=message.subject,
        message_id=printable(message.message_id),
        leaves_by=leaves_by,
        details=details,
    )


def _reasons(decision: Decision) -> str:
    reasons = printable("; ".join(decision.reasons), _MOST_REASONS_CHARACTERS)
    return f"{PUT_ON_HOLD}{reasons}" if decision.hold else reasons
