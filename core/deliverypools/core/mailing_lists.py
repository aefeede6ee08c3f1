"""Mailing lists of ours, as far as an envelope sender tells: bounces of a list come back to an address of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from deliverypools.core.addresses import domain_of, normalise_address
from deliverypools.core.facts import Ingress, Origin
from deliverypools.core.settings import Settings

_OWNER: Final = "owner-"
"""local(8) sends on with this sender what an alias expands that has such an alias beside it, see aliases(5)."""
_MOST_CANDIDATES: Final = 8


def list_posted_to(
    origin: Origin, envelope_sender: str, accepted_recipient: Callable[[str], bool], settings: Settings
) -> str:
    """Return the list of ours that a message from outside was posted to, "" where it is no list mail.

    It is where the sender is now an address of ours that it was not before, and names a recipient that the message was
    accepted for: `owner-staff@`, `staff-bounces@`, `staff-bounces+bob=example.net@` for `staff@`. A sender that claimed
    to be ours when it came from outside makes no list mail: it may be forged.
    """
    sender = normalise_address(envelope_sender)
    before = normalise_address(origin.envelope_sender)
    if origin.ingress is not Ingress.OUTSIDE or sender == before:
        return ""
    if not settings.is_accepted_domain(domain_of(sender)) or settings.is_accepted_domain(domain_of(before)):
        return ""
    return next((address for address in _candidates(sender) if accepted_recipient(address)), "")


def _candidates(sender: str) -> list[str]:
    """Return the addresses of lists that an address may belong to, the longest first."""
    local_part, _, domain = sender.rpartition("@")
    if local_part.startswith(_OWNER):
        return [f"{local_part.removeprefix(_OWNER)}@{domain}"]
    words = local_part.partition("+")[0].split("-")[:_MOST_CANDIDATES]
    return [f"{'-'.join(words[:count])}@{domain}" for count in range(len(words) - 1, 0, -1) if words[0]]
