"""Who answers for a message, as far as only the egress pass can tell: it sees who sent on what had been accepted."""

from __future__ import annotations

import dataclasses

from deliverypools.core.account_names import account_name
from deliverypools.core.accounts import UNKNOWN_USER_ID, Account, account_of, is_internal, user_account
from deliverypools.core.addresses import domain_of, normalise_domain
from deliverypools.core.facts import Answer, Finding, Ingress, Origin
from deliverypools.core.limits import Charge, Held, charge_for
from deliverypools.core.received import fields_above, own_received
from deliverypools.core.settings import Settings
from deliverypools.core.ticket import Ticket
from deliverypools.milter.accounting import Counted, account_behind, count_once, restricted
from deliverypools.milter.collector import CollectedMessage, Connection
from deliverypools.milter.services import Services


@dataclasses.dataclass(frozen=True, slots=True)
class SentOn:
    """By whom a message was sent, or sent on, as its header tells."""

    mailbox: str = ""
    """The mailbox of ours that forwarded it; "" where none did, or none can be told."""
    automatic: str = ""
    """The mailbox of ours that did so by itself (~/.forward, aliases(5), sieve) according to local(8) or sieve."""
    user_id: int | None = None
    """The user who called sendmail(1)."""


def sent_on_by(ticket: Ticket, message: CollectedMessage, connection: Connection, settings: Settings) -> SentOn:
    """Return by whom a message was sent on."""
    written = _written_here(ticket, message, connection, settings)
    # Behind an alias it is not the recipient that we accepted. local(8) writes the truth; what sendmail(1) hands over,
    # its user may have written.
    charged = written and (not ticket.resent_queue_id or ticket.accepted_recipient(written))
    mailbox = written if charged else _only_mailbox_outside(ticket)
    if ticket.is_of_changed_mail:
        mailbox = ""
    return SentOn(
        mailbox=mailbox,
        automatic=written,
        user_id=_calling_user(ticket, message, connection),
    )


def restricted_here(ticket: Ticket, message: CollectedMessage, sent_on: SentOn, services: Services) -> Finding:
    """Tell whether anybody who answers for the message may not send: its account, or the user who sends it on."""
    accounts = [account_behind(ticket.origin, services) if ticket.origin else None]
    if ticket.resent_queue_id and sent_on.user_id is not None:
        accounts.append(Account(Ingress.LOCAL, user_account(sent_on.user_id)))
    return restricted([account for account in accounts if account], message.queue_id, services)


def with_count(
    ticket: Ticket, message: CollectedMessage, sent_on: SentOn, services: Services
) -> tuple[Origin | None, tuple[Held, ...]]:
    """Return the origin with its recipients counted: for the sender, if that was not done yet, and for a forwarder.

    Also what the windows of the limits held that were looked at.
    """
    origin = ticket.origin
    if origin is None or origin.ingress is Ingress.BOUNCE:
        return origin, ()
    if origin.ingress is Ingress.OUTSIDE:
        return _outside_counted(origin, ticket, message, sent_on, services)
    if origin.account == UNKNOWN_USER_ID and sent_on.user_id is not None:
        origin = dataclasses.replace(origin, account=user_account(sent_on.user_id))
    held: tuple[Held, ...] = ()
    account = account_behind(origin, services)
    if account and origin.over_limit.answer in (Answer.NOT_ASKED, Answer.UNKNOWN):
        charge = Charge(account, ticket.internal_count, ticket.recipient_count - ticket.internal_count)
        # UNKNOWN: it could not be counted at acceptance, but perhaps reserved.
        reserved_under = ticket.first_queue_id if origin.over_limit.answer is Answer.UNKNOWN else ""
        counted = count_once(charge, ticket.ticket_id, message.queue_id, services, reserved_under=reserved_under)
        origin, held = dataclasses.replace(origin, over_limit=counted.over_limit), counted.held
    if sent_on.mailbox and origin.envelope_sender and origin.over_limit.answer is Answer.NO:
        counted = _count_forward(account_name(sent_on.mailbox), origin, ticket, message, services)
        origin, held = dataclasses.replace(origin, over_limit=counted.over_limit), (*held, *counted.held)
    return origin, held


