"""A configuration as its files say it, and what differs between two of them. See postconf(5), master(5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from deliverypools.core.postfix_install.examples import parse_main
from deliverypools.core.postfix_install.plan import Plan, ServiceKey, Written

_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to be set; None takes a parameter or a service away."""

    parameters: Mapping[str, str | None]
    services: Mapping[ServiceKey, str | None]

    def __bool__(self) -> bool:
        """Tell whether there is anything to change."""
        return bool(self.parameters or self.services)


def changes_of(plan: Plan) -> Changes:
    """Return what a plan changes."""
    return Changes(
        {one.name: None if one.value is None else one_line(one.value) for one in plan.parameters},
        {one.key: one_line(one.line) for one in plan.services},
    )


def changes_between(before: Written, after: Written) -> Changes:
    """Return what makes one configuration the other."""
    return Changes(
        _differences(before.parameters, after.parameters),
        _differences(before.services, after.services),
    )


def changed(written: Written, changes: Changes) -> Written:
    """Return a configuration with changes made: what is new comes at the end, as postconf(1) does it."""
    return Written(
        parameters=_with(written.parameters, changes.parameters), services=_with(written.services, changes.services)
    )


def parameters_in(text: str) -> dict[str, str]:
    """Return what the text of a main.cf sets, also what no parameter refers to: `postconf -n` leaves that out."""
    return {name: one_line(value) for name, value in parse_main(text).items()}


def services_in(text: str) -> dict[ServiceKey, str]:
    """Return the services that `postconf -M` prints."""
    entries: list[str] = []
    for line in text.split("\n"):
        if line[:1].isspace() and entries:
            entries[-1] += line
        elif line.strip():
            entries.append(line)
    lines = (one_line(entry) for entry in entries)
    return {(words[0], words[1]): line for line in lines if len(words := line.split(None, 2)) > 1}


def one_line(value: str) -> str:
    """Return a value with single blanks: postconf(1) takes no line breaks, and to Postfix it is the same."""
    return " ".join(value.split())


def _differences(before: Mapping[_Key, str], after: Mapping[_Key, str]) -> dict[_Key, str | None]:
    found: dict[_Key, str | None] = {key: value for key, value in after.items() if before.get(key) != value}
    return found | dict.fromkeys((key for key in before if key not in after), None)


def _with(values: Mapping[_Key, str], changes: Mapping[_Key, str | None]) -> dict[_Key, str]:
    merged: dict[_Key, str | None] = {**values, **changes}
    return {key: value for key, value in merged.items() if value is not None}
