"""The egress pass: the message as it leaves is decided, tagged, and given a fresh ticket."""

from __future__ import annotations

import dataclasses
import logging

from deliverypools.adapters.state import StateUnavailable
from deliverypools.core import ticket as tickets
from deliverypools.core.account_names import account_name
from deliverypools.core.accounts import UNKNOWN_USER_ID, user_account
from deliverypools.core.facts import Answer, Finding, Ingress, MessageFacts, Origin
from deliverypools.core.limits import Charge, charge_for
from deliverypools.core.received import own_received
from deliverypools.core.records import EGRESS_PASS
from deliverypools.core.rules import NORMAL, SPAM, UNDECIDED, Decision, after_waiting, classify
from deliverypools.core.ticket import Ticket, TicketError
from deliverypools.milter.accounting import account_behind, count_once, note_spam, restricted
from deliverypools.milter.collector import TAG_HEADER, CollectedMessage, Connection
from deliverypools.milter.copying import keep_copy
from deliverypools.milter.decision_log import decision_record
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
    forwarder = "" if problem else _forwarding_mailbox(ticket, message)
    if not problem:
        origin = _with_count(ticket, message, connection, forwarder, services)
        ticket = dataclasses.replace(ticket, origin=origin)
    facts = MessageFacts(
        envelope_sender=message.envelope_sender,
        recipients=message.recipients,
        headers=message.headers,
        origin=None if problem else ticket.origin,
        origin_problem=problem or ticket.origin_problem,
        account_restricted=_restricted(None if problem else ticket.origin, message, services),
        sender_domain_has_mx_or_address=sender_domain,
        forwarded_by=forwarder,
    )
    decision = classify(facts, services.settings)
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
    verdict = verdict_of(decision, message, ticket.origin, services)
    if verdict.reply is not Reply.CONTINUE:
        return verdict
    fresh = dataclasses.replace(ticket, binding=message.binding, pool=decision.pool or "", rule=decision.rule)
    return dataclasses.replace(verdict, add=(*verdict.add, (tickets.HEADER, services.sealer.seal(fresh))))


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
        keep_copy(message.draft, row, once, services)
        # What a mailbox forwards is no sign that its owner sends spam.
        if decision.rule == SPAM and account and origin and origin.ingress is not Ingress.OUTSIDE:
            note_spam(account, once, services)
    except StateUnavailable as error:
        _logger.error("%s: not on record: %s", message.queue_id, error)
        return Decision(None, UNDECIDED, ("the state could not be written",))
    return decision


def _restricted(origin: Origin | None, message: CollectedMessage, services: Services) -> Finding:
    account = account_behind(origin, services) if origin else None
    return restricted(account, message.queue_id, services)


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
    log = log_line(
        message.queue_id,
        **{"pass": name},
        pool=decision.pool or "undecided",
        **({"shadow": pool} if services.settings.shadow else {}),
        rule=decision.rule,
        **({"hold": "yes"} if decision.hold else {}),
        reasons="; ".join(decision.reasons),
        account=origin.account if origin else "",
        message_id=message.message_id,
    )
    if pool is None:
        text = "Not yet decided by which address this message leaves, please try again later"
        return Verdict(reply=Reply.TEMPFAIL, text=text, log=log)
    delete = ((TAG_HEADER, message.tags), (tickets.HEADER, message.tickets))
    hold = decision.rule if decision.hold and not services.settings.shadow else ""
    return Verdict(delete=delete, add=((TAG_HEADER, pool),), hold=hold, log=log)


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


def _with_count(
    ticket: Ticket, message: CollectedMessage, connection: Connection, forwarder: str, services: Services
) -> Origin | None:
    """Return the origin with its recipients counted, where the first pass could not count them."""
    origin = ticket.origin
    if origin is None:
        return None
    if origin.ingress is Ingress.OUTSIDE:
        # A bounce that a mailbox forwards is charged to nobody, as everything with a null sender from outside.
        is_counted = bool(origin.account) and origin.over_limit.answer is not Answer.UNKNOWN
        if forwarder and origin.envelope_sender and not is_counted:
            return _forward_counted(origin, forwarder, ticket, message, services)
        return origin
    if origin.over_limit.answer not in (Answer.NOT_ASKED, Answer.UNKNOWN):
        return origin
    if origin.account == UNKNOWN_USER_ID:
        origin = _with_user(origin, _calling_user(ticket, message, connection), services)
    account = account_behind(origin, services)
    if account is None:
        return origin
    charge = Charge(account, ticket.internal_count, ticket.recipient_count - ticket.internal_count)
    counted = count_once(charge, ticket.ticket_id, message.queue_id, services)
    return dataclasses.replace(origin, over_limit=counted.over_limit)


def _with_user(origin: Origin, user_id: int | None, services: Services) -> Origin:
    """Return the origin of sendmail(1) mail with the account of its user."""
    if user_id == services.own_user_id and not origin.envelope_sender:
        # Our own alerts and copies: never through our own limits, or nobody would hear of them.
        return dataclasses.replace(origin, account="", over_limit=Finding(Answer.NO))
    return origin if user_id is None else dataclasses.replace(origin, account=user_account(user_id))


def _forward_counted(
    origin: Origin, forwarder: str, ticket: Ticket, message: CollectedMessage, services: Services
) -> Origin:
    """Return the origin of a forwarded message with its recipients counted for the mailbox that forwarded it.

    Once for each message and mailbox. Postfix splits what one mailbox forwards to more than 50 addresses: of those the
    first 50 count.
    """
    origin = dataclasses.replace(origin, account=account_name(forwarder))
    account = account_behind(origin, services)
    if account is None:
        return origin
    charge = charge_for(account, message.recipients, services.settings)
    name = f"{ticket.ticket_id}/{account.name}"
    counted = count_once(charge, name, message.queue_id, services)
    return dataclasses.replace(origin, over_limit=counted.over_limit)


def _calling_user(ticket: Ticket, message: CollectedMessage, connection: Connection) -> int | None:
    """Return the id of the user who called sendmail(1); None where a site removes what tells it.

    The Received field that Postfix wrote then is known by the queue id in the ticket; one that the user wrote is not.
    """
    for received in own_received(message.headers, connection.hostname):
        if received.queue_id == ticket.first_queue_id and received.user_id is not None:
            return received.user_id
    return None


def _forwarding_mailbox(ticket: Ticket, message: CollectedMessage) -> str:
    """Return the mailbox that forwarded: a recipient we accepted, confirmed by what local(8) or sieve wrote.

    An alias confirms nothing, so that it is known where it was the only recipient.
    """
    if ticket.origin is None or ticket.origin.ingress is not Ingress.OUTSIDE:
        return ""
    for name in ("Delivered-To", "X-Sieve-Redirected-From"):
        for value in message.headers.all(name):
            if ticket.accepted_recipient(value.strip()):
                return value.strip()
    return ticket.only_recipient
