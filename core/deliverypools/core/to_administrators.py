"""What the sorts of `told.Told` have in common that are dataclasses and go to `alerts.mail_to`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Self, cast

from deliverypools.core.facts import Ingress
from deliverypools.core.payloads import dataclass_from


class ToAdministrators:
    """A dataclass that is told to `alerts.mail_to`, about no account unless it says so."""

    __slots__ = ()

    @property
    def notify(self) -> tuple[str, ...]:
        """It goes to `alerts.mail_to`."""
        return ()

    @property
    def account(self) -> str:
        """Return the account whose latest messages are shown with it, "" for none."""
        return ""

    @property
    def ingress(self) -> Ingress | None:
        """Its messages of every way of sending are shown."""
        return None

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` reads; its values are those of JSON."""
        return asdict(cast("Any", self))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote.

        Raises:
            ValueError: it was not written by this version.
        """
        return dataclass_from(cls, values)
