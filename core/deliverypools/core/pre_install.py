"""Mail that was queued before Delivery Pools was installed: it has no ticket, and is known by what its header shows.

What Postfix wrote when it took the message tells the way it came in. It was not counted then, and its sender was not
examined: neither is held against it.
"""

from __future__ import annotations

from typing import Final

from deliverypools.core.account_names import account_name
from deliverypools.core.accounts import UNKNOWN_USER_ID, smtp_account, user_account
from deliverypools.core.addresses import domain_of
from deliverypools.core.facts import Ingress, Origin
from deliverypools.core.headers import Headers
from deliverypools.core.received import Received, own_received
from deliverypools.core.settings import Settings

PRE_INSTALL: Final = "pre-install: was queued before the installation, known by its header"
"""The first of the reasons of such a decision."""


def origin_before_install(headers: Headers, hostname: str, envelope_sender: str, settings: Settings) -> Origin:
    """Return the origin of a message, from the Received fields of this host (RFC 5321 section 4.4).

    Requeues, content filters and local(8) put fields without a client, or with this machine as the client, on top of
    the one that tells it.
    """
    fields = list(own_received(headers, hostname))
    from_client = next((one for one in fields if one.client_address and not one.is_from_this_machine), None)
    if from_client is not None:
        return _over_smtp(from_client, envelope_sender, settings)
    if not envelope_sender and not any(one.user_id is not None or one.client_address for one in fields):
        return Origin(ingress=Ingress.BOUNCE)
    # The lowest one is the oldest: a requeue is handed in by Postfix's own user.
    by_user = next((one for one in reversed(fields) if one.user_id is not None), None)
    if by_user is None and (by_loopback := next((one for one in reversed(fields) if one.client_address), None)):
        return _over_smtp(by_loopback, envelope_sender, settings)
    account = user_account(by_user.user_id) if by_user and by_user.user_id is not None else UNKNOWN_USER_ID
    return Origin(ingress=Ingress.LOCAL, account=account, envelope_sender=envelope_sender)


def _over_smtp(received: Received, envelope_sender: str, settings: Settings) -> Origin:
    if received.is_authenticated:
        ingress = Ingress.SUBMISSION
    else:
        ingress = Ingress.TRUSTED if settings.is_trusted_client(received.client_address) else Ingress.OUTSIDE
    return Origin(
        ingress=ingress,
        account=_account(ingress, received, envelope_sender, settings),
        envelope_sender=envelope_sender,
        client_address=received.client_address,
        client_name=received.client_name,
    )


def _account(ingress: Ingress, received: Received, envelope_sender: str, settings: Settings) -> str:
    if ingress is Ingress.SUBMISSION and not received.sasl_username:
        # Without smtpd_sasl_authenticated_header the login does not show; most are their sender's address.
        sender = account_name(envelope_sender)
        return sender if settings.is_accepted_domain(domain_of(sender)) else ""
    return smtp_account(
        ingress,
        sasl_username=received.sasl_username,
        client_address=received.client_address,
        envelope_sender=envelope_sender,
        settings=settings,
    )
