"""The egress pass: the message as it leaves is decided, tagged, and given a fresh ticket."""

from __future__ import annotations

import dataclasses
import logging

from deliverypools.adapters.state import Charge, StateUnavailable
from deliverypools.core import ticket as tickets
from deliverypools.core.accounts import UNKNOWN_USER_ID, limits_for, user_account
from deliverypools.core.facts import Answer, Finding, Ingress, MessageFacts, Origin
from deliverypools.core.received import own_received
from deliverypools.core.rules import NORMAL, UNDECIDED, Decision, after_waiting, classify
from deliverypools.core.ticket import Ticket, TicketError
from deliverypools.milter.collector import TAG_HEADER, CollectedMessage, Connection
from deliverypools.milter.seal import open_ticket
from deliverypools.milter.services import Services
from deliverypools.milter.verdict import Reply, Verdict, log_line

EGRESS = "EGRESS"
"""milter_macro_daemon_name of the listener behind the hop."""

_logger = logging.getLogger(__name__)


def egress_pass(
    message: CollectedMessage, connection: Connection, sender_domain: Finding, services: Services
) -> Verdict:
    """Return the verdict of the egress pass: a tag and a fresh ticket, or "try again" while it cannot be decided."""
    ticket, problem = _read_ticket(message, connection, services)
    if not problem:
        ticket = dataclasses.replace(ticket, origin=_with_count(ticket, message, connection, services))
    facts = MessageFacts(
        envelope_sender=message.envelope_sender,
        recipients=message.recipients,
        headers=message.headers,
        origin=None if problem else ticket.origin,
        origin_problem=problem or ticket.origin_problem,
        sender_domain_has_mx_or_address=sender_domain,
        forwarded_by=_forwarding_mailbox(ticket, message),
    )
    decision = classify(facts, services.settings)
    if decision.pool is None and not services.settings.shadow:
        decision = after_waiting(decision, _waited(ticket, services), services.settings)
    verdict = verdict_of(decision, message, ticket.origin, services)
    if verdict.reply is not Reply.CONTINUE:
        return verdict
    fresh = dataclasses.replace(ticket, binding=message.binding, pool=decision.pool or "", rule=decision.rule)
    return dataclasses.replace(verdict, add=(*verdict.add, (tickets.HEADER, services.sealer.seal(fresh))))


def failed_pass(message: CollectedMessage, connection: Connection, services: Services) -> Verdict:
    """Return the verdict about a message that nobody can decide, because deciding it raised an exception."""
    received = next(own_received(message.headers, connection.hostname), None)
    since = received.received_at if received else None
    decision = Decision(None, UNDECIDED, ("internal error, see the log",))
    waited = None if since is None else services.clock() - since
    return verdict_of(after_waiting(decision, waited, services.settings), message, None, services)


def verdict_of(
    decision: Decision, message: CollectedMessage, origin: Origin | None, services: Services, name: str = "egress"
) -> Verdict:
    """Return what to do with a message that was decided (or could not be): the tag, and the line in the log."""
    pool = NORMAL if services.settings.shadow else decision.pool
    log = log_line(
        message.queue_id,
        **{"pass": name},
        pool=decision.pool or "undecided",
        **({"shadow": pool} if services.settings.shadow else {}),
        rule=decision.rule,
        reasons="; ".join(decision.reasons),
        account=origin.account if origin else "",
        message_id=message.message_id,
    )
    if pool is None:
        text = "Not yet decided by which address this message leaves, please try again later"
        return Verdict(reply=Reply.TEMPFAIL, text=text, log=log)
    delete = ((TAG_HEADER, message.tags), (tickets.HEADER, message.tickets))
    return Verdict(delete=delete, add=((TAG_HEADER, pool),), log=log)


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


def _with_count(ticket: Ticket, message: CollectedMessage, connection: Connection, services: Services) -> Origin | None:
    """Return the origin with its recipients counted, where the first pass could not count them."""
    origin = ticket.origin
    if origin is None or origin.over_limit.answer not in (Answer.NOT_ASKED, Answer.UNKNOWN):
        return origin
    if origin.account == UNKNOWN_USER_ID:
        origin = dataclasses.replace(origin, account=_calling_user(ticket, message, connection))
    limit = limits_for(origin.ingress, services.settings).recipients_per_day
    charge = Charge(origin.ingress, origin.account, ticket.recipient_count, limit)
    try:
        over = services.state.charge_once(ticket.ticket_id, charge)
    except StateUnavailable as error:
        _logger.error("%s: not counted: %s", message.queue_id, error)
        over = Finding(Answer.UNKNOWN, "the state could not be written")
    return dataclasses.replace(origin, over_limit=over)


def _calling_user(ticket: Ticket, message: CollectedMessage, connection: Connection) -> str:
    """Return the account of the user who called sendmail(1).

    The Received field that Postfix wrote then is known by the queue id in the ticket; one that the user wrote is not.
    """
    for received in own_received(message.headers, connection.hostname):
        if received.queue_id == ticket.first_queue_id and received.user_id is not None:
            return user_account(received.user_id)
    return UNKNOWN_USER_ID


def _forwarding_mailbox(ticket: Ticket, message: CollectedMessage) -> str:
    """Return the mailbox that forwarded: a recipient we accepted, confirmed by what local(8) or sieve wrote."""
    if ticket.origin is None or ticket.origin.ingress is not Ingress.OUTSIDE:
        return ""
    for name in ("Delivered-To", "X-Sieve-Redirected-From"):
        for value in message.headers.all(name):
            if ticket.accepted_recipient(value.strip()):
                return value.strip()
    return ""
