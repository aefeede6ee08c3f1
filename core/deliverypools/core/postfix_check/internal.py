"""`internal` and the ways to scanners ask no pool, so they lead to servers of the site's own, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum, auto
from typing import Final

from deliverypools.core.postfix_check.checks import Check, Severity, check
from deliverypools.core.postfix_check.configuration import Service
from deliverypools.core.postfix_check.inside import (
    EVERYBODY,
    domain_of_key,
    is_inside,
    is_named_as_ours,
    is_private,
)
from deliverypools.core.postfix_check.routes import (
    EXACT,
    RESOLVER,
    answers,
    filter_actions,
    filters,
    local_routes,
    mapped_routes,
)
from deliverypools.core.postfix_check.site import INTERNAL, TRIPWIRES, Site
from deliverypools.core.postfix_check.syntax import Route, file_specs, route_of, table_specs

FALLBACK: Final = "smtp_fallback_relay"
"""Where smtp(8) takes mail whose server does not answer."""
_FOR_OURS_ONLY: Final = (
    "internal:[host] only for a server of yours: at a private address, for an accepted domain, or with a name below"
    " one. All other destinations: delete the entry, or give it a route of its own through the hop"
    " (postfix-examples/hop/README.md). If the domain is yours, add it to accepted_domains."
)


class _Reach(Enum):
    """Where a route by `internal` leads."""

    OURS = auto()
    A_STRANGER = auto()
    """To a named server that is not known to be ours."""
    ANYWHERE = auto()
    """To whatever server DNS names for a domain that is not ours, or with the mail of all domains."""


@check(
    Severity.ERROR,
    can_happen="Mail to other hosts leaves undecided, by the default address of this machine: internal asks no pool.",
    remedy=_FOR_OURS_ONLY,
)
def internal_takes_mail_outside(site: Site) -> Iterator[str]:
    """A route by internal has a next-hop, or its domain is accepted; none of them is for all destinations."""
    return _reaching(site, _Reach.ANYWHERE)


@check(
    Severity.WARNING,
    can_happen="If that server is not yours, mail leaves undecided, by the default address of this machine: internal"
    " asks no pool.",
    remedy=_FOR_OURS_ONLY,
)
def internal_server_is_not_ours(site: Site) -> Iterator[str]:
    """The servers behind internal are ours, by a private address, by the domain or by their own name."""
    yield from _reaching(site, _Reach.A_STRANGER)
    for named, route in local_routes(site) if site.is_hop else ():
        is_ours = is_private(route.nexthop) or is_named_as_ours(site.settings, route.nexthop)
        if route.transport == INTERNAL and not is_ours:
            yield named


def _reaching(site: Site, wanted: _Reach) -> Iterator[str]:
    routes = (*_mapped(site), *_relayed(site)) if site.is_hop else ()
    return (named for named, reach in routes if reach is wanted)


def _mapped(site: Site) -> Iterator[tuple[str, _Reach]]:
    for label, tables in site.postfix.wherever_set("transport_maps", RESOLVER):
        for spec, entry in answers(site, tables):
            route = route_of(entry.value)
            if route.transport == INTERNAL:
                named = f"{label}: {spec}: {entry.key} {route.transport}:{route.nexthop}"
                # The key of a pattern is no domain.
                domain = domain_of_key(entry.key) if spec.partition(":")[0] in EXACT else ""
                is_for_all = entry.key == EVERYBODY
                yield named, _Reach.ANYWHERE if is_for_all else _reach(site, domain, route)


def _relayed(site: Site) -> Iterator[tuple[str, _Reach]]:
    for label, value in site.postfix.wherever_set("relay_transport", RESOLVER):
        route = route_of(value)
        if route.transport == INTERNAL:
            for domain in _relay_domains(site):
                yield f"{label} = {value}: relay_domains has {domain}", _reach(site, domain, route)


def _relay_domains(site: Site) -> Iterator[str]:
    for _, value in site.postfix.wherever_set("relay_domains", RESOLVER):
        tables = table_specs(value)
        yield from (one for one in site.postfix.listed(value) if not tables or ":" not in one)
        yield from (entry.key for _, entry in site.postfix.entries(value))


def relay_domain_tables(site: Site) -> tuple[str, ...]:
    """Return the tables and files of relay_domains, where it matters which domains these are."""
    routes = (route_of(value) for _, value in site.postfix.wherever_set("relay_transport", RESOLVER))
    if not any(route.transport == INTERNAL for route in routes):
        return ()
    values = [value for _, value in site.postfix.wherever_set("relay_domains", RESOLVER)]
    return tuple(spec for value in values for spec in (*table_specs(value), *file_specs(value)))


def _reach(site: Site, domain: str, route: Route) -> _Reach:
    if is_inside(site.settings, domain, route.nexthop):
        return _Reach.OURS
    return _Reach.A_STRANGER if route.nexthop else _Reach.ANYWHERE


# ---- what is tried when such a server does not answer


@check(
    Severity.ERROR,
    can_happen="While that server or scanner does not answer, its mail goes to the fallback relay: undecided, by the"
    " default address of this machine, with our ticket in it if it was on its way to a scanner.",
    remedy="-o smtp_fallback_relay= on that transport.",
)
def fallback_relay_round_the_decision(site: Site) -> Iterator[str]:
    """No SMTP client has a fallback relay but those of the pools."""
    routes = (*mapped_routes(site), *local_routes(site), *filters(site), *filter_actions(site))
    internal = site.postfix.transport(INTERNAL)
    for service in (*([internal] if internal else []), *clients_beside_pools(site, routes)):
        is_client = site.is_hop and service.command == "smtp"
        if is_client and (value := site.postfix.value(FALLBACK, service)):
            yield f"{service.label}: {FALLBACK} = {value}"


def clients_beside_pools(site: Site, routes: Iterable[tuple[str, Route]]) -> Iterator[Service]:
    """Yield the SMTP clients of the site's own that routes name, once each. `smtp` and `relay` are to be tripwires."""
    names = {route.transport for _, route in routes if site.reaches_outside(route.transport)}
    for name in sorted(names.difference(TRIPWIRES)):
        if service := site.postfix.transport(name):
            yield service


INTERNAL_CHECKS: Final[tuple[Check, ...]] = (
    internal_takes_mail_outside,
    internal_server_is_not_ours,
    fallback_relay_round_the_decision,
)
