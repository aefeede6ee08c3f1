"""Mailing lists of ours, as far as an envelope sender tells: bounces of a list come back to an address of its own."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from deliverypools.core.accounts import is_internal
from deliverypools.core.addresses import normalise_address
from deliverypools.core.settings import Settings

_OWNER: Final = "owner-"
"""local(8) sends on with this sender what an alias expands that has such an alias beside it, see aliases(5)."""
_BOUNCE_ADDRESS: Final = re.compile(r"-(?:bounces?|owner|return|request|admin|errors)(?=[-+]|\Z)")
"""What list managers append: Mailman, Majordomo, Sympa, ezmlm; behind it they may write the recipient (VERP)."""
_MOST_CANDIDATES: Final = 8


def list_posted_to(
    envelope_sender: str, sender_before: str, accepted_recipient: Callable[[str], bool], settings: Settings
) -> str:
    """Return the list of ours that a message was posted to and that sends it on now, "" where it is no list mail.

    It is where the sender is now an address of ours that it was not when the message was accepted, and names a
    recipient that it was accepted for: `owner-staff@`, `staff-bounces@`, `staff-bounces+bob=example.net@` for `staff@`.
    A mailbox that sends on in its own name is no list.
    """
    sender = normalise_address(envelope_sender)
    if sender == normalise_address(sender_before) or not is_internal(sender, settings) or accepted_recipient(sender):
        return ""
    return next((address for address in _candidates(sender) if accepted_recipient(address)), "")


def _candidates(sender: str) -> list[str]:
    """Return the addresses of lists that an address may belong to, the longest first."""
    local_part, _, domain = sender.rpartition("@")
    if local_part.startswith(_OWNER):
        return [f"{local_part.removeprefix(_OWNER)}@{domain}"]
    ends = [found.start() for found in _BOUNCE_ADDRESS.finditer(local_part)][:_MOST_CANDIDATES]
    return [f"{local_part[:end]}@{domain}" for end in reversed(ends) if end]
