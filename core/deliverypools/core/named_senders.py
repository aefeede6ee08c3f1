"""Whose mail an entry of the settings names, by what the ticket says."""

from __future__ import annotations

from deliverypools.core.addresses import domain_of, is_same_or_subdomain, normalise_address
from deliverypools.core.facts import Ingress, Origin, printable
from deliverypools.core.settings import NamedSender


def named_by(entry: NamedSender, origin: Origin | None) -> str:
    """Return by what an entry names the sender of a message, "" where it does not.

    Submitted and trusted mail only: what anybody can write into a message from outside, or with sendmail(1), names
    nobody.
    """
    if origin is None or origin.ingress not in (Ingress.SUBMISSION, Ingress.TRUSTED):
        return ""
    sender = normalise_address(origin.envelope_sender)
    if entry.sender is not None and sender == entry.sender:
        return f"sender {printable(sender)}"
    if entry.domain is not None and is_same_or_subdomain(domain_of(sender), entry.domain):
        return f"domain {entry.domain}"
    if entry.sasl_username is not None and (origin.ingress, origin.account) == (
        Ingress.SUBMISSION,
        entry.sasl_username,
    ):
        return f"SASL user {printable(origin.account)}"
    if entry.client is not None and entry.contains(origin.client_address):
        return f"client network {entry.client}"
    return ""
