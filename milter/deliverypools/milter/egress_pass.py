"""The egress pass: the message as it leaves is decided, tagged, and given a fresh ticket."""

from __future__ import annotations

import dataclasses
import logging

from deliverypools.adapters.seal import open_ticket
from deliverypools.adapters.state import StateUnavailable
from deliverypools.core import ticket as tickets
from deliverypools.core.addresses import normalise_address
from deliverypools.core.authentication import Authentication, with_authentication
from deliverypools.core.decisions import (
    FORWARDING_REFUSED,
    MALWARE,
    NORMAL,
    REFUSED_CONTENT_TAG,
    REFUSED_TAG,
    SPAM,
    UNDECIDED,
    Decision,
    Refusal,
)
from deliverypools.core.dns_lists import HEADER as LIST_HEADER
from deliverypools.core.dsn.was_it_ours import HEADER as DSN_HEADER
from deliverypools.core.facts import Answer, Finding, Ingress, MessageFacts, Origin, fit_for_reply, printable
from deliverypools.core.forwarding import leaving_sender
from deliverypools.core.mailing_lists import list_posted_to
from deliverypools.core.received import fields_above, own_received
from deliverypools.core.records import EGRESS_PASS
from deliverypools.core.rules import after_waiting
from deliverypools.core.srs import is_rewritten_already, sender_of
from deliverypools.core.ticket import Ticket, TicketError
from deliverypools.milter.accounting import account_behind, note_spam
from deliverypools.milter.collector import TAG_HEADER, CollectedMessage, Connection
from deliverypools.milter.copying import keep_copy
from deliverypools.milter.decision_log import decision_record, outcome_of
from deliverypools.milter.egress_accounts import SentOn, restricted_here, sent_on_by, with_count
from deliverypools.milter.scanning import decide
from deliverypools.milter.services import Services
from deliverypools.milter.verdict import Reply, Verdict, log_line

EGRESS = "EGRESS"
"""milter_macro_daemon_name of the listener behind the hop."""

_CHANGED = Finding(Answer.NO, "changed since it arrived")

_logger = logging.getLogger(__name__)


def egress_pass(
    message: CollectedMessage,
    connection: Connection,
    sender_domain: Finding,
    services: Services,
    found: Authentication | None = None,
) -> Verdict:
    """Return the verdict of the egress pass: a tag and a fresh ticket, or "try again" while it cannot be decided.

    `found` is what SPF, DKIM and DMARC say now, where they could not be told when the message arrived.
    """
    ticket, problem = _read_ticket(message, connection, services)
    if found is not None and ticket.origin is not None:
        ticket = dataclasses.replace(ticket, origin=with_authentication(ticket.origin, found))
    sent_on = SentOn()
    if not problem:
        sent_on = sent_on_by(ticket, message, connection, services.settings)
        ticket = dataclasses.replace(ticket, origin=with_count(ticket, message, sent_on, services))
    facts = _facts(
        message, connection, ticket, sent_on, problem=problem, sender_domain=sender_domain, services=services
    )
    decision = decide(facts, message, connection, services, services.settings.spam.timeout_seconds)
    if decision.pool is not None:
        decision = recorded(
            decision,
            message,
            connection,
            ticket.origin,
            log_name=EGRESS_PASS,
            once=ticket.ticket_id,
            services=services,
        )
    if decision.pool is None and not services.settings.shadow:
        decision = after_waiting(decision, _waited(ticket, services), services.settings)
        note_undecided(decision, message, connection, ticket.origin, log_name=EGRESS_PASS, services=services)
    verdict = verdict_of(decision, message, ticket.origin, services)
    if verdict.reply is not Reply.CONTINUE:
        return verdict
    verdict = dataclasses.replace(
        verdict,
        new_sender=_new_sender(facts, decision, message, services),
        notify_of_failure=message.silent_recipients if decision.refusal and not services.settings.shadow else (),
    )
    fresh = dataclasses.replace(
        ticket,
        origin=_with_verdict(ticket.origin, decision),
        binding=message.binding,
        pool=decision.pool or "",
        rule=decision.rule,
    )
    return dataclasses.replace(verdict, add=(*verdict.add, (tickets.HEADER, services.sealer.seal(fresh))))


