"""The tables that `delivery-pools postfix install` makes are still what it would make of the site's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from deliverypools.core.postfix_check.checks import Severity, check
from deliverypools.core.postfix_check.configuration import Entry
from deliverypools.core.postfix_check.site import Site
from deliverypools.core.postfix_check.syntax import Route, route_of, split_list, table_specs

_OURS: Final = "/delivery-pools/routes"


@check(
    Severity.WARNING,
    can_happen="The entry of the site has been changed or deleted since, and the generated one in front of it still"
    " leads mail the old way.",
    remedy="delivery-pools postfix install: it makes delivery-pools/routes anew.",
)
def routes_out_of_date(site: Site) -> Iterator[str]:
    """delivery-pools/routes says the same next-hops as the tables of transport_maps that it was made from."""
    specs = table_specs(site.postfix.value("transport_maps"))
    ours = [spec for spec in specs if spec.endswith(_OURS)]
    own = " ".join(spec for spec in specs if spec not in ours)
    if not ours or site.postfix.is_unknown(own):
        return
    theirs: dict[str, Entry] = {}
    for _, entry in site.postfix.entries(own):
        theirs.setdefault(entry.key.lower(), entry)
    for spec, entry in site.postfix.entries(" ".join(ours)):
        found = theirs.get(entry.key.lower())
        if found is None:
            yield f"{spec}: {entry.key} {entry.value}: your own tables have no such entry"
        elif not _is_made_from(site, entry, found):
            yield f"{spec}: {entry.key} {entry.value}: your own tables say {found.value}"


def _is_made_from(site: Site, ours: Entry, theirs: Entry) -> bool:
    route, own = route_of(ours.value), route_of(theirs.value)
    next_hop = ",".join(split_list(own.nexthop))
    if site.stays_inside(route):
        return ",".join(split_list(route.nexthop)) == next_hop
    # A transport without a next-hop is led to the domain itself where a relayhost would take its mail.
    return _behind(site, route) in ((next_hop,) if next_hop else ("", ours.key.rpartition("@")[2]))


def _behind(site: Site, route: Route) -> str | None:
    """Return the next-hop of what the listener takes in that a route leads to; None if there is no such listener."""
    for listener in site.listeners:
        if site.is_to_the_hop(route) and listener.name == route.nexthop.replace("[", "").replace("]", ""):
            return route_of(site.postfix.value("content_filter", listener)).nexthop
    return None
