"""Who asks which scanner."""

from __future__ import annotations

from typing import TypeAlias

from deliverypools.adapters.scanning.clamd_client import ClamdClient
from deliverypools.adapters.scanning.rspamd_client import RspamdClient
from deliverypools.adapters.scanning.spamd_client import SpamdClient
from deliverypools.core.scanning.answers import Scanner
from deliverypools.core.settings import Settings

ScannerClient: TypeAlias = RspamdClient | SpamdClient | ClamdClient


def client_for(scanner: Scanner, settings: Settings) -> ScannerClient:
    """Return who asks a scanner, as the settings say; nothing is connected to yet.

    Raises:
        ValueError: the settings do not name it.
    """
    spam = settings.spam
    match scanner:
        case Scanner.RSPAMD:
            return RspamdClient(_named(scanner, spam.rspamd), spam.rspamd_settings_id)
        case Scanner.SPAMD:
            return SpamdClient(_named(scanner, spam.spamd), spam.spamd_user)
        case Scanner.CLAMD:
            return ClamdClient(_named(scanner, spam.clamd))


def _named(scanner: Scanner, place: str | None) -> str:
    if not place:
        raise ValueError(f"spam.{scanner} is not set")
    return place
