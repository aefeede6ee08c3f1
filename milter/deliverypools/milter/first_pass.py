"""The first pass: what is known when a message enters goes into its ticket (or, in express, decides at once)."""

from __future__ import annotations

from deliverypools.adapters.state import Charge, StateUnavailable
from deliverypools.core import ticket as tickets
from deliverypools.core.accounts import UNKNOWN_USER_ID, limits_for, smtp_account, smtp_ingress
from deliverypools.core.facts import Answer, Finding, Ingress, Origin
from deliverypools.core.reports import spam_evidence
from deliverypools.core.ticket import Ticket, TicketError, recipient_digests
from deliverypools.milter.collector import TAG_HEADER, CollectedMessage, Connection
from deliverypools.milter.seal import open_ticket
from deliverypools.milter.services import Services
from deliverypools.milter.verdict import Reply, Verdict, log_line

BOUNCE = "BOUNCE"
PICKUP = "PICKUP"
REINJECT = "REINJECT"

_MOST_HEADERS_OF_OURS = 50


def refuse_header_flood(message: CollectedMessage) -> Verdict | None:
    """Refuse a message with more of our headers than anything honest has: each costs a command to remove."""
    if max(message.tags, message.tickets) <= _MOST_HEADERS_OF_OURS:
        return None
    text = f"Too many {TAG_HEADER} header fields"
    log = log_line(message.queue_id, **{"pass": "first"}, reply="reject", reasons=text, message_id=message.message_id)
    return Verdict(reply=Reply.REJECT, text=text, log=log)


def first_pass(message: CollectedMessage, connection: Connection, services: Services) -> Verdict:
    """Return the verdict of the first pass in the hop profile: forged headers out, a ticket in."""
    if refusal := refuse_header_flood(message):
        return refusal
    kept, problem = _ticket_to_keep(message, connection, services)
    strip: tuple[tuple[str, int], ...] = ((TAG_HEADER, message.tags), (tickets.HEADER, message.tickets))
    add: tuple[tuple[str, str], ...] = ()
    if kept is not None and connection.daemon_name == PICKUP:
        # It stays as it is: bound to this message, and its recipients are those that we accepted.
        origin, strip = kept.origin, ((TAG_HEADER, message.tags),)
    elif connection.daemon_name == REINJECT:
        origin = kept.origin if kept else None
        if kept:
            add = ((tickets.HEADER, services.sealer.seal(_bound_anew(kept, message))),)
    else:
        origin, problem = origin_of(message, connection, services), ""
        add = ((tickets.HEADER, services.sealer.seal(make_ticket(message, origin, services))),)
    return Verdict(delete=strip, add=add, log=_log(message, origin, problem))


def origin_of(message: CollectedMessage, connection: Connection, services: Services) -> Origin:
    """Return what is known of a message that enters now; counts its recipients where somebody is charged."""
    settings = services.settings
    ingress = _ingress(message, connection, services)
    account = smtp_account(
        ingress,
        sasl_username=message.sasl_username,
        client_address=connection.client_address,
        envelope_sender=message.envelope_sender,
        settings=settings,
    )
    over_limit = Finding(Answer.NO)
    if account:
        limit = limits_for(ingress, settings).recipients_per_day
        try:
            over_limit = services.state.commit(message.queue_id, Charge(account, len(message.recipients), limit))
        except StateUnavailable:
            over_limit = Finding(Answer.UNKNOWN, "the state could not be written when it was accepted")
    elif ingress is Ingress.LOCAL:
        # Only the egress pass can see who called sendmail(1): Postfix hides its own Received field from this one.
        over_limit = Finding(Answer.NOT_ASKED)
        account = UNKNOWN_USER_ID
    return Origin(
        ingress=ingress,
        account=account,
        envelope_sender=message.envelope_sender,
        client_address=connection.client_address if ingress not in (Ingress.LOCAL, Ingress.BOUNCE) else "",
        over_limit=over_limit,
        spam=spam_evidence(message.headers, settings.spam.headers),
    )


def make_ticket(message: CollectedMessage, origin: Origin, services: Services) -> Ticket:
    """Return a new ticket for a message that enters now."""
    ticket_id = services.new_ticket_id()
    return Ticket(
        ticket_id=ticket_id,
        made_at=services.clock(),
        first_queue_id=message.queue_id,
        origin=origin,
        binding=message.binding,
        recipient_count=len(message.recipients),
        recipient_digests=recipient_digests(ticket_id, message.recipients),
    )


def _ingress(message: CollectedMessage, connection: Connection, services: Services) -> Ingress:
    if connection.daemon_name == PICKUP:
        return Ingress.LOCAL
    if connection.daemon_name == BOUNCE:
        return Ingress.BOUNCE
    return smtp_ingress(message.sasl_username, connection.client_address, services.settings)


def _ticket_to_keep(message: CollectedMessage, connection: Connection, services: Services) -> tuple[Ticket | None, str]:
    """Return the ticket of a message that was here before: after a content filter, or from sendmail(1) (sieve).

    What comes from sendmail(1) can be anybody's copy, so it keeps only a ticket that gains nothing: one that says
    "from outside" or "a bounce". Over SMTP from a client a ticket is always replaced.
    """
    after_filter = connection.daemon_name == REINJECT
    if not after_filter and connection.daemon_name != PICKUP:
        return None, ""
    try:
        ticket = open_ticket(
            services.sealer,
            message.ticket_values,
            message.binding,
            now=services.clock(),
            lifetime_seconds=services.settings.milter.ticket_lifetime,
            after_filter=after_filter,
        )
    except TicketError as error:
        return None, str(error)
    if after_filter or (ticket.origin and ticket.origin.ingress in (Ingress.OUTSIDE, Ingress.BOUNCE)):
        return ticket, ""
    return None, ""


def _bound_anew(ticket: Ticket, message: CollectedMessage) -> Ticket:
    """Return the ticket of a message as a content filter left it."""
    return Ticket(
        ticket_id=ticket.ticket_id,
        made_at=ticket.made_at,
        first_queue_id=ticket.first_queue_id,
        origin=ticket.origin,
        origin_problem=ticket.origin_problem,
        binding=message.binding,
        recipient_count=ticket.recipient_count,
        recipient_digests=ticket.recipient_digests,
    )


def _log(message: CollectedMessage, origin: Origin | None, problem: str) -> str:
    return log_line(
        message.queue_id,
        **{"pass": "first"},
        ingress=origin.ingress if origin else "unknown",
        reasons=_reasons(origin, problem),
        recipients=len(message.recipients),
        account=origin.account if origin else "",
        message_id=message.message_id,
    )


def _reasons(origin: Origin | None, problem: str) -> str:
    if origin is None:
        return problem
    found = [origin.client_address and f"client {origin.client_address}", origin.spam, origin.over_limit.evidence]
    return "; ".join(filter(None, found))
