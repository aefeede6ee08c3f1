"""The egress pass: the message as it leaves is decided, tagged, and given a fresh ticket."""

from __future__ import annotations

import dataclasses
import logging
from itertools import islice

from deliverypools.adapters.seal import open_ticket
from deliverypools.adapters.state import StateUnavailable
from deliverypools.core import ticket as tickets
from deliverypools.core.addresses import normalise_address
from deliverypools.core.authentication import Authentication, with_authentication
from deliverypools.core.decisions import ABOUT_CONTENT, UNDECIDED, Decision, Refusal
from deliverypools.core.facts import Answer, Finding, MessageFacts, Origin, printable
from deliverypools.core.forwarding import leaving_sender
from deliverypools.core.limits import Held
from deliverypools.core.mailing_lists import list_posted_to
from deliverypools.core.pre_install import PRE_INSTALL, origin_before_install
from deliverypools.core.received import Received, fields_above, own_received
from deliverypools.core.records import EGRESS_PASS
from deliverypools.core.rules import after_waiting
from deliverypools.core.srs import is_rewritten_already, sender_of
from deliverypools.core.ticket import Ticket, TicketError
from deliverypools.milter.collector import CollectedMessage, Connection
from deliverypools.milter.egress_accounts import SentOn, restricted_here, sent_on_by, with_count
from deliverypools.milter.probing import probe_verdict
from deliverypools.milter.scanning import decide
from deliverypools.milter.services import Services
from deliverypools.milter.settling import Passage, settled, verdict_of
from deliverypools.milter.verdict import Reply, Verdict

_MOST_REQUEUES = 20
_STATE_UNREADABLE = "the state could not be read"
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
    if probe := probe_verdict(message, connection, services, log_name=EGRESS_PASS):
        return probe
    received = next(own_received(message.headers, connection.hostname), None)
    ticket, problem, was_queued = _read_ticket(message, connection, received, services)
    if found is not None and ticket.origin is not None:
        ticket = dataclasses.replace(ticket, origin=with_authentication(ticket.origin, found))
    sent_on = SentOn()
    held: tuple[Held, ...] = ()
    if not problem:
        sent_on = sent_on_by(ticket, message, connection, services.settings)
        if not was_queued:
            origin, held = with_count(ticket, message, sent_on, services)
            ticket = dataclasses.replace(ticket, origin=origin)
    facts = facts_of(
        message,
        connection,
        ticket,
        sent_on,
        problem=problem,
        account_restricted=Finding(Answer.NO) if problem else restricted_here(ticket, message, sent_on, services),
        sender_domain=sender_domain,
        services=services,
    )
    facts, decided = decide(facts, message, connection, services, services.settings.spam.timeout_seconds)
    if was_queued:
        decided = dataclasses.replace(decided, reasons=(PRE_INSTALL, *decided.reasons))
    passage = Passage(
        log_name=EGRESS_PASS,
        message=message,
        connection=connection,
        origin=ticket.origin,
        facts=facts,
        held=held,
        once=ticket.ticket_id,
        first_queue_id=ticket.first_queue_id,
        waiting_id=received.queue_id if received else "",
    )
    decision = settled(decided, passage, _waited(ticket, services), services)
    verdict = verdict_of(decision, message, ticket.origin, services)
    if verdict.reply is not Reply.CONTINUE:
        return verdict
    verdict = dataclasses.replace(
        verdict,
        new_sender=new_sender(facts, decision, message, services),
        returns_header_only=decision.refusal is not None and decision.rule in ABOUT_CONTENT,
        notify_of_failure=() if services.settings.shadow else _to_be_told_of(facts, decision, message, ticket),
    )
    return with_ticket(verdict, ticket, decision, message, services)


def with_ticket(
    verdict: Verdict, ticket: Ticket, decision: Decision, message: CollectedMessage, services: Services
) -> Verdict:
    """Return the verdict with a fresh ticket, which tells of the decision too: a requeued message has it."""
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
    found = printable("; ".join(decision.reasons)) if decision.rule in ABOUT_CONTENT else ""
    if found == origin.spam_when_it_left:
        return origin
    return dataclasses.replace(origin, spam_when_it_left=found)


