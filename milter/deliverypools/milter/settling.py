"""What follows from a decision, in every pass that decides: on record, in the log, and carried out by a verdict."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from deliverypools.adapters.state import StateUnavailable
from deliverypools.core import ticket as tickets
from deliverypools.core.decisions import (
    ABOUT_CONTENT,
    FORWARDING_REFUSED,
    NORMAL,
    REFUSED_CONTENT_TAG,
    REFUSED_TAG,
    UNDECIDED,
    Decision,
    Refusal,
)
from deliverypools.core.dns_lists import HEADER as LIST_HEADER
from deliverypools.core.dsn.was_it_ours import HEADER as DSN_HEADER
from deliverypools.core.evidence import evidence_text
from deliverypools.core.facts import Ingress, MessageFacts, Origin, fit_for_reply, printable
from deliverypools.core.limits import Held
from deliverypools.core.pool_transports import transport_for
from deliverypools.core.records import EGRESS_PASS, DecisionRecord
from deliverypools.core.rules import after_waiting
from deliverypools.core.settings import Settings
from deliverypools.core.tallies import DAY
from deliverypools.milter.accounting import account_behind, note_spam
from deliverypools.milter.collector import TAG_HEADER, CollectedMessage, Connection
from deliverypools.milter.copying import keep_copy
from deliverypools.milter.decision_log import decision_record, outcome_of, pool_it_leaves_by
from deliverypools.milter.services import Services
from deliverypools.milter.verdict import Reply, Verdict, log_line

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A message in a pass that decides, as it goes on record."""

    log_name: str
    """The pass."""
    message: CollectedMessage
    connection: Connection
    origin: Origin | None
    """By its ticket, believed or not."""
    facts: MessageFacts
    held: tuple[Held, ...] = ()
    """What the windows of limits held, where it was counted in this pass."""
    once: str
    """Its name in all passes, for what is done once."""
    first_queue_id: str = ""
    """Of the queue file that was accepted."""
    waiting_id: str = ""
    """Of the queue file that is tried again if it cannot be decided; "" where Postfix has none."""


def settled(decided: Decision, passage: Passage, waited_seconds: float | None, services: Services) -> Decision:
    """Put a decision on record; return it, or what becomes of a message that has none, or none on record.

    What waits is noted with the reason, so that it can be explained. In shadow mode nothing waits.
    """
    decision = decided if decided.pool is None else recorded(decided, passage, services)
    if decision.pool is not None:
        return decision
    if services.settings.shadow:
        _write_if_possible(decision, passage, services)
        return decision
    decision = in_the_end(decision, decided, waited_seconds, services.settings)
    if decision.pool is not None:
        _write_if_possible(decision, passage, services)
    else:
        _note_waiting(decision, passage, services)
    return decision


def recorded(decision: Decision, passage: Passage, services: Services) -> Decision:
    """Write a decision down, keep a copy of a suspicious message, count a spam verdict (both once).

    Returns the decision; "undecided" where that fails.
    What is not on record could not be found again when its account is restricted.
    """
    message, origin = passage.message, passage.origin
    try:
        row = _row(decision, passage, services)
        services.state.record(row, services.settings.milter.decisions_kept_seconds)
        account = account_behind(origin, services) if origin else None
        keep_copy(message.spool, row, passage.once, services)
        # What a mailbox forwards is no sign that its owner sends spam.
        if decision.rule in ABOUT_CONTENT and account and origin and origin.ingress is not Ingress.OUTSIDE:
            note_spam(account, passage.once, services)
    except StateUnavailable as error:
        _logger.error("%s: not on record: %s", message.queue_id, error)
        return Decision(None, UNDECIDED, ("the state could not be written",), asked=decision.asked)
    return decision


def _row(decision: Decision, passage: Passage, services: Services) -> DecisionRecord:
    settings, message = services.settings, passage.message
    if settings.shadow and decision.hold:
        decision = replace(decision, hold=False, reasons=("would be put on hold", *decision.reasons))
    details = evidence_text(
        settings,
        recipients=message.recipients,
        facts=passage.facts,
        asked=decision.asked,
        held=passage.held,
        first_queue_id=passage.first_queue_id,
    )
    return decision_record(
        passage.log_name,
        message,
        passage.connection,
        passage.origin,
        at=services.clock(),
        decision=decision,
        leaves_by=pool_it_leaves_by(decision, settings),
        details=details,
    )


