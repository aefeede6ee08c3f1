"""Who answers for a message: the account whose sending is counted."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from typing import Final

from deliverypools.core.account_names import UNREADABLE, account_name
from deliverypools.core.addresses import domain_of, is_routed, strip_brackets
from deliverypools.core.facts import Ingress, printable
from deliverypools.core.settings import Settings
from deliverypools.core.settings.values import client_ip

UNKNOWN_USER_ID: Final = "uid:unknown"
"""sendmail(1) by a user whose Received field a site removed: all of those share one account."""
_NETWORK_BITS: Final = 64


@dataclass(frozen=True, slots=True)
class Account:
    """An account, the way in which its mail came, and the tenant that it belongs to.

    Accounts are counted apart by how the mail came in: a trusted client that writes a user's address into its envelope
    does not use up what the user may send.
    """

    ingress: Ingress
    name: str
    tenant: str = ""
    """An accepted domain; "" where none can be told."""
    domain: str = ""
    """The domain that scopes of outbound policies look at: its own, or that of its sender for a login without one."""

    @property
    def key(self) -> str:
        """Return the name under which it is counted."""
        return f"{self.ingress}:{self.name}"


def is_internal(recipient: str, settings: Settings) -> bool:
    """Tell whether a recipient is one of ours: in an accepted domain, and no route through it."""
    return not is_routed(recipient) and settings.is_accepted_domain(strip_brackets(recipient).rpartition("@")[2])


def smtp_ingress(sasl_username: str, client_address: str, settings: Settings) -> Ingress:
    """Tell how a message came in over SMTP."""
    if sasl_username:
        return Ingress.SUBMISSION
    return Ingress.TRUSTED if settings.is_trusted_client(client_address) else Ingress.OUTSIDE


def smtp_account(
    ingress: Ingress, *, sasl_username: str, client_address: str, envelope_sender: str, settings: Settings
) -> str:
    """Return the name of the responsible account of mail that came over SMTP, "" where nobody is charged.

    A SASL user is known by the user name, as `account_name` writes it. A trusted client is charged to the envelope
    sender where that is in an accepted domain, else to its address: the sender of what it relays is somebody else.
    """
    if ingress is Ingress.SUBMISSION:
        # A login of blanks only has no name, but sends: somebody has to answer for it.
        return account_name(sasl_username) or UNREADABLE
    if ingress is Ingress.TRUSTED:
        sender = account_name(envelope_sender)
        return sender if settings.is_accepted_domain(domain_of(sender)) else client_address
    return ""


def tenant_of(name: str, settings: Settings) -> str:
    """Return the accepted domain that an account belongs to: its own, else the only one that there is, else "".

    Not that of its sender: whoever may write any sender would use up what another tenant may send.
    """
    domain = domain_of(name)
    if settings.is_accepted_domain(domain):
        return domain
    return settings.accepted_domains[0] if not domain and len(settings.accepted_domains) == 1 else ""


def account_of(ingress: Ingress, name: str, envelope_sender: str, settings: Settings) -> Account | None:
    """Return an account with its domains; None where nobody is charged (`name` is empty)."""
    if not name:
        return None
    domain = domain_of(name)
    if not domain and ingress is not Ingress.TRUSTED:
        # A trusted client that is known by its address relays for others: their domains are not its own.
        domain = domain_of(account_name(envelope_sender))
    return Account(ingress, name, tenant_of(name, settings), domain)


def user_account(user_id: int) -> str:
    """Return the account of a system user who calls sendmail(1)."""
    return f"uid:{user_id}"


def client_network(client_address: str) -> str:
    """Return what counts as one client: an IPv4 address, an IPv6 /64 (one machine may use any address in it).

    Networks of clients that belong together are larger: `client_networks.network_of`.
    """
    address = client_ip(client_address)
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, _NETWORK_BITS), strict=False))
    return str(address or printable(client_address))
