"""What administrators are told: one alert for each event and account (or tenant) and day."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Self

from deliverypools.core.facts import Ingress
from deliverypools.core.restrictions import utc_day

_LAST_MOMENT = 1e11
"""Some way before the year 9999, where the calendar ends."""


class Event(StrEnum):
    """What happened."""

    LIMIT_EXCEEDED = "limit-exceeded"
    ACCOUNT_RESTRICTED = "account-restricted"
    SUSPICIOUS = "suspicious-sending"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One event."""

    event: Event
    account: str
    """The account; where it is about a tenant, the one whose message it was."""
    ingress: Ingress
    limit: str
    """Name of the limit, as in the settings: `recipients_per_day`."""
    most: int
    used: int
    """What the window held before this message, and `cost` what the message adds."""
    cost: int
    policy: str
    """Name of the outbound policy; "" for a service limit."""
    action: str
    """What is done: `high-risk`, `restrict`, `restrict-until-tomorrow`, `alert`; in shadow mode, what would be done."""
    evidence: str
    at: float
    """Seconds since the epoch."""
    until: float | None = None
    """When a restriction ends; None: when an administrator releases it."""
    note: str = ""
    """Why not more is done than that; "" where the action is what the limit asks for."""
    tenant: str = ""
    """The accepted domain whose accounts all share the limit; "" for an account's own."""
    notify: tuple[str, ...] = field(default=())
    """Mail addresses of the policy; empty: those of `[alerts]`."""

    @property
    def once(self) -> str:
        """Return the name under which it is told once: event, limit, account or tenant, and day (UTC).

        A policy's limit and the service limit of the same name are two.
        """
        limit = f"{self.policy}/{self.limit}" if self.policy else self.limit
        return f"{self.event}/{limit}/{self._whose}/{utc_day(self.at)}"

    @property
    def _whose(self) -> str:
        if not self.tenant:
            return f"{self.ingress}:{self.account}"
        # Trusted clients of a tenant are counted apart, under limits of their own.
        return f"{'trusted-tenant' if self.ingress is Ingress.TRUSTED else 'tenant'}:{self.tenant}"

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` reads; its values are those of JSON."""
        return asdict(self) | {"notify": list(self.notify)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote.

        Raises:
            ValueError: it was not written by this version.
        """
        try:
            alert = cls(
                **dict(values)
                | {
                    "event": Event(values["event"]),
                    "ingress": Ingress(values["ingress"]),
                    "notify": tuple(values["notify"]),
                }
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError("an alert of another version") from error
        if not alert._is_sound():
            raise ValueError("an alert with values of the wrong kind")
        return alert

    def _is_sound(self) -> bool:
        """Tell whether the values are what they are said to be: they come from a store that others can write."""
        texts = (
            self.account,
            self.tenant,
            self.limit,
            self.policy,
            self.action,
            self.evidence,
            self.note,
            *self.notify,
        )
        numbers = (self.most, self.used, self.cost)
        moments = (self.at, *(() if self.until is None else (self.until,)))
        return (
            all(isinstance(text, str) for text in texts)
            and all(type(number) is int for number in numbers)
            and all(type(moment) in (int, float) and 0 <= moment < _LAST_MOMENT for moment in moments)
        )
