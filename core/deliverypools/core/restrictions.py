"""Restricted accounts: who may not send, why, how long, and what a client is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from deliverypools.core.facts import Ingress, fit_for_reply, printable
from deliverypools.core.settings import Settings
from deliverypools.core.utc import DAY_SECONDS, calendar_day

_MOST_OF_ACCOUNT: Final = 80
_MOST_OF_REASON: Final = 160
_MOST_OF_CONTACT: Final = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Restriction:
    """An account that may not send."""

    account: str
    ingress: Ingress | None = None
    """The one way of sending that is closed; None, the word of an administrator: all of them.

    What a trusted client sends under a user's address must not close that user's own login.
    """
    since: float
    """Seconds since the epoch."""
    until: float | None = None
    """Seconds since the epoch; None: until an administrator releases it."""
    reason: str

    def is_in_effect(self, now: float) -> bool:
        """Tell whether it holds at a time."""
        return self.until is None or now < self.until

    def concerns(self, ingress: Ingress) -> bool:
        """Tell whether it closes this way of sending."""
        return self.ingress in (None, ingress)


def following_day(now: float) -> float:
    """Return when the next day begins, UTC: "until tomorrow" ends then, wherever the account is."""
    return (now // DAY_SECONDS + 1.0) * DAY_SECONDS


def utc_day(now: float) -> str:
    """Return the day of a time, UTC, as `2026-11-22`."""
    year, month, day = calendar_day(now)
    return f"{year:04}-{month:02}-{day:02}"


def utc_text(moment: float) -> str:
    """Return a time for people to read, as `2026-11-22 13:05 UTC`."""
    minutes = int(moment % DAY_SECONDS) // 60
    return f"{utc_day(moment)} {minutes // 60:02}:{minutes % 60:02} UTC"


def iso_time(moment: float) -> str:
    """Return a time for programs to read (ISO 8601), as `2026-11-22T13:05:09Z`."""
    second = int(moment % DAY_SECONDS)
    return f"{utc_day(moment)}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}Z"


def duration_of(restriction: Restriction) -> str:
    """Return how long a restriction lasts, in words."""
    return "until an administrator releases it" if restriction.until is None else f"until {utc_text(restriction.until)}"


def scope_of(restriction: Restriction) -> str:
    """Return which ways of sending a restriction closes, in words."""
    return "all ways of sending" if restriction.ingress is None else f"{restriction.ingress} only"


def refusal(restriction: Restriction, settings: Settings) -> str:
    """Return the text of the 550 5.7.1 reply to an account that may not send: why, how long, whom to ask.

    One line of plain ASCII without `%` (a milter's reply is a format) and without angle brackets. Each part is bounded,
    so that a long one does not cut off whom to ask: with code and line end the reply has at most 512 bytes (RFC 5321
    section 4.5.3.1.5).
    """
    contact = settings.alerts.contact_address(settings.accepted_domains)
    text = (
        f"Account {printable(restriction.account, _MOST_OF_ACCOUNT)} may not send mail {duration_of(restriction)}:"
        f" {printable(restriction.reason, _MOST_OF_REASON)}. Please ask {printable(contact, _MOST_OF_CONTACT)}"
    )
    return fit_for_reply(text)
