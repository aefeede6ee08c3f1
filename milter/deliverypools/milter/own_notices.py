"""Notices that this Postfix makes itself: what they are about, and those that would be backscatter."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass

from deliverypools.adapters.state import StateUnavailable
from deliverypools.core.accounts import client_network, is_internal
from deliverypools.core.addresses import domain_of, normalise_address
from deliverypools.core.authentication.author_domain import author_domains
from deliverypools.core.dsn.categories import category_of
from deliverypools.core.dsn.dubious import why_backscatter, why_forged
from deliverypools.core.dsn.report import RecipientStatus, Report, read_report
from deliverypools.core.dsn.was_it_ours import Judgement
from deliverypools.core.dsn.was_it_ours import Verdict as Ours
from deliverypools.core.facts import Ingress, Origin, printable
from deliverypools.core.message_kind import Kind
from deliverypools.core.records import FIRST_PASS, DroppedNotice
from deliverypools.core.surges.events import NdrEvent, Way, reply_of
from deliverypools.core.ticket import Ticket
from deliverypools.milter.accounting import note_refused
from deliverypools.milter.collector import CollectedMessage, Connection
from deliverypools.milter.ndr_events import digest_of, note_event
from deliverypools.milter.returned_ticket import outside_ticket_on_top, ticket_returned
from deliverypools.milter.services import Services
from deliverypools.milter.verdict import Reply, Verdict, log_line

_MOST_FIRST_LINES = 5
_MOST_RECIPIENTS_SHOWN = 3
_DROPPED_KINDS = frozenset({Kind.NON_DELIVERY, Kind.DELAY})

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnNotice:
    """A notice of this Postfix, read."""

    report: Report
    ticket: Ticket | None
    """Of the message that it is about; None where it returns none that fits."""
    problem: str = ""
    """Why there is no ticket."""
    origin: Origin | None
    """Of that message: by its ticket, else (profile `express`, a ticket that came apart) by the decision log."""

    @property
    def author_domains(self) -> tuple[str, ...]:
        """Return the domains in From of the message that it is about."""
        return author_domains(self.report.returned.headers) if self.report.returned else ()

    @property
    def about(self) -> str:
        """Say what it is about, for the log."""
        origin = self.origin
        if origin is None:
            return f"about a message of unknown origin ({self.problem})"
        found = [f"about mail of class {origin.ingress}"]
        if origin.ingress is Ingress.OUTSIDE:
            spam = printable(origin.spam or origin.spam_when_it_left)
            found += filter(None, [f"client {origin.client_address}", origin.authentication_results, spam])
        elif origin.account:
            found.append(f"account {printable(origin.account)}")
        return "; ".join(found)


def read_own_notice(message: CollectedMessage, connection: Connection, services: Services) -> OwnNotice:
    """Read a notice that bounce(8) has made, and the ticket of the message that it returns."""
    report = read_report(message.headers, message.body_start)
    ticket, problem = ticket_returned(report, services)
    ticket = ticket or outside_ticket_on_top(report, services)
    origin = ticket.origin if ticket else _origin_on_record(report, connection, services)
    return OwnNotice(report=report, ticket=ticket, problem=problem, origin=origin)


def _origin_on_record(report: Report, connection: Connection, services: Services) -> Origin | None:
    """Return what the decision log knows of a message: who sent it, not what SPF and DKIM said."""
    if not report.queue_id:
        return None
    try:
        record = services.state.record_of(connection.hostname, report.queue_id)
    except StateUnavailable as error:
        _logger.error("%s: nothing is known of it: %s", printable(report.queue_id), error)
        return None
    if record is None or not record.ingress:
        return None
    return Origin(
        ingress=Ingress(record.ingress),
        account=record.account,
        envelope_sender=record.envelope_sender,
        client_address=record.client_address,
    )


def drop_backscatter(
    notice: OwnNotice, message: CollectedMessage, connection: Connection, services: Services
) -> Verdict | None:
    """Discard a notice that would be backscatter, once it is in the drop ledger; None where it is to be sent.

    What cannot be recorded is sent: silent to the forged sender, never to the administrator.
    """
    settings = services.settings
    if not settings.bounces.drop_backscatter or message.kind.kind not in _DROPPED_KINDS or notice.ticket is None:
        return None
    if message.envelope_sender:
        # The copy for the postmaster (notify_classes), who may have been forged too.
        return None
    reason = why_backscatter(notice.ticket, message.recipients, notice.author_domains, settings)
    if not reason:
        return None
    entry = _entry(notice, reason, message, connection, services)
    shown = {
        "pass": FIRST_PASS,
        "kind": message.kind.kind,
        "sender": entry.sender,
        "reasons": f"{reason}; {notice.about}",
        "about": entry.original_queue_id,
        "message_id": entry.message_id,
    }
    if settings.shadow:
        _logger.info(log_line(message.queue_id, **shown, shadow="sent", reply="discard"))
        return None
    try:
        services.state.drop(entry, settings.bounces.ledger_lifetime, settings.bounces.ledger_entries)
    except StateUnavailable as error:
        _logger.error("%s: not in the drop ledger, so it is sent: %s", message.queue_id, error)
        return None
    return Verdict(reply=Reply.DISCARD, log=log_line(message.queue_id, **shown, reply="discard"))


def marked(notice: OwnNotice, message: CollectedMessage, services: Services) -> tuple[tuple[str, str], ...]:
    """Return the header field that tells one of our users whether a notice is about mail of his own."""
    origin = notice.origin
    if not message.kind.is_dsn or not any(is_internal(one, services.settings) for one in message.recipients):
        return ()
    if origin is None:
        judgement = Judgement(Ours.UNKNOWN, notice.problem)
    elif origin.ingress is not Ingress.OUTSIDE:
        judgement = Judgement(Ours.GENUINE, "made here, about mail that was sent from here")
    elif why := why_forged(origin, notice.author_domains):
        judgement = Judgement(Ours.BACKSCATTER, f"made here, about mail from outside: {why}")
    else:
        judgement = Judgement(Ours.UNKNOWN, "made here, about mail from outside")
    return (judgement.field,)


def _entry(
    notice: OwnNotice,
    reason: str,
    message: CollectedMessage,
    connection: Connection,
    services: Services,
) -> DroppedNotice:
    report, ticket = notice.report, notice.ticket
    fields = report.returned.headers if report.returned else message.headers
    failed = [_shown(one) for one in report.recipients]
    more = len(failed) - _MOST_RECIPIENTS_SHOWN
    return DroppedNotice(
        queue_id=printable(message.queue_id),
        host=printable(connection.hostname),
        at=services.clock(),
        kind=message.kind.kind,
        sender=printable(", ".join(message.recipients)),
        recipients=printable("; ".join(failed[:_MOST_RECIPIENTS_SHOWN]), 500)
        + (f" (and {more} more)" if more > 0 else ""),
        client_address=printable(ticket.origin.client_address if ticket and ticket.origin else ""),
        reason=reason,
        original_queue_id=printable(report.queue_id),
        message_id=printable((fields.first("Message-ID") or "").strip()),
        subject=printable(" ".join((fields.first("Subject") or "").split())),
        header_from=printable(" ".join((fields.first("From") or "").split())),
        first_lines=_first_lines(report.returned.body_start if report.returned else b""),
    )


def _shown(status: RecipientStatus) -> str:
    behind = f" ({status.final_address})" if status.final_address not in ("", status.address) else ""
    return f"<{status.address}>{behind}: {status.diagnostic or status.status}"


def _first_lines(body: bytes) -> str:
    lines = (printable(line.decode("utf-8", "replace").strip(), 100) for line in body[:4000].splitlines())
    return "\n".join([line for line in lines if line][:_MOST_FIRST_LINES])


def note_own_notice(notice: OwnNotice, message: CollectedMessage, connection: Connection, services: Services) -> None:
    """Count what a notice tells: the refused recipients of an account, and an event for the surges."""
    if message.kind.kind is not Kind.NON_DELIVERY:
        return
    failed = [one for one in notice.report.recipients if one.action == "failed"]
    refused = sum(one.status.startswith("5.") for one in failed)
    if refused and notice.report.queue_id:
        name = f"{connection.hostname}/{message.queue_id}"
        try:
            note_refused(connection.hostname, notice.report.queue_id, refused, name, services)
        except StateUnavailable as error:
            _logger.error("%s: refused recipients not counted: %s", message.queue_id, error)
    # A copy for the postmaster tells the same again.
    if message.envelope_sender == "" and (event := _event(notice, message, connection, services)):
        note_event(event, services)


def _event(notice: OwnNotice, message: CollectedMessage, connection: Connection, services: Services) -> NdrEvent | None:
    origin = notice.origin
    failed = [one for one in notice.report.recipients if one.action == "failed"]
    if origin is None or not failed:
        return None
    first = failed[0]
    # Of our own mail the sender is concerned; of mail from outside the mailbox that was not reached.
    address = normalise_address(first.address if origin.ingress is Ingress.OUTSIDE else origin.envelope_sender)
    headers = notice.report.returned.headers if notice.report.returned else None
    return NdrEvent(
        event_id=f"{connection.hostname}/{message.queue_id}",
        at=services.clock(),
        way=Way.MADE,
        domain=domain_of(address) if is_internal(address, services.settings) else "",
        address=printable(address),
        account=printable(origin.account) if origin.ingress is not Ingress.OUTSIDE else "",
        verdict="" if origin.ingress is Ingress.OUTSIDE else Ours.GENUINE,
        category=Counter(category_of(one, notice.report.text) for one in failed).most_common(1)[0][0],
        client=client_network(origin.client_address),
        remote=printable(domain_of(normalise_address(first.final_address or first.address))),
        original=digest_of(headers.first("Message-ID") if headers else None),
        amount=len(failed),
        local_parts=len({normalise_address(one.address) for one in failed}),
        reply=reply_of(first.diagnostic),
    )
