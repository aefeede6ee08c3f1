"""The fast path: what certainly leaves is decided in the first pass, by the egress pass's own code, and skips the hop.

What cannot be decided here and now takes the hop, as does what is refused, put on hold, or given another sender.
"""

from __future__ import annotations

from collections.abc import Callable

from deliverypools.core.facts import Answer, Finding
from deliverypools.core.fast_path import why_it_takes_the_hop
from deliverypools.core.limits import Held
from deliverypools.core.message_kind import Kind
from deliverypools.core.probe import HEADER as PROBE_HEADER
from deliverypools.core.records import FAST_PASS
from deliverypools.core.ticket import Ticket
from deliverypools.milter.collector import CollectedMessage, Connection
from deliverypools.milter.egress_accounts import SentOn
from deliverypools.milter.egress_pass import facts_of, new_sender, with_ticket
from deliverypools.milter.scanning import decide
from deliverypools.milter.services import Services
from deliverypools.milter.settling import Passage, recorded, verdict_of
from deliverypools.milter.verdict import Verdict

_FOR_THE_HOP = (PROBE_HEADER, "Delivered-To", "X-Sieve-Redirected-From")
"""A probe tries the hop; by the other two the egress pass knows who sent a message on."""
_NOTICES = (Kind.NON_DELIVERY, Kind.DELAY, Kind.DELIVERY)


def may_be_fast(connection: Connection, services: Services) -> bool:
    """Tell whether mail of a connection may skip the hop, as far as its service and the configuration tell."""
    seen = connection.proof_seen
    return seen is not None and not services.settings.shadow and services.fast_path.is_open(since=seen)


def fast_pass(
    message: CollectedMessage,
    connection: Connection,
    ticket: Ticket,
    held: tuple[Held, ...],
    services: Services,
    *,
    account_restricted: Finding | None,
    sender_domain: Callable[[], Finding],
) -> Verdict | None:
    """Return the verdict about a message that is decided in the first pass: a tag, and a ticket. None: the hop's turn.

    Args:
        message: the message, counted for its account.
        connection: how it came in.
        ticket: made for it just now.
        held: what the windows of its account's limits held before it.
        services: of this worker.
        account_restricted: whether its account may not send, as it was found just now; None: it could not be told.
        sender_domain: waits for what DNS says about the sender's domain.

    """
    origin = ticket.origin
    # While the state cannot be written there is no decision to be had, and the client waits for each try.
    if origin is None or origin.over_limit.answer is Answer.UNKNOWN or account_restricted is None:
        return None
    if _belongs_to_the_hop(message) or why_it_takes_the_hop(
        origin.ingress, message.envelope_sender, services.settings, only_outside=message.has_only_outside_recipients
    ):
        return None
    # Last, as it looks at every file that Postfix reads.
    if not may_be_fast(connection, services):
        return None
    facts = facts_of(
        message,
        connection,
        ticket,
        SentOn(),
        problem="",
        account_restricted=account_restricted,
        sender_domain=sender_domain(),
        services=services,
    )
    facts, decision = decide(facts, message, connection, services, services.settings.spam.first_pass_timeout_seconds)
    if decision.pool is None or decision.refusal or decision.hold or new_sender(facts, decision, message, services):
        return None
    passage = Passage(
        log_name=FAST_PASS,
        message=message,
        connection=connection,
        origin=origin,
        facts=facts,
        held=held,
        once=ticket.ticket_id,
    )
    decision = recorded(decision, passage, services)
    if decision.pool is None:
        return None
    verdict = verdict_of(decision, message, origin, services, FAST_PASS)
    return with_ticket(verdict, ticket, decision, message, services)


def _belongs_to_the_hop(message: CollectedMessage) -> bool:
    """Tell whether something in the message itself is for the egress pass to read."""
    # The egress pass sees the senders that Postfix makes of one.
    if not message.headers.is_complete or message.has_a_sender_for_each:
        return True
    return message.kind.kind in _NOTICES or any(message.headers.first(name) is not None for name in _FOR_THE_HOP)
