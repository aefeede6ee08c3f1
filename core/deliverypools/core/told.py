"""What administrators are told, of whatever sort, and as the outbox holds it.

A sort is a dataclass that knows how it reads as a mail and as the JSON of a webhook; the dispatcher knows no more of
it than `Told`. The payload of a notice is its values as JSON, with `sort` as one more; one without is a limit alert.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol, Self

from deliverypools.core import alert_text
from deliverypools.core.alert_text import Samples
from deliverypools.core.alerts import Alert
from deliverypools.core.dropped_digest import DroppedDigest
from deliverypools.core.facts import Ingress, printable
from deliverypools.core.scanning.alert import ScannerDown
from deliverypools.core.surges.alert import SurgeAlert

_SORT: Final = "sort"


class Told(Protocol):
    """Something that administrators are told. Whatever texts it holds: what it returns is printable and bounded."""

    sort: ClassVar[str]
    """Its name in a payload; "" for limit alerts, which have none there."""

    @property
    def once(self) -> str:
        """The name under which it is told once; the mail's Message-ID is made of it."""

    @property
    def at(self) -> float:
        """When it happened, in seconds since the epoch. A day later sending it is given up."""

    @property
    def notify(self) -> tuple[str, ...]:
        """Mail addresses that get it instead of `alerts.mail_to`; empty: those."""

    @property
    def account(self) -> str:
        """The account whose latest messages are told with it (`Samples`); "" for none."""

    @property
    def ingress(self) -> Ingress | None:
        """The way of sending of these messages; None: any."""

    def summary(self) -> str:
        """Return one line for the log."""

    def subject(self) -> str:
        """Return the Subject of the mail, made with `alert_text.subject_line`."""

    def body(self, samples: Samples) -> str:
        """Return the text of the mail."""

    def webhook(self, samples: Samples) -> dict[str, Any]:
        """Return the JSON object of the webhook: `id` (`once`), `text` (one line), `event`, `time` and its own."""

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` reads; its values are those of JSON."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote.

        Raises:
            ValueError: it was not written by this version.
        """


@dataclass(frozen=True, slots=True)
class LimitAlert:
    """An alert about a limit or a restriction, as it is told."""

    sort: ClassVar[str] = ""
    alert: Alert

    @property
    def once(self) -> str:
        """Return the alert's name."""
        return self.alert.once

    @property
    def at(self) -> float:
        """Return when the limit was exceeded."""
        return self.alert.at

    @property
    def notify(self) -> tuple[str, ...]:
        """Return the mail addresses of the policy."""
        return self.alert.notify

    @property
    def account(self) -> str:
        """Return the account, of a tenant the one whose message it was."""
        return self.alert.account

    @property
    def ingress(self) -> Ingress | None:
        """Return the way of sending that the alert is about."""
        return self.alert.ingress

    def summary(self) -> str:
        """Return one line for the log."""
        return f"{self.alert.event}: {self.alert.evidence} (action: {self.alert.action})"

    def subject(self) -> str:
        """Return the Subject of the mail."""
        return alert_text.subject_of(self.alert)

    def body(self, samples: Samples) -> str:
        """Return the text of the mail."""
        return alert_text.body_of(self.alert, samples)

    def webhook(self, samples: Samples) -> dict[str, Any]:
        """Return the JSON object of the webhook."""
        return alert_text.webhook_of(self.alert, samples)

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` reads."""
        return self.alert.to_dict()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote.

        Raises:
            ValueError: it was not written by this version.
        """
        return cls(Alert.from_dict(values))


SORTS: Final[Mapping[str, type[Told]]] = {one.sort: one for one in (LimitAlert, DroppedDigest, SurgeAlert, ScannerDown)}
"""A new sort is a line here."""


def to_payload(told: Told) -> str:
    """Return what the outbox holds."""
    return json.dumps(told.to_dict() | ({_SORT: told.sort} if told.sort else {}))


def from_payload(payload: str) -> Told:
    """Read what the outbox holds.

    Raises:
        ValueError: it was not written by this version; the text says what is wrong.
    """
    try:
        values = json.loads(payload)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(values, dict):
        raise ValueError("an alert of another version")  # noqa: TRY004  (what is stored, not an argument)
    sort = values.pop(_SORT, LimitAlert.sort)
    if not isinstance(sort, str) or sort not in SORTS:
        raise ValueError(f"an alert of a sort that is not known: {printable(str(sort))}")
    return SORTS[sort].from_dict(values)