def _write_if_possible(decision: Decision, passage: Passage, services: Services) -> None:
    """Write down what leaves undecided."""
    try:
        row = _row(decision, passage, services)
        services.state.record(row, services.settings.milter.decisions_kept_seconds)
    except StateUnavailable as error:
        _logger.error("%s: not on record: %s", passage.message.queue_id, error)


def _note_waiting(decision: Decision, passage: Passage, services: Services) -> None:
    """Note why a message waits: each try is a queue file of its own, but it is looked up by the one that waits."""
    row = _row(decision, passage, services)
    names = {passage.waiting_id or row.queue_id, row.message_id} - {""}
    try:
        services.state.note_waiting(row, names, services.settings.milter.undecided_after + DAY)
    except StateUnavailable as error:
        _logger.error("%s: why it waits is in this log only: %s", passage.message.queue_id, error)


def in_the_end(decision: Decision, decided: Decision, waited_seconds: float | None, settings: Settings) -> Decision:
    """Return the decision of a message that has waited so long; `decided` is what was to be put on record.

    What is not to leave does not leave, on record or not.
    """
    late = after_waiting(decision, waited_seconds, settings)
    return decided if late.pool is not None and (decided.refusal or decided.hold) else late


def verdict_of(
    decision: Decision, message: CollectedMessage, origin: Origin | None, services: Services, name: str = EGRESS_PASS
) -> Verdict:
    """Return what to do with a message that was decided (or could not be): the tag, and the line in the log."""
    pool = NORMAL if services.settings.shadow else decision.pool
    refusal = None if services.settings.shadow else decision.refusal
    log = log_line(
        message.queue_id,
        **{"pass": name},
        pool=outcome_of(decision),
        **({"shadow": pool} if services.settings.shadow else {}),
        rule=decision.rule,
        **({"hold": "yes"} if decision.hold else {}),
        reasons="; ".join(decision.reasons),
        account=origin.account if origin else "",
        kind=message.kind.kind,
        message_id=message.message_id,
    )
    if pool is None:
        text = "Not yet decided by which address this message leaves, please try again later"
        return Verdict(reply=Reply.TEMPFAIL, text=text, log=log)
    tag, hold = (
        _tag(pool, message, origin, services.settings),
        decision.rule if decision.hold and not services.settings.shadow else "",
    )
    if refusal is not None and name == EGRESS_PASS:
        if decision.rule == FORWARDING_REFUSED and refusal is Refusal.TO_SENDER:
            return Verdict(reply=Reply.REJECT, text=_refusal_text(decision, services), log=log)
        # Refused with 550 it would be returned as a whole, to where it may leave again.
        tag = REFUSED_TAG if decision.rule == FORWARDING_REFUSED else REFUSED_CONTENT_TAG
    elif refusal is not None:
        # Over SMTP it is the client who is told: it still has the message.
        return Verdict(reply=Reply.REJECT, text=_refusal_text(decision, services), log=log)
    # The last two are for our users, not for others.
    delete = (
        (TAG_HEADER, message.tags),
        (tickets.HEADER, message.tickets),
        (DSN_HEADER, message.dsn_fields),
        (LIST_HEADER, message.list_fields),
    )
    return Verdict(delete=delete, add=((TAG_HEADER, tag),), hold=hold, log=log)


def _tag(pool: str, message: CollectedMessage, origin: Origin | None, settings: Settings) -> str:
    """Return the tag of the pool's transport for this sender; notices, which have none, go by their recipient."""
    sender = origin.envelope_sender if origin else message.envelope_sender
    key = sender or next(iter(message.recipients), "")
    return transport_for(pool, settings.pools[pool], key).tag


def _refusal_text(decision: Decision, services: Services) -> str:
    contact = printable(services.settings.alerts.contact_address(services.settings.accepted_domains))
    if decision.rule in ABOUT_CONTENT:
        return fit_for_reply(f"This message was found to hold {decision.rule}. If that is wrong, ask {contact}")
    if decision.refusal is Refusal.TO_SENDER:
        return fit_for_reply(f"The mailbox that forwards this message may not do so. Ask {contact}")
    return "The sender of this message could not be authenticated, so that it is not forwarded"
