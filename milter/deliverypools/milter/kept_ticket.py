"""The ticket that a message brings along when it comes in again: from a filter, or sent on by a program of ours."""

from __future__ import annotations

import contextlib
import dataclasses

from deliverypools.adapters.seal import open_ticket
from deliverypools.core.facts import Answer, Finding, Ingress, Origin
from deliverypools.core.spam_headers import spam_evidence
from deliverypools.core.ticket import Ticket, TicketError
from deliverypools.milter.collector import CollectedMessage
from deliverypools.milter.services import Services


def ticket_of_forwarded(message: CollectedMessage, origin: Origin, services: Services) -> Ticket | None:
    """Return the ticket of a message from outside that a program of ours sends on: sieve, procmail, a gateway.

    It stays outside mail, but whoever sends it on is checked and counted like any sender: a trusted client here, the
    user of sendmail(1) in the egress pass, which finds him by `resent_queue_id`.
    """
    if origin.ingress not in (Ingress.LOCAL, Ingress.TRUSTED):
        return None
    ticket = _ticket_that_gains_nothing(message, services)
    if ticket is None:
        return None
    if ticket.binding.difference(message.binding):
        ticket = _of_changed_mail(ticket)
    if origin.ingress is Ingress.TRUSTED:
        return dataclasses.replace(ticket, binding=message.binding)
    return dataclasses.replace(ticket, binding=message.binding, resent_queue_id=message.queue_id)


def _of_changed_mail(ticket: Ticket) -> Ticket:
    """Return the ticket of a message that was changed on its way, and so may be anything.

    Nobody has authenticated it; who sends it answers for it, and no mailbox.
    """
    origin = ticket.origin
    if origin is not None and origin.authenticated.answer is not Answer.NOT_ASKED:
        changed = Finding(Answer.NO, "changed since it arrived")
        # SPF was asked about the envelope and the client: that has not changed.
        kept = " ".join(word for word in origin.authentication_results.split() if word.startswith("spf="))
        origin = dataclasses.replace(
            origin, authenticated=changed, envelope_authenticated=changed, authentication_results=kept
        )
    return dataclasses.replace(ticket, origin=origin, results_digest="", is_of_changed_mail=True)


def with_excess(kept: Ticket, origin: Origin) -> Ticket:
    """Return the ticket of a message that a trusted client sends on, with what that client exceeds."""
    if kept.origin is None or origin.over_limit.answer is not Answer.YES:
        return kept
    return dataclasses.replace(kept, origin=dataclasses.replace(kept.origin, over_limit=origin.over_limit))


def ticket_after_filter(message: CollectedMessage, services: Services) -> tuple[Ticket | None, str]:
    """Return the ticket of a message that a content filter gives back, bound anew, or why there is none.

    What the filter says of spam goes into it: a notice about the message is read by the ticket alone.
    """
    problem = ""
    ticket: Ticket | None
    try:
        ticket = open_ticket(
            services.sealer,
            message.ticket_values,
            message.binding,
            now=services.clock(),
            lifetime_seconds=services.settings.milter.ticket_lifetime,
            after_filter=True,
        )
    except TicketError as error:
        kept = _ticket_that_gains_nothing(message, services)
        ticket, problem = _of_changed_mail(kept) if kept else None, str(error)
    if ticket is None:
        return None, problem
    spam = spam_evidence(message.headers, services.settings.spam.headers)
    if ticket.origin and spam and not ticket.origin.spam:
        ticket = dataclasses.replace(ticket, origin=dataclasses.replace(ticket.origin, spam=spam))
    return dataclasses.replace(ticket, binding=message.binding), problem


def _ticket_that_gains_nothing(message: CollectedMessage, services: Services) -> Ticket | None:
    """Return a ticket that says "it came from outside" or "it is a bounce", whether it fits or not.

    What comes from sendmail(1), a trusted client or a filter can be anybody's copy of anything, changed at will. So
    there a ticket that does not fit is believed only where that gains nothing; but then it must be believed: a
    missing Message-ID, which Postfix adds, or a changed Subject must not make outside mail ours.
    """
    for value in message.ticket_values:
        with contextlib.suppress(TicketError):
            ticket = services.sealer.open(value)
            is_fresh = _age(ticket, services) <= services.settings.milter.ticket_lifetime
            if is_fresh and ticket.origin and ticket.origin.ingress in (Ingress.OUTSIDE, Ingress.BOUNCE):
                return dataclasses.replace(ticket, made_at=services.clock(), first_made_at=ticket.accepted_at)
    return None


def _age(ticket: Ticket, services: Services) -> float:
    return 0.0 if ticket.accepted_at is None else services.clock() - ticket.accepted_at
