"""Scanners, in the passes that decide: asked about a message only where its decision needs their word."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Sequence
from typing import Protocol

from deliverypools.adapters.scanning.scanners import Scanners
from deliverypools.core.decisions import HIGH_RISK, Decision
from deliverypools.core.facts import Ingress, MessageFacts, Origin
from deliverypools.core.rules import classify
from deliverypools.core.scanning.answers import Scan, ScanEnvelope, Scanner, ScannerAnswer, ScanVerdict
from deliverypools.core.scanning.scope import why_not_scanned
from deliverypools.core.settings import Settings
from deliverypools.core.spam import scanners_needed
from deliverypools.milter.collector import EGRESS, CollectedMessage, Connection

_LOOPBACK, _LOCALHOST = "127.0.0.1", "localhost"
"""What scanners are told of sendmail(1): it has no client."""

_logger = logging.getLogger(__name__)


class Asking(Protocol):
    """What a decision needs of `Services`; `delivery-pools classify` has no more."""

    @property
    def settings(self) -> Settings:
        """The settings."""

    @property
    def scanners(self) -> Scanners:
        """Who asks scanners."""


def decide(
    facts: MessageFacts, message: CollectedMessage, connection: Connection, services: Asking, timeout_seconds: float
) -> tuple[MessageFacts, Decision]:
    """Return the decision about a message, and its facts with what scanners said, if they were asked."""
    if facts.size_bytes != message.size_bytes:
        facts = dataclasses.replace(facts, size_bytes=message.size_bytes)
    decision = classify(facts, services.settings)
    wanted = scanners_needed(decision, facts, services.settings)
    if not wanted:
        return facts, _with_reasons(decision, _why_not_scanned(decision, facts, services.settings))
    scan = _scan(wanted, message, _envelope(facts, message, connection, services.settings), services, timeout_seconds)
    facts = dataclasses.replace(facts, scan=scan)
    decision = classify(facts, services.settings)
    said = [answer.evidence for answer in scan.answers]
    return facts, _with_reasons(decision, (*said, *_why_not_scanned(decision, facts, services.settings)))


def _why_not_scanned(decision: Decision, facts: MessageFacts, settings: Settings) -> tuple[str, ...]:
    # What leaves by high-risk, or waits, needs no excuse.
    return () if decision.pool in (None, HIGH_RISK) else why_not_scanned(facts, settings)


def _with_reasons(decision: Decision, more: Iterable[str]) -> Decision:
    """Return a decision that tells more, where it does not say so already."""
    told = "; ".join(decision.reasons)
    news = [text for text in more if text not in told]
    return dataclasses.replace(decision, reasons=(*decision.reasons, *news)) if news else decision


def _scan(
    wanted: Sequence[Scanner],
    message: CollectedMessage,
    envelope: ScanEnvelope,
    services: Asking,
    timeout_seconds: float,
) -> Scan:
    try:
        if message.spool is None:
            raise OSError("it was not gathered")
        content = message.spool.view()
    except OSError as error:
        _logger.error("%s: not scanned: %s", message.queue_id, error)
        problem = f"the message could not be kept: {error.strerror or error}"
        return Scan(
            tuple(ScannerAnswer(scanner=scanner, verdict=ScanVerdict.UNKNOWN, problem=problem) for scanner in wanted)
        )
    return services.scanners.scan(wanted, content, envelope, timeout_seconds)


def _envelope(
    facts: MessageFacts, message: CollectedMessage, connection: Connection, settings: Settings
) -> ScanEnvelope:
    """Return what scanners are told: who sent it, not that it came by the hop."""
    origin = facts.origin or Origin(ingress=Ingress.OUTSIDE)
    is_local = origin.ingress is Ingress.LOCAL
    # Postfix writes its Received field behind us; in the egress pass there is that of the first.
    is_first_pass = settings.profile == "express" or connection.proof_seen is not None
    return ScanEnvelope(
        queue_id=message.queue_id,
        envelope_sender=facts.envelope_sender,
        recipients=message.recipients,
        sasl_username=origin.account if origin.ingress is Ingress.SUBMISSION else "",
        client_address=_LOOPBACK if is_local else origin.client_address,
        client_name=_LOCALHOST if is_local else origin.client_name,
        helo_name=origin.helo_name,
        hostname=connection.hostname,
        lacks_received=is_first_pass and connection.daemon_name != EGRESS and bool(origin.client_address),
    )
