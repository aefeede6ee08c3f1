"""Who answers for a message: the account whose sending is counted."""

from __future__ import annotations

from deliverypools.core.addresses import domain_of, normalise_address
from deliverypools.core.facts import Ingress
from deliverypools.core.settings import Limits, Settings

UNKNOWN_USER_ID = "uid:unknown"
"""sendmail(1) by a user whose Received field a site removed: all of those share one account."""


def smtp_ingress(sasl_username: str, client_address: str, settings: Settings) -> Ingress:
    """Tell how a message came in over SMTP."""
    if sasl_username:
        return Ingress.SUBMISSION
    return Ingress.TRUSTED if settings.is_trusted_client(client_address) else Ingress.OUTSIDE


def smtp_account(
    ingress: Ingress, *, sasl_username: str, client_address: str, envelope_sender: str, settings: Settings
) -> str:
    """Return the responsible account of mail that came over SMTP, "" where nobody is charged.

    A SASL user is known by the user name in lower case. A trusted client is charged to the envelope sender where
    that is in an accepted domain, else to its address: the sender of what it relays is somebody else.
    """
    if ingress is Ingress.SUBMISSION:
        return _storable(sasl_username.strip().lower())
    if ingress is Ingress.TRUSTED:
        sender = normalise_address(envelope_sender)
        return _storable(sender) if settings.is_accepted_domain(domain_of(sender)) else client_address
    return ""


def _storable(name: str) -> str:
    """Return a name that may hold bytes which are not UTF-8 in a form that any database takes."""
    return name.encode("utf-8", "backslashreplace").decode()


def user_account(user_id: int) -> str:
    """Return the account of a system user who calls sendmail(1)."""
    return f"uid:{user_id}"


def limits_for(ingress: Ingress, settings: Settings) -> Limits:
    """Return the service limits: trusted networks have their own, everybody else has those of `[limits]`."""
    return settings.limits.trusted if ingress is Ingress.TRUSTED else settings.limits
