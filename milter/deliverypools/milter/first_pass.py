"""The first pass: what is known when a message enters goes into its ticket (or, in express, decides at once)."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable

from deliverypools.adapters.metrics.definitions import EXCEPTIONS
from deliverypools.adapters.metrics.measure import add
from deliverypools.adapters.state import StateUnavailable
from deliverypools.core import ticket as tickets
from deliverypools.core.accounts import UNKNOWN_USER_ID, is_internal, smtp_account, smtp_ingress
from deliverypools.core.authentication import Authentication, with_authentication
from deliverypools.core.decisions import RESTRICTED_SENDER, Decision
from deliverypools.core.evidence import evidence_text
from deliverypools.core.facts import NOT_ASKED, Answer, Finding, Ingress, Origin
from deliverypools.core.limits import Held, charge_for
from deliverypools.core.records import EXPRESS_PASS, FIRST_PASS
from deliverypools.core.restrictions import Restriction, refusal
from deliverypools.core.spam_headers import spam_evidence
from deliverypools.core.srs import srs_refusal, srs_sender_refusal
from deliverypools.core.ticket import Ticket, recipient_digests
from deliverypools.milter.accounting import (
    Counted,
    account_behind,
    count_at_acceptance,
    finding_about,
    give_back,
    note_signs,
    restriction_on,
    restriction_on_sender,
)
from deliverypools.milter.authenticating import false_results, results_digest, results_field
from deliverypools.milter.collector import RESULTS_HEADER, TAG_HEADER, CollectedMessage, Connection
from deliverypools.milter.decision_log import decision_record
from deliverypools.milter.dsn_pass import DsnOutcome, handle_dsn
from deliverypools.milter.fast_pass import fast_pass
from deliverypools.milter.kept_ticket import ticket_after_filter, ticket_of_forwarded, with_excess
from deliverypools.milter.services import Services
from deliverypools.milter.verdict import Reply, Verdict, log_line

BOUNCE = "BOUNCE"
PICKUP = "PICKUP"
REINJECT = "REINJECT"

_MOST_HEADERS_OF_OURS = 50

_logger = logging.getLogger(__name__)


def refuse_header_flood(message: CollectedMessage, services: Services) -> Verdict | None:
    """Refuse a message with more of our headers than anything honest has: each costs a command to remove."""
    if message.most_of_ours <= _MOST_HEADERS_OF_OURS:
        return None
    text = f"Too many {TAG_HEADER} or {RESULTS_HEADER} header fields in our name"
    log = log_line(
        message.queue_id,
        **{"pass": _pass_name(services)},
        reply="reject",
        reasons=text,
        message_id=message.message_id,
    )
    return refused_unless_shadow(Verdict(reply=Reply.REJECT, text=text, log=log), message, services)


def refused_unless_shadow(verdict: Verdict, message: CollectedMessage, services: Services) -> Verdict | None:
    """Return a refusal, and give back what was counted. In shadow mode None: the log says what would be answered."""
    if services.settings.shadow:
        _logger.info("%s shadow=accepted", verdict.log)
        return None
    give_back(message.queue_id, services)
    return verdict


def refuse_srs_recipients(message: CollectedMessage, connection: Connection, services: Services) -> Verdict | None:
    """Refuse what is sent to an SRS address and is no bounce, and strangers that send with an SRS address of ours.

    The policy service does so at RCPT TO; this is for services that do not ask it. (What sendmail(1) sends to an SRS
    address is not seen here: Postfix has put the original address in its place.)
    """
    if services.rewriter is None or connection.daemon_name in (BOUNCE, REINJECT):
        return None
    refusals = [srs_refusal(recipient, message.envelope_sender, services.rewriter) for recipient in message.recipients]
    if ingress_of(message, connection, services) is Ingress.OUTSIDE:
        refusals.append(srs_sender_refusal(message.envelope_sender, services.rewriter))
    refusal = next(filter(None, refusals), None)
    if refusal is None:
        return None
    _code, enhanced_code, text = refusal.split(" ", 2)
    log = log_line(
        message.queue_id, **{"pass": FIRST_PASS}, reply="reject", reasons=text, message_id=message.message_id
    )
    verdict = Verdict(reply=Reply.REJECT, text=text, enhanced_code=enhanced_code, log=log)
    return refused_unless_shadow(verdict, message, services)


def first_pass(
    message: CollectedMessage,
    connection: Connection,
    services: Services,
    found: Authentication | None = None,
    sender_domain: Callable[[], Finding] = lambda: NOT_ASKED,
) -> Verdict:
    """Return the verdict of the first pass in the hop profile: forged headers out, a ticket in; a tag on the fast path.

    `found` is what SPF, DKIM and DMARC say about a message from outside; `sender_domain` waits for what DNS says.
    """
    if refused := refuse_header_flood(message, services) or refuse_srs_recipients(message, connection, services):
        return refused
    # A filter gives back what was judged when it entered.
    is_new = connection.daemon_name != REINJECT
    dsn = (
        handle_dsn(message, connection, ingress_of(message, connection, services), services) if is_new else DsnOutcome()
    )
    if dsn.verdict is not None:
        give_back(message.queue_id, services)
        return dsn.verdict
    strip = ((TAG_HEADER, message.tags), (tickets.HEADER, message.tickets), *dsn.strip)
    false: tuple[tuple[str, int], ...] = ()
    charged: _Charged | None = None
    if connection.daemon_name == REINJECT:
        # Counted when it entered. Where the listener asks the policy service all the same, that must not count.
        give_back(message.queue_id, services)
        ticket, problem = ticket_after_filter(message, services)
    else:
        origin = uncounted_origin(message, connection, services)
        if found is not None:
            origin = with_authentication(origin, found)
        kept = ticket_of_forwarded(message, origin, services)
        if connection.daemon_name != BOUNCE:
            # In what a mailbox sends on there may be one that is ours.
            false = false_results(message, kept.results_digest if kept else "")
        charged = _charged(origin, kept, message, services)
        if charged.verdict is not None:
            return charged.verdict
        new = make_ticket(message, charged.origin, services, results_digest(found, services))
        if kept is None and (fast := _fast(message, connection, new, charged, services, sender_domain=sender_domain)):
            return dataclasses.replace(
                fast,
                delete=(*fast.delete, *dsn.strip),
                delete_single=(*false, *dsn.strip_single),
                add=(*fast.add, *dsn.add),
            )
        ticket, problem = with_excess(kept, charged.origin) if kept else new, ""
    added = (*dsn.add, *(((tickets.HEADER, services.sealer.seal(ticket)),) if ticket else ()))
    if ticket and ticket.origin and ticket.origin.account:
        _record(message, connection, ticket.origin, charged or _Charged(origin=ticket.origin), services)
    return Verdict(
        delete=strip,
        delete_single=(*false, *dsn.strip_single),
        add=(*added, *(results_field(found, services) if found else ())),
        log=_log(message, ticket.origin if ticket else None, problem or dsn.remark),
    )


def _pass_name(services: Services) -> str:
    return EXPRESS_PASS if services.settings.profile == "express" else FIRST_PASS


@dataclasses.dataclass(frozen=True, slots=True)
class Standing:
    """What was found of an account when its message came."""

    restriction: Restriction | None
    """Because of this one a message is refused."""
    account_restricted: Finding | None
    """The same for the decision; None where the account behind the message was not asked about."""


def standing_at_acceptance(origin: Origin, kept: Ticket | None, services: Services) -> Standing:
    """Tell whether a message is refused because of who sends it.

    With the store down nobody is refused: the message is undecided, and the egress pass asks again. The user who calls
    sendmail(1) shows only there, so here it is the sender that counts; not where a mailbox sends on what it received
    (`kept`): its own notices would come back to it, and be sent on, without end.
    """
    try:
        if origin.ingress is Ingress.LOCAL:
            return Standing(None if kept else restriction_on_sender(origin.envelope_sender, services), None)
        found = restriction_on(account_behind(origin, services), services)
    except StateUnavailable as error:
        _logger.error("restricted accounts: %s", error)
        return Standing(None, None)
    return Standing(found, finding_about(found))


def _try_again(message: CollectedMessage, origin: Origin, services: Services) -> Verdict:
    """Have a trusted client keep what it sends on from outside while it cannot be counted.

    The ticket goes on telling of the stranger: nothing after this pass would count the client.
    """
    give_back(message.queue_id, services)
    text = "Cannot be counted now, please try again later"
    log = log_line(
        message.queue_id,
        **{"pass": FIRST_PASS},
        reply="tempfail",
        reasons=origin.over_limit.evidence,
        account=origin.account,
        message_id=message.message_id,
    )
    return Verdict(reply=Reply.TEMPFAIL, text=text, log=log)


def refuse_restricted(
    restriction: Restriction, message: CollectedMessage, origin: Origin, services: Services
) -> Verdict | None:
    """Refuse a message of an account that may not send; in shadow mode it is only logged."""
    text = refusal(restriction, services.settings)
    log = log_line(
        message.queue_id,
        **{"pass": _pass_name(services)},
        reply="reject",
        rule=RESTRICTED_SENDER,
        reasons=text,
        account=origin.account,
        message_id=message.message_id,
    )
    return refused_unless_shadow(Verdict(reply=Reply.REJECT, text=text, log=log), message, services)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Charged:
    """A message that enters, counted for its account."""

    origin: Origin
    """With the answer about its limits."""
    held: tuple[Held, ...] = ()
    """What the windows of its limits held before."""
    account_restricted: Finding | None = None
    """Of `Standing`."""
    would: str = ""
    """The refusal that it was spared by shadow mode."""
    verdict: Verdict | None = None
    """It goes no further."""


def _charged(origin: Origin, kept: Ticket | None, message: CollectedMessage, services: Services) -> _Charged:
    """Return a message counted for its account, or why it goes no further: nobody may send it, or count it now."""
    standing = standing_at_acceptance(origin, kept, services)
    restriction = standing.restriction
    if restriction and (verdict := refuse_restricted(restriction, message, origin, services)):
        return _Charged(origin=origin, verdict=verdict)
    origin, counted = _counted(origin, message, services)
    verdict = refuse_restricted(counted.restriction, message, origin, services) if counted.restriction else None
    if verdict is None and kept and origin.over_limit.answer is Answer.UNKNOWN and not services.settings.shadow:
        verdict = _try_again(message, origin, services)
    would = refusal(restriction, services.settings) if restriction else ""
    return _Charged(
        origin=origin,
        held=counted.held,
        account_restricted=standing.account_restricted,
        would=would,
        verdict=verdict,
    )


def _counted(origin: Origin, message: CollectedMessage, services: Services) -> tuple[Origin, Counted]:
    """Return the origin with the answer about its limits, and what counting it came to."""
    account = account_behind(origin, services)
    if account is None or origin.ingress is Ingress.LOCAL:
        return origin, Counted(origin.over_limit)
    charge = charge_for(account, message.recipients, services.settings)
    counted = count_at_acceptance(charge, message.queue_id, services)
    if counted.restriction is None:
        try:
            note_signs(account, message.recipients, origin.client_address, services)
        except StateUnavailable as error:
            _logger.error("%s: signs not counted: %s", message.queue_id, error)
    return dataclasses.replace(origin, over_limit=counted.over_limit), counted


def _fast(
    message: CollectedMessage,
    connection: Connection,
    ticket: Ticket,
    charged: _Charged,
    services: Services,
    *,
    sender_domain: Callable[[], Finding],
) -> Verdict | None:
    """Return the verdict of the fast path; None: the hop's turn, also for a message that breaks it.

    It is counted for its account already, and its ticket says so: the egress pass counts nothing again, and what the
    fast path has counted before it broke (a spam verdict) is counted once for all passes. Answered with 451 it would be
    a new message at each try, and cost its account as often.
    """
    try:
        return fast_pass(
            message,
            connection,
            ticket,
            charged.held,
            services,
            account_restricted=charged.account_restricted,
            sender_domain=sender_domain,
        )
    except Exception:
        _logger.exception("%s: untrapped exception in the fast path", message.queue_id)
        add(EXCEPTIONS, "eom")
        return None


def _record(
    message: CollectedMessage, connection: Connection, origin: Origin, charged: _Charged, services: Services
) -> None:
    """Write down what an account sends. What comes in for our users is no row: there is far more of it."""
    settings, would = services.settings, charged.would
    spared = Decision(None, RESTRICTED_SENDER, (f"would be refused: {would}",)) if would else None
    details = evidence_text(settings, recipients=message.recipients, origin=origin, held=charged.held, would=would)
    try:
        row = decision_record(
            FIRST_PASS, message, connection, origin, at=services.clock(), decision=spared, details=details
        )
        services.state.record(row, settings.milter.decisions_kept_seconds)
    except StateUnavailable as error:
        # The egress pass decides, and insists on its own row.
        _logger.error("%s: not on record: %s", message.queue_id, error)


def uncounted_origin(message: CollectedMessage, connection: Connection, services: Services) -> Origin:
    """Return what is known of a message that enters now; `over_limit` is NOT_ASKED where somebody is to be charged."""
    settings = services.settings
    ingress = ingress_of(message, connection, services)
    account = smtp_account(
        ingress,
        sasl_username=message.sasl_username,
        client_address=connection.client_address,
        envelope_sender=message.envelope_sender,
        settings=settings,
    )
    if ingress is Ingress.LOCAL:
        # Only the egress pass can see who called sendmail(1): Postfix hides its own Received field from this one.
        account = "" if _is_own_notice(message, services) else UNKNOWN_USER_ID
    has_client = ingress not in (Ingress.LOCAL, Ingress.BOUNCE)
    return Origin(
        ingress=ingress,
        account=account,
        envelope_sender=message.envelope_sender,
        client_address=connection.client_address if has_client else "",
        helo_name=connection.helo_name if has_client else "",
        client_name=connection.client_name if has_client else "",
        over_limit=NOT_ASKED if account else Finding(Answer.NO),
        spam=spam_evidence(message.headers, settings.spam.headers),
    )


def make_ticket(message: CollectedMessage, origin: Origin, services: Services, digest_of_results: str = "") -> Ticket:
    """Return a new ticket for a message that enters now."""
    ticket_id = services.new_ticket_id()
    return Ticket(
        ticket_id=ticket_id,
        made_at=services.clock(),
        first_queue_id=message.queue_id,
        origin=origin,
        binding=message.binding,
        recipient_count=len(message.recipients),
        internal_count=sum(is_internal(recipient, services.settings) for recipient in message.recipients),
        recipient_digests=recipient_digests(ticket_id, message.recipients),
        only_recipient=_only_mailbox(message, services),
        results_digest=digest_of_results,
        asks_for_silence=bool(message.silent_recipients),
        requested_notices=message.requested_notices,
    )


def _is_own_notice(message: CollectedMessage, services: Services) -> bool:
    """Tell whether this is an alert or a copy that the policy daemon sends: nobody is charged for those."""
    return not message.envelope_sender and any(
        services.sealer.is_notice(value, message.message_id) for value in message.ticket_values
    )


def _only_mailbox(message: CollectedMessage, services: Services) -> str:
    if len(message.recipients) == 1 and is_internal(message.recipients[0], services.settings):
        return message.recipients[0]
    return ""


def ingress_of(message: CollectedMessage, connection: Connection, services: Services) -> Ingress:
    """Return how a message enters."""
    if connection.daemon_name == PICKUP:
        return Ingress.LOCAL
    if connection.daemon_name == BOUNCE:
        return Ingress.BOUNCE
    return smtp_ingress(message.sasl_username, connection.client_address, services.settings)


def _log(message: CollectedMessage, origin: Origin | None, remark: str) -> str:
    return log_line(
        message.queue_id,
        **{"pass": FIRST_PASS},
        ingress=origin.ingress if origin else "unknown",
        reasons=_reasons(origin, remark),
        recipients=len(message.recipients),
        account=origin.account if origin else "",
        kind=message.kind.kind,
        message_id=message.message_id,
    )


def _reasons(origin: Origin | None, remark: str) -> str:
    if origin is None:
        return remark
    found = [
        origin.client_address and f"client {origin.client_address}",
        origin.authentication_results,
        origin.spam,
        origin.over_limit.evidence,
        remark,
    ]
    return "; ".join(filter(None, found))
