"""What is done with a message because it is a DSN: dropped, refused, marked, counted."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from deliverypools.core.dns_lists import HEADER as LIST_HEADER
from deliverypools.core.dns_lists import has_sender_of_bounces
from deliverypools.core.dsn.was_it_ours import HEADER
from deliverypools.core.facts import Ingress, printable
from deliverypools.milter.arrived_dsn import judge_arrived, note_arrived, refuse_backscatter
from deliverypools.milter.collector import CollectedMessage, Connection
from deliverypools.milter.own_notices import drop_backscatter, marked, note_own_notice, read_own_notice
from deliverypools.milter.services import Services
from deliverypools.milter.verdict import Verdict

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DsnOutcome:
    """What is to be done with a message that enters; nothing where it is no DSN."""

    verdict: Verdict | None = None
    """It goes no further."""
    strip: tuple[tuple[str, int], ...] = ()
    """What others wrote in our name: all fields of a name."""
    strip_single: tuple[tuple[str, int], ...] = ()
    """The same: single fields, counted from 1."""
    add: tuple[tuple[str, str], ...] = ()
    remark: str = ""
    """For the log."""


def handle_dsn(message: CollectedMessage, connection: Connection, ingress: Ingress, services: Services) -> DsnOutcome:
    """Return what is to be done with a message that enters, as a DSN; count it for the surges.

    Never raises: a DSN that breaks this goes on like any other message, instead of being tried again for days.
    """
    try:
        return _handled(message, connection, ingress, services)
    except Exception:
        _logger.exception("%s: untrapped exception while it was read as a DSN", printable(message.queue_id))
        return DsnOutcome(strip=((HEADER, message.dsn_fields), (LIST_HEADER, message.list_fields)))


def _handled(message: CollectedMessage, connection: Connection, ingress: Ingress, services: Services) -> DsnOutcome:
    if ingress is Ingress.BOUNCE:
        notice = read_own_notice(message, connection, services)
        note_own_notice(notice, message, connection, services)
        dropped = drop_backscatter(notice, message, connection, services)
        return DsnOutcome(dropped, add=marked(notice, message, services), remark=notice.about)
    if ingress is Ingress.TRUSTED:
        # Our first MX has judged it, where this is the mail hub behind it.
        return DsnOutcome()
    strip = ((HEADER, message.dsn_fields),)
    false = _false_listings(message, ingress, services)
    arrived = judge_arrived(message, connection, services) if ingress is Ingress.OUTSIDE else None
    if arrived is None:
        return DsnOutcome(strip=strip, strip_single=false)
    note_arrived(arrived, message, connection, services)
    refused = refuse_backscatter(arrived, message, services)
    return DsnOutcome(refused, strip, false, (arrived.judgement.field,), ": ".join(arrived.judgement.field))


def _false_listings(message: CollectedMessage, ingress: Ingress, services: Services) -> tuple[tuple[str, int], ...]:
    """Return the fields that say which list the client is on, and that the policy service has not written.

    Its own is the topmost. (Where it has written none, a stranger may have put his there: he accuses himself.)
    """
    bounces = services.settings.bounces
    may_be_ours = (
        ingress is Ingress.OUTSIDE
        and bool(bounces.backscatter_lists)
        and bounces.backscatter_list_action == "tag"
        and has_sender_of_bounces(message.envelope_sender)
    )
    return tuple((LIST_HEADER, number) for number in range(2 if may_be_ours else 1, message.list_fields + 1))
