"""The only pass of the express profile: a message is decided and tagged as it enters.

For dedicated outbound relays, where every recipient is external and nothing is expanded: then what enters leaves.
"""

from __future__ import annotations

import dataclasses

from deliverypools.adapters.state import Charge, StateUnavailable
from deliverypools.core.accounts import limits_for
from deliverypools.core.facts import Answer, Finding, Ingress, MessageFacts, Origin
from deliverypools.core.received import date_of
from deliverypools.core.rules import after_waiting, classify
from deliverypools.milter.collector import CollectedMessage, Connection
from deliverypools.milter.egress_pass import verdict_of
from deliverypools.milter.first_pass import make_ticket, origin_of, refuse_header_flood
from deliverypools.milter.services import Services
from deliverypools.milter.verdict import Verdict


def express_pass(
    message: CollectedMessage, connection: Connection, sender_domain: Finding, services: Services
) -> Verdict:
    """Return the verdict: a tag, or "try again" to the client while the message cannot be decided."""
    if refusal := refuse_header_flood(message):
        return refusal
    origin = _counted(origin_of(message, connection, services), message, services)
    facts = MessageFacts(
        envelope_sender=message.envelope_sender,
        recipients=message.recipients,
        headers=message.headers,
        origin=origin,
        sender_domain_has_mx_or_address=sender_domain,
    )
    decision = classify(facts, services.settings)
    if decision.pool is None and not services.settings.shadow:
        decision = after_waiting(decision, _waited(message, services), services.settings)
    return verdict_of(decision, message, make_ticket(message, origin, services), services, "express")


def _counted(origin: Origin, message: CollectedMessage, services: Services) -> Origin:
    if origin.ingress is not Ingress.LOCAL or origin.over_limit.answer is not Answer.NOT_ASKED:
        return origin
    limit = limits_for(origin.ingress, services.settings).recipients_per_day
    try:
        over = services.state.commit(message.queue_id, Charge(origin.account, len(message.recipients), limit))
    except StateUnavailable:
        over = Finding(Answer.UNKNOWN, "the state could not be written")
    return dataclasses.replace(origin, over_limit=over)


def _waited(message: CollectedMessage, services: Services) -> float | None:
    """Return how long the client has had the message, by its own Received fields, else by Date.

    The client's word is good enough here: by lying it leaves by high-risk sooner, or goes on waiting.
    """
    dates = [date_of(value.rpartition(";")[2]) for value in message.headers.all("Received")]
    dates = dates or [date_of(message.headers.first("Date") or "")]
    known = [date for date in dates if date is not None]
    return services.clock() - min(known) if known else 0.0
