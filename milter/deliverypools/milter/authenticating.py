"""Authentication of mail from outside, in the passes: into the ticket, and into Authentication-Results (RFC 8601)."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from deliverypools.core.authentication import Authentication
from deliverypools.core.authentication.results_field import render
from deliverypools.core.facts import Answer, Ingress, Origin
from deliverypools.core.forwarding import authentication_chooses_pool
from deliverypools.core.ticket import TicketError, field_digest
from deliverypools.milter.collector import RESULTS_HEADER, CollectedMessage
from deliverypools.milter.services import Services


def origin_to_ask_again(ticket_values: Sequence[str], services: Services) -> Origin | None:
    """Return the origin of a message whose authentication could not be told on arrival, where that matters.

    None for any other. The ticket is not compared with the message yet: at its end it is, before anything is believed.
    """
    if services.rewriter is None and not authentication_chooses_pool(services.settings):
        return None
    for value in ticket_values[:1]:
        with contextlib.suppress(TicketError):
            origin = services.sealer.open(value).origin
            if origin is not None and origin.ingress is Ingress.OUTSIDE and _is_open(origin):
                return origin
    return None


def _is_open(origin: Origin) -> bool:
    return Answer.UNKNOWN in (origin.authenticated.answer, origin.envelope_authenticated.answer)


def results_digest(found: Authentication | None, services: Services) -> str:
    """Return the digest of the field that `results_field` makes, "" where there is none."""
    fields = results_field(found, services) if found else ()
    return field_digest(fields[0][1]) if fields else ""


def results_field(found: Authentication, services: Services) -> tuple[tuple[str, str], ...]:
    """Return the Authentication-Results field to put on top of a message, none where the settings give us no name."""
    authserv_id = services.settings.authserv_id
    if authserv_id is None or found.authenticated.answer is Answer.NOT_ASKED:
        return ()
    return ((RESULTS_HEADER, render(authserv_id, found)),)


def false_results(message: CollectedMessage, ours: str = "") -> tuple[tuple[str, int], ...]:
    """Return the Authentication-Results fields that claim to be ours, and so have to go.

    `ours` is the digest of the one that we wrote when the message arrived: that stays.
    """
    return tuple((RESULTS_HEADER, number) for number, digest in message.claims if not ours or digest != ours)
