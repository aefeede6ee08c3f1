"""What follows from a decision, in every pass that decides: on record, in the log, and carried out by a verdict."""

from __future__ import annotations

import logging

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
from deliverypools.core.facts import Ingress, Origin, fit_for_reply, printable
from deliverypools.core.records import EGRESS_PASS
from deliverypools.core.rules import after_waiting
from deliverypools.core.settings import Settings
from deliverypools.milter.accounting import account_behind, note_spam
from deliverypools.milter.collector import TAG_HEADER, CollectedMessage, Connection
from deliverypools.milter.copying import keep_copy
from deliverypools.milter.decision_log import decision_record, outcome_of
from deliverypools.milter.services import Services
from deliverypools.milter.verdict import Reply, Verdict, log_line

_logger = logging.getLogger(__name__)


def recorded(
    decision: Decision,
    message: CollectedMessage,
    connection: Connection,
    origin: Origin | None,
    *,
    log_name: str,
    once: str,
    services: Services,
) -> Decision:
    """Write a decision down, keep a copy of a suspicious message, count a spam verdict (both once for `once`).

    Returns the decision; "undecided" where that fails.
    What is not on record could not be found again when its account is restricted.
    """
    try:
        row = decision_record(log_name, message, connection, origin, at=services.clock(), decision=decision)
        services.state.record(row, services.settings.milter.ticket_lifetime)
        account = account_behind(origin, services) if origin else None
        keep_copy(message.spool, row, once, services)
        # What a mailbox forwards is no sign that its owner sends spam.
        if decision.rule in ABOUT_CONTENT and account and origin and origin.ingress is not Ingress.OUTSIDE:
            note_spam(account, once, services)
    except StateUnavailable as error:
        _logger.error("%s: not on record: %s", message.queue_id, error)
        return Decision(None, UNDECIDED, ("the state could not be written",))
    return decision


def in_the_end(decision: Decision, decided: Decision, waited_seconds: float | None, settings: Settings) -> Decision:
    """Return the decision of a message that has waited so long; `decided` is what was to be put on record.

    What is not to leave does not leave, on record or not.
    """
    late = after_waiting(decision, waited_seconds, settings)
    return decided if late.pool is not None and (decided.refusal or decided.hold) else late


def with_undecided_on_record(
    decision: Decision,
    message: CollectedMessage,
    connection: Connection,
    origin: Origin | None,
    *,
    log_name: str,
    services: Services,
) -> Decision:
    """Write down what leaves undecided, if that can be done: it has waited long enough. Returns the decision."""
    if decision.pool is not None:
        try:
            row = decision_record(log_name, message, connection, origin, at=services.clock(), decision=decision)
            services.state.record(row, services.settings.milter.ticket_lifetime)
        except StateUnavailable as error:
            _logger.error("%s: not on record: %s", message.queue_id, error)
    return decision


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
    tag, hold = pool, decision.rule if decision.hold and not services.settings.shadow else ""
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


def _refusal_text(decision: Decision, services: Services) -> str:
    contact = printable(services.settings.alerts.contact_address(services.settings.accepted_domains))
    if decision.rule in ABOUT_CONTENT:
        return fit_for_reply(f"This message was found to hold {decision.rule}. If that is wrong, ask {contact}")
    if decision.refusal is Refusal.TO_SENDER:
        return fit_for_reply(f"The mailbox that forwards this message may not do so. Ask {contact}")
    return "The sender of this message could not be authenticated, so that it is not forwarded"
