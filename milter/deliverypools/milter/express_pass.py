"""The only pass of the express profile: a message is decided and tagged as it enters.

For dedicated outbound relays, where every recipient is external and nothing is expanded: then what enters leaves.
"""

from __future__ import annotations

import dataclasses
import logging

from deliverypools.adapters.state import StateUnavailable
from deliverypools.core.facts import Answer, Finding, MessageFacts, Origin
from deliverypools.core.received import date_of
from deliverypools.core.rules import after_waiting, classify
from deliverypools.milter.collector import CollectedMessage, Connection
from deliverypools.milter.egress_pass import verdict_of
from deliverypools.milter.first_pass import charge_of, refuse_header_flood, uncounted_origin
from deliverypools.milter.services import Services
from deliverypools.milter.verdict import Reply, Verdict

_logger = logging.getLogger(__name__)


def express_pass(
    message: CollectedMessage, connection: Connection, sender_domain: Finding, services: Services
) -> Verdict:
    """Return the verdict: a tag, or "try again" to the client while the message cannot be decided."""
    if refusal := refuse_header_flood(message):
        return refusal
    origin, has_reserved = _reserved(message, connection, services)
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
    verdict = verdict_of(decision, message, origin, services, "express")
    if has_reserved:
        _settle(verdict, origin, message, services)
    return verdict


def _reserved(message: CollectedMessage, connection: Connection, services: Services) -> tuple[Origin, bool]:
    """Return the origin with the answer about its limit; what it costs is reserved, and told whether that was done."""
    origin = uncounted_origin(message, connection, services)
    if not origin.account:
        return origin, False
    try:
        over_limit = services.state.reserve(message.queue_id, None, charge_of(origin, message, services))
    except StateUnavailable as error:
        _logger.error("%s: not counted: %s", message.queue_id, error)
        return dataclasses.replace(origin, over_limit=Finding(Answer.UNKNOWN, "the state could not be written")), False
    return dataclasses.replace(origin, over_limit=over_limit), True


def _settle(verdict: Verdict, origin: Origin, message: CollectedMessage, services: Services) -> None:
    """Charge a message that is accepted; one that the client has to send again is charged then."""
    try:
        if verdict.reply is Reply.CONTINUE:
            services.state.commit(message.queue_id, charge_of(origin, message, services))
        else:
            services.state.cancel(message.queue_id)
    except StateUnavailable as error:
        _logger.error("%s: its reservation lapses by itself: %s", message.queue_id, error)


def _waited(message: CollectedMessage, services: Services) -> float | None:
    """Return how long the client has had the message, by its own Received fields, else by Date.

    The client's word is good enough here: by lying it leaves by high-risk sooner, or goes on waiting.
    """
    dates = [date_of(value.rpartition(";")[2]) for value in message.headers.all("Received")]
    dates = dates or [date_of(message.headers.first("Date") or "")]
    known = [date for date in dates if date is not None]
    return services.clock() - min(known) if known else 0.0