def _with_verdict(origin: Origin | None, decision: Decision) -> Origin | None:
    """Return the origin with what scanners found, for a notice about the message: it may have a forged sender."""
    if origin is None or origin.spam:
        return origin
    found = printable("; ".join(decision.reasons)) if decision.rule in (SPAM, MALWARE) else ""
    return dataclasses.replace(origin, spam_when_it_left=found)


def _facts(
    message: CollectedMessage,
    connection: Connection,
    ticket: Ticket,
    sent_on: SentOn,
    *,
    problem: str,
    sender_domain: Finding,
    services: Services,
) -> MessageFacts:
    """Return what is known of a message; `problem` is what speaks against believing its ticket."""
    origin = None if problem else ticket.origin
    sender = sender_of(message.envelope_sender, origin, services.rewriter)
    if origin is not None and sender.has_changed:
        origin = dataclasses.replace(origin, envelope_authenticated=_CHANGED)
    # Of copies that Postfix adds nobody is notified; where a mailbox forwards, sendmail(1) may have been told so.
    may_be_archived = not ticket.asks_for_silence and not sent_on.automatic
    return MessageFacts(
        envelope_sender=sender.original,
        recipients=message.recipients,
        headers=message.headers,
        kind=message.kind,
        origin=origin,
        origin_problem=problem or ticket.origin_problem,
        account_restricted=Finding(Answer.NO) if problem else restricted_here(ticket, message, sent_on, services),
        sender_domain_has_mx_or_address=sender_domain,
        forwarded_by=sent_on.automatic or sent_on.mailbox,
        is_forwarded_automatically=bool(sent_on.automatic),
        mailing_list=_mailing_list(message, connection, ticket, sent_on, services) if origin else "",
        archive_copies=len(message.silent_recipients) if may_be_archived else 0,
        rewritten_sender=sender.rewritten,
    )


def _mailing_list(
    message: CollectedMessage, connection: Connection, ticket: Ticket, sent_on: SentOn, services: Services
) -> str:
    names = ("X-Sieve-Redirected-From",)
    is_redirected = any(fields_above(message.headers, names, connection.hostname, ticket.first_queue_id))
    if is_redirected or ticket.origin is None:
        return ""
    # Behind a virtual alias it is not the recipient that we accepted.
    by_local = "" if ticket.resent_queue_id else normalise_address(sent_on.automatic)

    def is_recipient(address: str) -> bool:
        return ticket.accepted_recipient(address) or (bool(by_local) and by_local == normalise_address(address))

    return list_posted_to(message.envelope_sender, ticket.origin.envelope_sender, is_recipient, services.settings)


def _new_sender(facts: MessageFacts, decision: Decision, message: CollectedMessage, services: Services) -> str:
    """Return the envelope sender that replaces the message's, "" if that stays."""
    if services.settings.shadow or facts.origin is None:
        return ""
    match decision.refusal:
        case Refusal.TO_FORWARDER:
            return facts.forwarded_by
        case Refusal.TO_POSTMASTER:
            return f"postmaster@{services.settings.accepted_domains[0]}"
    if is_rewritten_already(message.envelope_sender, facts.origin, services.rewriter):
        return ""
    # What could not be decided in time leaves as it came.
    sender = facts.envelope_sender if decision.rule == UNDECIDED else leaving_sender(facts, services.settings)
    return "" if sender == message.envelope_sender else sender


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
        if decision.rule in (SPAM, MALWARE) and account and origin and origin.ingress is not Ingress.OUTSIDE:
            note_spam(account, once, services)
    except StateUnavailable as error:
        _logger.error("%s: not on record: %s", message.queue_id, error)
        return Decision(None, UNDECIDED, ("the state could not be written",))
    return decision


