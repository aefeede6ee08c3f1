"""A plan while it is being made, and the questions that every part of it asks of the original."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Final

from deliverypools.core.postfix_check.checks import Check, Severity
from deliverypools.core.postfix_check.configuration import PostfixConfiguration, Service
from deliverypools.core.postfix_check.site import Site
from deliverypools.core.postfix_check.syntax import split_list
from deliverypools.core.postfix_install.examples import Example
from deliverypools.core.postfix_install.plan import (
    Original,
    ParameterChange,
    Plan,
    Remark,
    ServiceChange,
    ServiceKey,
)
from deliverypools.core.postfix_install.service_line import ServiceLine, parse_service
from deliverypools.core.settings import Settings

_REFERENCE: Final = re.compile(r"\$(?:\{(\w{1,200})\}|\((\w{1,200})\)|(\w{1,200}))", re.ASCII)
_MOST_REFERENCES: Final = 200
"""In one value: a few are usual; names that lead to each other many times over are left as they are."""
DEFAULTS: Final[Mapping[str, str]] = {"mydestination": "$myhostname, localhost.$mydomain, localhost"}
"""Of the parameters that the plan adds to, those whose default is not empty."""
DIRECTORY: Final = "$config_directory/delivery-pools"
CHANGE_BACK: Final = "`postfix uninstall` will name what to change back."


class Draft:
    """What is planned so far. Each part of the plan reads the original, and adds its own."""

    def __init__(self, original: Original, settings: Settings, example: Example) -> None:
        """Begin with nothing."""
        self.original = original
        self.settings = settings
        self.example = example
        self.files: dict[str, str] = {}
        self._parameters: dict[str, ParameterChange] = {}
        self._services: dict[ServiceKey, ServiceChange] = {}
        self._remarks: dict[Remark, None] = {}

    # ---- the original

    @property
    def postfix(self) -> PostfixConfiguration:
        """The site's configuration, expanded."""
        return self.original.postfix

    @cached_property
    def site(self) -> Site:
        """The same, as the checks look at it."""
        return Site(self.original.postfix, self.settings)

    @property
    def is_hop(self) -> bool:
        """Whether the profile is `hop`."""
        return self.settings.profile == "hop"

    @cached_property
    def lines(self) -> Mapping[ServiceKey, ServiceLine]:
        """The site's services, in their order."""
        return {key: parse_service(line) for key, line in self.original.written.services.items()}

    def template(self, name: str, kind: str = "unix") -> ServiceLine:
        """Return a service of the example."""
        return parse_service(" ".join(self.example.master[name, kind].split()))

    def raw(self, parameter: str) -> str:
        """Return what main.cf says of a parameter, `$names` not expanded; its default if it says nothing."""
        return self.original.written.parameters.get(parameter, DEFAULTS.get(parameter, ""))

    def is_written(self, parameter: str) -> bool:
        """Tell whether main.cf sets a parameter to more than nothing."""
        return bool(self.original.written.parameters.get(parameter, ""))

    def inlined(self, text: str, changed: Iterable[str]) -> str:
        """Return a value in which the parameters that we change are spelt out as the site has them.

        Otherwise `non_smtpd_milters = $smtpd_milters` would list ours twice.
        """
        names = frozenset(changed)
        left = _MOST_REFERENCES

        def expanded(text: str, within: frozenset[str]) -> str:
            def spelt_out(found: re.Match[str]) -> str:
                nonlocal left
                name = _name(found)
                left -= 1
                if left < 0 or name in within or not self._leads_to(name, names):
                    return found[0]
                return expanded(self.raw(name), within | {name})

            return _REFERENCE.sub(spelt_out, text)

        return expanded(text, frozenset())

    def _leads_to(self, name: str, changed: frozenset[str]) -> bool:
        """Tell whether a parameter is one of these, or refers to one, perhaps by others."""
        seen = {name}
        to_follow = [name]
        while to_follow and not seen & changed:
            found = {_name(one) for one in _REFERENCE.finditer(self.raw(to_follow.pop()))} - seen
            seen |= found
            to_follow += found
        return bool(seen & changed)

    def line_of(self, service: Service) -> ServiceLine:
        """Return a service as the plan has it by now."""
        return self.line(service.name, service.type)

    def line(self, name: str, kind: str = "unix") -> ServiceLine:
        """Return a service as the plan has it by now.

        Raises:
            KeyError: there is none.
        """
        if planned := self._services.get((name, kind)):
            return parse_service(planned.line)
        return self.lines[name, kind]

    def doors(self) -> Iterator[Service]:
        """Yield the site's smtpd services: all by which mail comes in."""
        return (one for one in self.postfix.running("smtpd") if (one.name, one.type) in self.lines)

    # ---- the plan

    @property
    def services(self) -> Collection[ServiceKey]:
        """What is planned for master.cf."""
        return self._services.keys()

    def set(self, parameter: str, value: str, reason: str = "") -> None:
        """Set a parameter of main.cf; the comment in the example is the reason, unless another one is given."""
        one_line = " ".join(value.split())
        reason = reason or self.example.reasons.get(parameter, "")
        self._parameters[parameter] = ParameterChange(name=parameter, value=one_line, reason=reason)

    def add(self, line: ServiceLine, reason: str) -> None:
        """Add a service, or put it in the place of the site's."""
        self._services[line.key] = ServiceChange(key=line.key, line=line.render(), reason=reason)

    def remark(self, severity: Severity, text: str, remedy: str = "") -> None:
        """Tell the administrator something, once."""
        self._remarks[Remark(severity=severity, text=text, remedy=remedy)] = None

    def error(self, text: str, remedy: str) -> None:
        """Say what has to be mended first."""
        self.remark(Severity.ERROR, text, remedy)

    def warning(self, text: str, remedy: str = "") -> None:
        """Say what to look at."""
        self.remark(Severity.WARNING, text, remedy)

    def blame(self, check: Check) -> None:
        """Say what a check finds in the original; for what no plan can mend."""
        for found in check.find(self.site):
            self.remark(check.severity, f"{found}: {check.can_happen}", check.remedy)

    def note(self, text: str, remedy: str = "") -> None:
        """Say what was carried over."""
        self.remark(Severity.LATER, text, remedy)

    def plan(self) -> Plan:
        """Return what has come together, without what the site has already."""
        order = list(Severity)
        return Plan(
            parameters=tuple(one for one in self._parameters.values() if self._is_change(one)),
            services=tuple(
                one
                for key, one in self._services.items()
                if key not in self.lines or self.lines[key].render() != one.line
            ),
            files=dict(self.files),
            remarks=tuple(sorted(self._remarks, key=lambda one: order.index(one.severity))),
        )

    def _is_change(self, one: ParameterChange) -> bool:
        before = self.original.written.parameters.get(one.name)
        if before is None and not one.value and one.name in self.example.main:
            return bool(self.postfix.value(one.name))
        return before != one.value


def _name(reference: re.Match[str]) -> str:
    return reference[1] or reference[2] or reference[3]


def joined(*parts: str) -> str:
    """Return the parts of a list that are not empty, with commas."""
    return ", ".join(part.strip().rstrip(",") for part in parts if part.strip().rstrip(","))


def words_without(value: str, *words: str) -> str:
    """Return a list without some words."""
    return ", ".join(word for word in split_list(value) if word not in words)
