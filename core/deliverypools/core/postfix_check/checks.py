"""What a check is, and what it finds."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Final, Generic, TypeAlias, TypeVar

from deliverypools.core.facts import printable
from deliverypools.core.postfix_check.site import Site

MOST_OF_ONE_CHECK: Final = 50
"""Findings of one check that are listed: a table may have a hundred thousand entries."""
_LONGEST: Final = 500


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """Mail can leave by a wrong address, be lost, or wait for ever."""
    WARNING = "warning"
    """Something works less well than it should, or could not be examined."""
    LATER = "later"
    """Only a running server can show whether it is right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong, and where."""

    check: str
    severity: Severity
    found: str
    """Where it is and what it says, in Postfix's words."""
    can_happen: str
    remedy: str

    @property
    def docs(self) -> str:
        """Where the documentation explains it."""
        return f"docs/checks.md#{self.check}"


T = TypeVar("T")
"""What a check is asked about: a configuration (`Site`), or a running machine (`host_check.Host`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOf(Generic[T]):
    """One way in which mail can go wrong. Its name is its identity: in output, JSON and docs."""

    find: Callable[[T], Iterable[str]]
    severity: Severity
    can_happen: str
    remedy: str

    @property
    def name(self) -> str:
        """The name of its function."""
        return self.find.__name__

    @property
    def description(self) -> str:
        """The docstring of its function."""
        return inspect.getdoc(self.find) or ""

    def findings(self, about: T) -> Iterator[Finding]:
        """Yield what is wrong, in the order of the configuration, up to a bound."""
        # Services that share a cleanup service share what is wrong with it.
        found = list(dict.fromkeys(islice(self.find(about), MOST_OF_ONE_CHECK + 1)))
        if len(found) > MOST_OF_ONE_CHECK:
            found[-1] = f"and more; the first {MOST_OF_ONE_CHECK} are listed"
        for text in found:
            yield Finding(
                check=self.name,
                severity=self.severity,
                found=printable(text, _LONGEST),
                can_happen=self.can_happen,
                remedy=self.remedy,
            )


Check: TypeAlias = CheckOf[Site]
"""A check of a configuration."""


def check(severity: Severity, *, can_happen: str, remedy: str) -> Callable[[Callable[[T], Iterable[str]]], CheckOf[T]]:
    """Make a check of a function that yields what it finds; its docstring says what it looks for."""

    def make(find: Callable[[T], Iterable[str]]) -> CheckOf[T]:
        return CheckOf(find=find, severity=severity, can_happen=can_happen, remedy=remedy)

    return make


def errors_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings in the order in which they are reported."""
    order = list(Severity)
    return tuple(sorted(findings, key=lambda finding: order.index(finding.severity)))
