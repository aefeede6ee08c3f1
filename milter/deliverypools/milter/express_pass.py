"""The only pass of the express profile: a message is decided and tagged as it enters.

For dedicated outbound relays, where every recipient is external and nothing is expanded: then what enters leaves.
"""

from __future__ import annotations

import dataclasses
import logging

from deliverypools.adapters.state import StateUnavailable
from deliverypools.core.accounts import Account
from deliverypools.core.authentication import Authentication, with_authentication
from deliverypools.core.decisions import Refusal
from deliverypools.core.facts import Finding, Ingress, MessageFacts, Origin
from deliverypools.core.limits import Charge, charge_for
from deliverypools.core.received import date_of
from deliverypools.core.records import EXPRESS_PASS
from deliverypools.milter.accounting import (
    account_behind,
    commit,
    give_back,
    note_signs,
    reserve,
    restricted,
)
from deliverypools.milter.authenticating import false_results, results_field
from deliverypools.milter.collector import CollectedMessage, Connection
from deliverypools.milter.dsn_pass import handle_dsn
from deliverypools.milter.first_pass import (
    ingress_of,
    refuse_header_flood,
    refuse_restricted,
    standing_at_acceptance,
    uncounted_origin,
)
from deliverypools.milter.probing import probe_verdict
from deliverypools.milter.scanning import decide
from deliverypools.milter.services import Services
from deliverypools.milter.settling import Passage, settled, verdict_of
from deliverypools.milter.verdict import Reply, Verdict

_logger = logging.getLogger(__name__)


def express_pass(
    message: CollectedMessage,
    connection: Connection,
    sender_domain: Finding,
    services: Services,
    found: Authentication | None = None,
) -> Verdict:
    """Return the verdict: a tag, or "try again" to the client while the message cannot be decided.

    `found` is what SPF, DKIM and DMARC say about a message from outside.
    """
    early = refuse_header_flood(message, services) or probe_verdict(
        message, connection, services, log_name=EXPRESS_PASS
    )
    if early is not None:
        return early
    dsn = handle_dsn(message, connection, ingress_of(message, connection, services), services)
    if dsn.verdict is not None:
        give_back(message.queue_id, services)
        return dsn.verdict
    origin = uncounted_origin(message, connection, services)
    if found is not None:
        origin = with_authentication(origin, found)
    account = account_behind(origin, services)
    standing = standing_at_acceptance(origin, None, services)
    if standing.restriction and (refused := refuse_restricted(standing.restriction, message, origin, services)):
        return refused
    charge = charge_for(account, message.recipients, services.settings) if account else None
    counted = reserve(charge, message.queue_id, services) if charge else None
    if counted:
        origin = dataclasses.replace(origin, over_limit=counted.over_limit)
        if counted.restriction and (refused := refuse_restricted(counted.restriction, message, origin, services)):
            return refused
    account_restricted = standing.account_restricted
    if account_restricted is None or (counted and counted.restriction):
        account_restricted = restricted([account] if account else [], message.queue_id, services)
    facts = MessageFacts(
        envelope_sender=message.envelope_sender,
        recipients=message.recipients,
        headers=message.headers,
        kind=message.kind,
        origin=origin,
        account_restricted=account_restricted,
        sender_domain_has_mx_or_address=sender_domain,
    )
    timeout_seconds = services.settings.spam.first_pass_timeout_seconds
    facts, decision = decide(facts, message, connection, services, timeout_seconds)
    if origin.ingress is Ingress.LOCAL and decision.refusal not in (None, Refusal.TO_SENDER):
        # Postfix would tell the sender, whom sendmail(1) may have made up.
        decision = dataclasses.replace(decision, refusal=None, hold=True)
    passage = Passage(
        log_name=EXPRESS_PASS,
        message=message,
        connection=connection,
        origin=origin,
        facts=facts,
        held=counted.held if counted else (),
        once=message.queue_id,
    )
    decision = settled(decision, passage, _waited(message, services), services)
    verdict = verdict_of(decision, message, origin, services, EXPRESS_PASS)
    verdict = dataclasses.replace(
        verdict,
        add=(*verdict.add, *dsn.add, *(results_field(found, services) if found else ())),
        delete_single=false_results(message),
    )
    if verdict.reply is Reply.CONTINUE and account:
        _note_signs(account, message, origin, services)
    return _settled(verdict, charge, message, services)


def _settled(verdict: Verdict, charge: Charge | None, message: CollectedMessage, services: Services) -> Verdict:
    """Charge a message that is accepted; one that the client has to send again is charged then. Returns the verdict."""
    if charge is None:
        return verdict
    if verdict.reply is not Reply.CONTINUE:
        give_back(message.queue_id, services)
        return verdict
    try:
        commit(charge, message.queue_id, services)
    except StateUnavailable as error:
        _logger.error("%s: its reservation lapses by itself: %s", message.queue_id, error)
    return verdict


def _note_signs(account: Account, message: CollectedMessage, origin: Origin, services: Services) -> None:
    try:
        note_signs(account, message.recipients, origin.client_address, services)
    except StateUnavailable as error:
        _logger.error("%s: signs not counted: %s", message.queue_id, error)


def _waited(message: CollectedMessage, services: Services) -> float | None:
    """Return how long the client has had the message, by its own Received fields, else by Date.

    The client's word is good enough here: by lying it leaves by high-risk sooner, or goes on waiting.
    """
    dates = [date_of(value.rpartition(";")[2]) for value in message.headers.all("Received")]
    dates = dates or [date_of(message.headers.first("Date") or "")]
    known = [date for date in dates if date is not None]
    return services.clock() - min(known) if known else 0.0