def facts_of(
    message: CollectedMessage,
    connection: Connection,
    ticket: Ticket,
    sent_on: SentOn,
    *,
    problem: str,
    account_restricted: Finding,
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
        is_sent_on=ticket.first_made_at is not None,
        account_restricted=account_restricted,
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


def new_sender(facts: MessageFacts, decision: Decision, message: CollectedMessage, services: Services) -> str:
    """Return the envelope sender that replaces the message's, "" if that stays."""
    if services.settings.shadow:
        return ""
    match decision.refusal:
        case Refusal.TO_SENDER:
            return message.envelope_sender
        case Refusal.TO_FORWARDER:
            return facts.forwarded_by
        case Refusal.TO_POSTMASTER:
            return f"postmaster@{services.settings.accepted_domains[0]}"
    if facts.origin is None or is_rewritten_already(message.envelope_sender, facts.origin, services.rewriter):
        return ""
    # What could not be decided in time leaves as it came.
    sender = facts.envelope_sender if decision.rule == UNDECIDED else leaving_sender(facts, services.settings)
    return "" if sender == message.envelope_sender else sender


def _to_be_told_of(
    facts: MessageFacts, decision: Decision, message: CollectedMessage, ticket: Ticket
) -> tuple[str, ...]:
    """Return the recipients for whom silence was asked, and who are in the notice of a refusal all the same.

    Not those that Postfix has added beside others: the notice is about these, and tells nobody of an archive.
    """
    if decision.refusal is None or 0 < facts.archive_copies < len(facts.recipients):
        return ()
    asked = tuple(filter(ticket.accepted_recipient, message.silent_recipients)) if ticket.asks_for_silence else ()
    return asked or message.silent_recipients


def failed_pass(message: CollectedMessage, connection: Connection, services: Services) -> Verdict:
    """Return the verdict about a message that nobody can decide, because deciding it raised an exception."""
    received = next(own_received(message.headers, connection.hostname), None)
    since = received.received_at if received else None
    decision = Decision(None, UNDECIDED, ("internal error, see the log",))
    waited = None if since is None else services.clock() - since
    return verdict_of(after_waiting(decision, waited, services.settings), message, None, services)


def _read_ticket(
    message: CollectedMessage, connection: Connection, received: Received | None, services: Services
) -> tuple[Ticket, str, bool]:
    """Return the ticket of a message, what speaks against believing it now, and whether there could be none.

    Nothing speaks against it: "". What was queued before the installation is known by its header instead. Any other
    message without a valid ticket gets one that says so: it keeps the time from which we wait for a decision.
    `received` is its topmost Received field of ours.
    """
    lifetime = services.settings.milter.ticket_lifetime
    queue_id = received.queue_id if received else ""
    try:
        ticket = open_ticket(
            services.sealer, message.ticket_values, message.binding, now=services.clock(), lifetime_seconds=lifetime
        )
        try:
            within = services.state.use_ticket(ticket.ticket_id, queue_id, ticket.most_uses, lifetime)
        except StateUnavailable as error:
            _logger.error("%s: %s", message.queue_id, error)
            return ticket, _STATE_UNREADABLE, False
        if not within:
            raise TicketError("ticket was used too often")
    except TicketError as error:
        problem, known = str(error), None
        if not message.tickets:
            try:
                known = _known_by_its_header(message, connection, services)
            except StateUnavailable as unavailable:
                _logger.error("%s: %s", message.queue_id, unavailable)
                problem = _STATE_UNREADABLE
        made_at, origin = known or (received.received_at if received else None, None)
        ticket = Ticket(
            ticket_id=services.new_ticket_id(),
            made_at=made_at,
            first_queue_id=queue_id,
            origin=origin,
            origin_problem="" if known else problem,
            binding=message.binding,
            recipient_count=len(message.recipients),
        )
        return ticket, "", known is not None
    return ticket, "", False


def _known_by_its_header(
    message: CollectedMessage, connection: Connection, services: Services
) -> tuple[float, Origin] | None:
    """Return since when a message of before the installation waits for us, and its origin; None for all other mail.

    Requeued since, its queue id of then is not the topmost any more.

    Raises:
        StateUnavailable: it cannot be told whether it is of before.
    """
    host = connection.hostname
    for received in islice(own_received(message.headers, host), _MOST_REQUEUES):
        noted_at = services.state.queued_since(host, received.queue_id)
        if noted_at is not None:
            origin = origin_before_install(message.headers, host, message.envelope_sender, services.settings)
            return noted_at, origin
    return None


def _waited(ticket: Ticket, services: Services) -> float | None:
    return None if ticket.made_at is None else services.clock() - ticket.made_at
