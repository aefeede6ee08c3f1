"""Sealing tickets: only we can make one, and only we can read one (authenticated encryption, Fernet)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from deliverypools.adapters.metrics.definitions import OTHER, TICKET_REASONS, TICKETS_REFUSED
from deliverypools.adapters.metrics.measure import add
from deliverypools.core.probe import LIFETIME_SECONDS, Probe
from deliverypools.core.ticket import Binding, Ticket, TicketError, fold, unfold

_NOTICE: Final = b"notice\0"
_NOTICE_SECONDS: Final = 2 * 86_400
_PROBE: Final = b"probe\0"


class TicketSealer:
    """Seals with the first key, opens with any of them."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._fernet = MultiFernet([Fernet(key) for key in keys])

    def seal(self, ticket: Ticket) -> str:
        """Return the value of the ticket header, folded."""
        return fold(self._fernet.encrypt(ticket.to_json()).decode("ascii"))

    def mark_notice(self, message_id: str) -> str:
        """Return the value of the ticket header of a notice that we send ourselves: an alert, a copy."""
        return fold(self._fernet.encrypt(_NOTICE + message_id.encode()).decode("ascii"))

    def is_notice(self, value: str, message_id: str) -> bool:
        """Tell whether a ticket header marks this message as a notice of ours, made in the last two days."""
        try:
            content = self._fernet.decrypt(unfold(value).encode("ascii"), ttl=_NOTICE_SECONDS)
        except (InvalidToken, UnicodeEncodeError):
            return False
        return content == _NOTICE + message_id.encode(errors="surrogateescape")

    def seal_probe(self, probe: Probe) -> str:
        """Return the value of the header by which a probe asks for its transport."""
        return fold(self._fernet.encrypt(_PROBE + probe.to_json()).decode("ascii"))

    def open_probe(self, value: str, message_id: str) -> Probe | None:
        """Return what a probe of ours asks for, made for this message in the last hour; None for anything else."""
        try:
            content = self._fernet.decrypt(unfold(value).encode("ascii"), ttl=int(LIFETIME_SECONDS))
            probe = Probe.from_json(content.removeprefix(_PROBE)) if content.startswith(_PROBE) else None
        except (InvalidToken, UnicodeEncodeError, ValueError, TypeError):
            return None
        return probe if probe is not None and probe.message_id == message_id else None

    def open(self, value: str) -> Ticket:
        """Read a ticket header.

        Raises:
            TicketError: it is not ours, or was changed.
        """
        try:
            content = self._fernet.decrypt(unfold(value).encode("ascii"))
        except (InvalidToken, UnicodeEncodeError):
            raise TicketError("not made by us, or changed") from None
        return Ticket.from_json(content)


def open_ticket(
    sealer: TicketSealer,
    values: Sequence[str],
    binding: Binding,
    *,
    now: float,
    lifetime_seconds: float,
    after_filter: bool = False,
) -> Ticket:
    """Return the ticket of a message if it has exactly one that is ours, fits and is not too old.

    Raises:
        TicketError: with what is wrong.
    """
    try:
        return _open_ticket(
            sealer, values, binding, now=now, lifetime_seconds=lifetime_seconds, after_filter=after_filter
        )
    except TicketError as error:
        # In the egress pass, that is: elsewhere anybody may write what looks like one.
        if not after_filter:
            add(TICKETS_REFUSED, _reason(str(error)))
        raise


def _reason(text: str) -> str:
    return next((reason for beginning, reason in TICKET_REASONS.items() if text.startswith(beginning)), OTHER)


def _open_ticket(
    sealer: TicketSealer,
    values: Sequence[str],
    binding: Binding,
    *,
    now: float,
    lifetime_seconds: float,
    after_filter: bool,
) -> Ticket:
    if not values:
        raise TicketError("no ticket")
    if len(values) > 1:
        raise TicketError("more than one ticket")
    try:
        ticket = sealer.open(values[0])
    except TicketError as error:
        raise TicketError(f"ticket {error}") from None
    if difference := binding.difference(ticket.binding, after_filter=after_filter):
        raise TicketError(f"ticket of another message ({difference} differs)")
    age = 0.0 if ticket.made_at is None else now - ticket.made_at
    if age > lifetime_seconds:
        raise TicketError(f"ticket is too old ({age / 86_400:.0f} days)")
    return ticket
