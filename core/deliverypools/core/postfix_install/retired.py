"""Pool transports that a plan lacks, and that queued mail names: kept, by an address of the pool, until it has left.

A queue file keeps the transport that its FILTER named. Without a service of that name its mail would wait until it is
returned. So each is kept as a copy of its pool's first transport, of high-risk where the pool is gone.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Final

from deliverypools.core.decisions import HIGH_RISK
from deliverypools.core.pool_transports import PREFIX
from deliverypools.core.postfix_check.checks import Severity
from deliverypools.core.postfix_check.site import HOP_CLIENT
from deliverypools.core.postfix_install.plan import ParameterChange, Plan, Remark, ServiceChange, Written
from deliverypools.core.postfix_install.service_line import parse_service

_RULE: Final = re.compile(r"\bFILTER[ \t]+([^\s:]{1,200}):")
_ANOTHER: Final = re.compile(r"-[0-9]{1,9}")
"""Ends the name of a pool's second transport, and of those that follow."""


def retired(plan: Plan, original: Written, live: Written) -> frozenset[str]:
    """Return the pool transports of ours that the live configuration has, and the plan lacks."""
    planned = {one.key for one in plan.services} | original.services.keys()
    return frozenset(name for name in our_clients(live) if (name, "unix") not in planned)


def our_clients(live: Written) -> frozenset[str]:
    """Return the pool transports that a configuration has."""
    return frozenset(
        name
        for (name, kind), line in live.services.items()
        if kind == "unix" and name.startswith(PREFIX) and parse_service(line).command == "smtp"
    )


def takes_the_hop_away(plan: Plan, live: Written) -> bool:
    """Tell whether the live configuration has the hop, and the plan does without."""
    hop = (HOP_CLIENT, "unix")
    return hop in live.services and hop not in {one.key for one in plan.services}


def hop_goes(undecided: int | None) -> tuple[Remark, ...]:
    """Return what to tell of queued messages that have not passed the hop; None: nobody knows how many there are."""
    if undecided == 0:
        return ()
    number = "" if undecided is None else f" ({undecided})"
    return (
        Remark(
            severity=Severity.WARNING,
            text=f"queued messages{number} that have not passed the hop leave by high-risk: express has no hop",
            remedy="See what they wait for (mailq), and let them leave before: postqueue -f.",
        ),
    )


def led_to(files: Mapping[str, str]) -> set[str]:
    """Return the transports to which rules of these tables lead: mail gets them at this moment."""
    return {name for text in files.values() for name in _RULE.findall(text)}


def keeping(plan: Plan, names: Collection[str], pools: Iterable[str]) -> Plan:
    """Return the plan with transports that it lacks."""
    if not names:
        return plan
    planned = {one.key[0]: one for one in plan.services if one.key[1] == "unix"}
    first = {name: planned[_first(name, pools)] for name in sorted(names)}
    return replace(
        plan,
        parameters=(*plan.parameters, *(one for name in first for one in _tuning(plan, first[name], name))),
        services=(*plan.services, *(_copy(one, name) for name, one in first.items())),
        remarks=(*plan.remarks, *(_remark(one, name) for name, one in first.items())),
    )


def _first(name: str, pools: Iterable[str]) -> str:
    """Return the transport that a transport is a copy of from now on."""
    own = (pool for pool in pools if name == f"{PREFIX}{pool}" or _is_another(name, f"{PREFIX}{pool}"))
    return f"{PREFIX}{max(own, key=len, default=HIGH_RISK)}"


def _is_another(name: str, first: str) -> bool:
    return name.startswith(first) and _ANOTHER.fullmatch(name.removeprefix(first)) is not None


def _copy(one: ServiceChange, name: str) -> ServiceChange:
    return ServiceChange(
        key=(name, one.key[1]),
        line=parse_service(one.line).named(name).render(),
        reason="Queued mail may name this transport still.",
    )


def _tuning(plan: Plan, one: ServiceChange, name: str) -> list[ParameterChange]:
    prefix = f"{one.key[0]}_"
    return [
        replace(change, name=f"{name}_{change.name.removeprefix(prefix)}")
        for change in plan.parameters
        if change.name.startswith(prefix)
    ]


def _remark(one: ServiceChange, name: str) -> Remark:
    return Remark(
        severity=Severity.LATER,
        text=f"{name}: the settings have no such transport any more, and queued mail may name it: it is kept, and"
        f" its mail leaves as that of {one.key[0]}",
        remedy="Nothing now. A later `delivery-pools postfix install` takes it away when no queued mail names it.",
    )
