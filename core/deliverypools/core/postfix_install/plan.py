"""A plan: what to change in main.cf and master.cf, which files to write, and what to tell the administrator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from deliverypools.core.postfix_check.checks import Severity
from deliverypools.core.postfix_check.configuration import PostfixConfiguration

ServiceKey = tuple[str, str]
"""Name and type of a service: one line of master.cf, as `postconf -M name/type` names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A configuration as its files say it, `$names` not expanded."""

    parameters: Mapping[str, str]
    """What main.cf sets (`postconf -n`), defaults left out."""
    services: Mapping[ServiceKey, str]
    """The lines of master.cf in their order (`postconf -M`), each as one logical line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """A site's configuration without anything of ours, from which a plan is made."""

    written: Written
    postfix: PostfixConfiguration
    """The same expanded, with defaults, and with the tables that the plan looks at."""
    busy_ports: frozenset[int] = frozenset()
    """Ports of this machine that are not ours to take."""
    own_addresses: frozenset[str] = frozenset()
    """Those of this machine's addresses that the site names as next-hop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterChange:
    """One parameter of main.cf."""

    name: str
    value: str | None
    """What main.cf says afterwards; None: nothing, the line goes."""
    reason: str
    """Why, for the administrator; from the examples' comments, or what was carried over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceChange:
    """One service of master.cf: added, or put in the place of the one of the same name and type."""

    key: ServiceKey
    line: str
    """The whole entry as one logical line, fit for `postconf -M -e 'name/type = ...'`."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """What the administrator is told."""

    severity: Severity
    """`error`: it is not installed until this is mended. `warning`: look at it. `later`: for information."""
    text: str
    """What was carried over, what no longer applies, or what can happen."""
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that makes a site's configuration ours. Applied to the same original it always gives the same."""

    parameters: tuple[ParameterChange, ...]
    services: tuple[ServiceChange, ...]
    files: Mapping[str, str]
    """Files below `$config_directory/delivery-pools`, by name."""
    remarks: tuple[Remark, ...] = field(default=())
