"""The ticket of a message that a DSN returns."""

from __future__ import annotations

import contextlib

from deliverypools.adapters.seal import open_ticket
from deliverypools.core.dsn.report import Report, binding_of
from deliverypools.core.facts import Ingress
from deliverypools.core.ticket import HEADER, Ticket, TicketError
from deliverypools.milter.services import Services


def ticket_returned(report: Report, services: Services) -> tuple[Ticket | None, str]:
    """Return the ticket of the message that a DSN returns, if it is ours and fits; else None, and why not."""
    if report.returned is None:
        return None, "no message is returned"
    try:
        ticket = open_ticket(
            services.sealer,
            tuple(report.returned.headers.all(HEADER)),
            binding_of(report.returned),
            now=services.clock(),
            lifetime_seconds=services.settings.milter.ticket_lifetime,
            # Of the body there may be nothing.
            after_filter=True,
        )
    except TicketError as error:
        return None, str(error)
    return ticket, ""


def outside_ticket_on_top(report: Report, services: Services) -> Ticket | None:
    """Return the topmost ticket of what bounce(8) returns, whether it fits or not, where it says "from outside".

    Of a message beyond bounce_size_limit bounce(8) returns the header alone, and ends that at the first line beyond
    line_length_limit: From, Date and Message-ID may be missing. The topmost ticket is the first pass's, which removes
    all others; whoever came from outside gains nothing by it.
    """
    value = report.returned.headers.first(HEADER) if report.returned else None
    if value is None:
        return None
    with contextlib.suppress(TicketError):
        ticket = services.sealer.open(value)
        lifetime = services.settings.milter.ticket_lifetime
        is_fresh = ticket.accepted_at is not None and services.clock() - ticket.accepted_at <= lifetime
        if is_fresh and ticket.origin and ticket.origin.ingress is Ingress.OUTSIDE:
            return ticket
    return None