def _outside_counted(
    origin: Origin, ticket: Ticket, message: CollectedMessage, sent_on: SentOn, services: Services
) -> tuple[Origin, tuple[Held, ...]]:
    """Return the origin of a message from outside, charged to the mailbox that forwards it.

    Where that cannot be told, the user of sendmail(1) who sends it on is charged. What a mailbox forwards with a null
    sender is charged to nobody.
    """
    is_counted = bool(origin.account) and origin.over_limit.answer is not Answer.UNKNOWN
    name = account_name(sent_on.mailbox)
    if not name and ticket.resent_queue_id and sent_on.user_id is not None:
        name = user_account(sent_on.user_id)
    if is_counted or not name or (sent_on.mailbox and not origin.envelope_sender):
        return origin, ()
    counted = _count_forward(name, origin, ticket, message, services)
    # A trusted client that sends it on may be over its own limit.
    found = origin.over_limit if origin.over_limit.answer is Answer.YES else counted.over_limit
    return dataclasses.replace(origin, account=name, over_limit=found), counted.held


def _count_forward(name: str, origin: Origin, ticket: Ticket, message: CollectedMessage, services: Services) -> Counted:
    """Count what a mailbox sends on, once for each message, mailbox and sendmail(1) call.

    Postfix splits what one mailbox forwards to more than 50 addresses: of those the first 50 count.
    """
    account = account_of(Ingress.OUTSIDE, name, origin.envelope_sender, services.settings)
    if account is None:
        return Counted(origin.over_limit)
    charge = charge_for(account, message.recipients, services.settings)
    once = f"{ticket.ticket_id}/{ticket.resent_queue_id}/{account.name}"
    return count_once(charge, once, message.queue_id, services)


def _calling_user(ticket: Ticket, message: CollectedMessage, connection: Connection) -> int | None:
    """Return the id of the user who called sendmail(1); None where nobody did, or a site removes what tells it.

    The Received field that Postfix wrote then is known by the queue id in the ticket; one that the user wrote is not.
    """
    queue_id = ticket.resent_queue_id or ticket.first_queue_id
    for received in own_received(message.headers, connection.hostname):
        if received.queue_id == queue_id and received.user_id is not None:
            return received.user_id
    return None


def _written_here(ticket: Ticket, message: CollectedMessage, connection: Connection, settings: Settings) -> str:
    """Return the mailbox of ours that local(8) or sieve wrote down last, when it sent the message on."""
    names = ("Delivered-To", "X-Sieve-Redirected-From")
    values = fields_above(message.headers, names, connection.hostname, ticket.first_queue_id)
    return next((value.strip() for value in values if _is_mailbox(value.strip(), ticket, connection, settings)), "")


def _is_mailbox(address: str, ticket: Ticket, connection: Connection, settings: Settings) -> bool:
    if not address.isprintable():
        # It may become an envelope sender.
        return False
    if not ticket.resent_queue_id:
        # local(8) wrote it: a mailbox in whatever domain of mydestination, accepted or not.
        return "@" in address
    if ticket.accepted_recipient(address) or is_internal(address, settings):
        return True
    # Names that Postfix serves, and nobody sends from.
    return domain_of(address) in {normalise_domain(connection.hostname), "localhost"}


def _only_mailbox_outside(ticket: Ticket) -> str:
    """Return the only recipient of a message from outside: a virtual alias writes nothing that would confirm it.

    What our own users send may leave as a copy, by always_bcc: that is no forward.
    """
    is_outside = ticket.origin is not None and ticket.origin.ingress is Ingress.OUTSIDE
    return ticket.only_recipient if is_outside else ""
