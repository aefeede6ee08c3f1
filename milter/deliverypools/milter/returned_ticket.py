"""The ticket of a message that a DSN returns."""

from __future__ import annotations

from deliverypools.adapters.seal import open_ticket
from deliverypools.core.dsn.report import Report, binding_of
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