def note_undecided(
    decision: Decision,
    message: CollectedMessage,
    connection: Connection,
    origin: Origin | None,
    *,
    log_name: str,
    services: Services,
) -> None:
    """Write down what leaves undecided, if that can be done: it has waited long enough."""
    if decision.pool is None:
        return
    try:
        row = decision_record(log_name, message, connection, origin, at=services.clock(), decision=decision)
        services.state.record(row, services.settings.milter.ticket_lifetime)
    except StateUnavailable as error:
        _logger.error("%s: not on record: %s", message.queue_id, error)


def failed_pass(message: CollectedMessage, connection: Connection, services: Services) -> Verdict:
    """Return the verdict about a message that nobody can decide, because deciding it raised an exception."""
    received = next(own_received(message.headers, connection.hostname), None)
    since = received.received_at if received else None
    decision = Decision(None, UNDECIDED, ("internal error, see the log",))
    waited = None if since is None else services.clock() - since
    return verdict_of(after_waiting(decision, waited, services.settings), message, None, services)


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
    if refusal is Refusal.TO_SENDER or (refusal and name != EGRESS_PASS):
        # Over SMTP it is the client who is told: it still has the message.
        return Verdict(reply=Reply.REJECT, text=_refusal_text(decision, services), log=log)
    # The last two are for our users, not for others.
    delete = (
        (TAG_HEADER, message.tags),
        (tickets.HEADER, message.tickets),
        (DSN_HEADER, message.dsn_fields),
        (LIST_HEADER, message.list_fields),
    )
    hold = decision.rule if decision.hold and not services.settings.shadow else ""
    return Verdict(delete=delete, add=((TAG_HEADER, _refused_tag(decision) if refusal else pool),), hold=hold, log=log)


def _refused_tag(decision: Decision) -> str:
    return REFUSED_TAG if decision.rule == FORWARDING_REFUSED else REFUSED_CONTENT_TAG


def _refusal_text(decision: Decision, services: Services) -> str:
    contact = printable(services.settings.alerts.contact_address(services.settings.accepted_domains))
    if decision.rule in (SPAM, MALWARE):
        return fit_for_reply(f"This message was found to hold {decision.rule}. If that is wrong, ask {contact}")
    if decision.refusal is Refusal.TO_SENDER:
        return fit_for_reply(f"The mailbox that forwards this message may not do so. Ask {contact}")
    return "The sender of this message could not be authenticated, so that it is not forwarded"


def _read_ticket(message: CollectedMessage, connection: Connection, services: Services) -> tuple[Ticket, str]:
    """Return the ticket of a message and what speaks against believing it now, "" if nothing does.

    A message without a valid ticket gets one that says so: it keeps the time from which we wait for a decision.
    """
    lifetime = services.settings.milter.ticket_lifetime
    received = next(own_received(message.headers, connection.hostname), None)
    queue_id = received.queue_id if received else ""
    try:
        ticket = open_ticket(
            services.sealer, message.ticket_values, message.binding, now=services.clock(), lifetime_seconds=lifetime
        )
        try:
            within = services.state.use_ticket(ticket.ticket_id, queue_id, ticket.most_uses, lifetime)
        except StateUnavailable as error:
            _logger.error("%s: %s", message.queue_id, error)
            return ticket, "the state could not be read"
        if not within:
            raise TicketError("ticket was used too often")
    except TicketError as error:
        since = received.received_at if received else None
        ticket = Ticket(
            ticket_id=services.new_ticket_id(),
            made_at=since,
            first_queue_id=queue_id,
            origin=None,
            origin_problem=str(error),
            binding=message.binding,
            recipient_count=len(message.recipients),
        )
    return ticket, ""


def _waited(ticket: Ticket, services: Services) -> float | None:
    return None if ticket.made_at is None else services.clock() - ticket.made_at
