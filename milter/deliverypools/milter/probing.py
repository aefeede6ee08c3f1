"""Probes of `delivery-pools check --live`: they leave by the transport that they ask for, to a port of this machine."""

from __future__ import annotations

import logging

from deliverypools.adapters.state import StateUnavailable
from deliverypools.core import ticket as tickets
from deliverypools.core.decisions import Decision
from deliverypools.core.pool_transports import PoolTransport, all_transports
from deliverypools.core.probe import HEADER, RULE, Probe, is_to_nobody
from deliverypools.core.settings import Settings
from deliverypools.milter.collector import TAG_HEADER, CollectedMessage, Connection
from deliverypools.milter.decision_log import decision_record
from deliverypools.milter.services import Services
from deliverypools.milter.verdict import Verdict, log_line

_logger = logging.getLogger(__name__)


def probe_verdict(
    message: CollectedMessage, connection: Connection, services: Services, *, log_name: str
) -> Verdict | None:
    """Return the verdict about a probe of ours; None for all other mail, also for what only looks like one."""
    value = message.headers.first(HEADER)
    if value is None or not is_to_nobody(message.recipients):
        return None
    probe = services.sealer.open_probe(value, message.message_id)
    transport = _transport(probe, services.settings) if probe else None
    if probe is None or transport is None:
        return None
    decision = Decision(transport.pool, RULE, (f"{transport.name} over IPv{probe.family}",))
    row = decision_record(log_name, message, connection, None, at=services.clock(), decision=decision)
    try:
        services.state.record(row, services.settings.milter.decisions_kept_seconds)
    except StateUnavailable as error:
        _logger.error("%s: not on record: %s", message.queue_id, error)
    log = log_line(
        message.queue_id,
        **{"pass": log_name},
        pool=transport.pool,
        rule=RULE,
        reasons=decision.reasons[0],
        message_id=message.message_id,
    )
    delete = ((TAG_HEADER, message.tags), (tickets.HEADER, message.tickets))
    return Verdict(delete=delete, add=((TAG_HEADER, probe.tag),), log=log)


def _transport(probe: Probe, settings: Settings) -> PoolTransport | None:
    return next((one for one in all_transports(settings.pools) if one.tag == probe.transport_tag), None)
