"""Tells, of a DSN that arrives from outside for one of our users, whether it is about a message of ours."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from deliverypools.adapters.state import StateUnavailable
from deliverypools.core.accounts import client_network, is_internal
from deliverypools.core.addresses import domain_of, normalise_address
from deliverypools.core.dsn.categories import category_of
from deliverypools.core.dsn.report import RecipientStatus, Report, read_report
from deliverypools.core.dsn.was_it_ours import Clues, Judgement, clues_of, judge
from deliverypools.core.dsn.was_it_ours import Verdict as Ours
from deliverypools.core.facts import Ingress, printable
from deliverypools.core.message_kind import Kind
from deliverypools.core.records import FIRST_PASS, DecisionRecord
from deliverypools.core.surges.events import NdrEvent, Way, reply_of
from deliverypools.core.ticket import Ticket
from deliverypools.milter.collector import CollectedMessage, Connection
from deliverypools.milter.ndr_events import digest_of, note_event
from deliverypools.milter.returned_ticket import ticket_returned
from deliverypools.milter.services import Services
from deliverypools.milter.verdict import Reply, Verdict, log_line

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrivedDsn:
    """A DSN from outside, and whether it is about a message of ours."""

    report: Report
    judgement: Judgement
    account: str
    """The account that sent the message, where it is known."""


def judge_arrived(message: CollectedMessage, connection: Connection, services: Services) -> ArrivedDsn | None:
    """Return whether a DSN from outside is about a message of ours; None for what is no DSN for our users."""
    users = tuple(recipient for recipient in message.recipients if is_internal(recipient, services.settings))
    if not message.kind.is_dsn or not users:
        return None
    report = read_report(message.headers, message.body_start)
    clues = clues_of(message.headers, report)
    ticket, _problem = ticket_returned(report, services)
    record, complete_since = _on_record(clues, message, services)
    judgement = judge(
        clues,
        recipients=users,
        record=record,
        original_sender=_sender_of_ours(ticket, record),
        has_ticket=ticket is not None,
        our_hosts=_our_hosts(connection, services),
        is_our_domain=services.settings.is_accepted_domain,
        complete_since=complete_since,
        now=services.clock(),
    )
    return ArrivedDsn(
        report=report,
        judgement=judgement,
        account=record.account if record and judgement.verdict is Ours.GENUINE else "",
    )


def _sender_of_ours(ticket: Ticket | None, record: DecisionRecord | None) -> str:
    """Return the envelope sender of a message that was sent from here.

    "" where it came from outside, or nobody knows from where, and was sent on: anybody may have written that sender.
    """
    if ticket is not None:
        origin = ticket.origin
        return origin.envelope_sender if origin and origin.ingress is not Ingress.OUTSIDE else ""
    return record.envelope_sender if record and record.ingress not in ("", Ingress.OUTSIDE) else ""


def _on_record(
    clues: Clues, message: CollectedMessage, services: Services
) -> tuple[DecisionRecord | None, float | None]:
    try:
        records = services.state.sent(clues.message_ids, clues.queue_files)
        # A list, or a mailbox that forwards, may have sent on the same message since.
        recipients = {normalise_address(recipient) for recipient in message.recipients}
        by_him = (one for one in records if normalise_address(one.envelope_sender) in recipients)
        return next(by_him, next(iter(records), None)), services.state.recorded_since()
    except StateUnavailable as error:
        _logger.error("%s: it cannot be told whether this DSN is about our mail: %s", message.queue_id, error)
        return None, None


def _our_hosts(connection: Connection, services: Services) -> frozenset[str]:
    """Return the names of this host, and the names and addresses of its pools."""
    pools = services.settings.pools.values()
    addresses = (str(address) for pool in pools for address in pool.addresses)
    return frozenset({connection.hostname.lower(), *(pool.helo for pool in pools), *addresses})


def refuse_backscatter(arrived: ArrivedDsn, message: CollectedMessage, services: Services) -> Verdict | None:
    """Refuse a DSN about a message that was not sent from here, where the settings want that."""
    if not services.settings.bounces.reject_backscatter or arrived.judgement.verdict is not Ours.BACKSCATTER:
        return None
    text = "This bounce returns a message that was not sent from here: its sender was forged"
    log = log_line(
        message.queue_id,
        **{"pass": FIRST_PASS},
        reply="reject",
        kind=message.kind.kind,
        dsn=arrived.judgement.verdict,
        reasons=arrived.judgement.evidence,
        message_id=message.message_id,
    )
    if services.settings.shadow:
        _logger.info("%s shadow=accepted", log)
        return None
    return Verdict(reply=Reply.REJECT, text=text, log=log)


def note_arrived(arrived: ArrivedDsn, message: CollectedMessage, connection: Connection, services: Services) -> None:
    """Note an event for the surges: somebody was not reached by a message in the name of one of our users."""
    if message.kind.kind is not Kind.NON_DELIVERY:
        return
    users = [recipient for recipient in message.recipients if is_internal(recipient, services.settings)]
    address = normalise_address(users[0])
    failed = [one for one in arrived.report.recipients if one.action in ("", "failed")]
    first = failed[0] if failed else RecipientStatus()
    returned = arrived.report.returned
    note_event(
        NdrEvent(
            event_id=f"{connection.hostname}/{message.queue_id}",
            at=services.clock(),
            way=Way.ARRIVED,
            domain=domain_of(address),
            address=printable(address),
            account=printable(arrived.account),
            verdict=arrived.judgement.verdict,
            category=category_of(first, arrived.report.text),
            client=client_network(connection.client_address),
            remote=printable(domain_of(normalise_address(first.final_address or first.address))),
            original=digest_of(returned.headers.first("Message-ID") if returned else None),
            amount=max(1, len(failed)),
            local_parts=max(1, len({normalise_address(one.address) for one in failed})),
            reply=reply_of(first.diagnostic),
        ),
        services,
    )
