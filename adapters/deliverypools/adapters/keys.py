"""All keys that the settings name, as the daemons read them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from deliverypools.adapters.key_file import read_keys
from deliverypools.adapters.srs_secrets import read_srs_secrets
from deliverypools.core.settings import Settings
from deliverypools.core.srs import SenderRewriter


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys, the newest first."""

    ticket: tuple[bytes, ...] = field(repr=False)
    srs: tuple[bytes, ...] = field(default=(), repr=False)
    """Empty where the settings name no file of SRS secrets."""


def read_all_keys(settings: Settings) -> Keys:
    """Return the keys that the settings name.

    Raises:
        KeyFileError: a file cannot be used.
    """
    secret_file = settings.forwarding.srs_secret_file
    return Keys(read_keys(settings.ticket_key_file), read_srs_secrets(secret_file) if secret_file else ())


def sender_rewriter(settings: Settings, keys: Keys, clock: Callable[[], float]) -> SenderRewriter | None:
    """Return what rewrites senders; None where the settings do not ask for SRS."""
    domain = settings.forwarding.srs_domain
    if domain is None or not keys.srs:
        return None
    return SenderRewriter(keys.srs, domain, clock, settings.forwarding.srs_longest_local_part)
