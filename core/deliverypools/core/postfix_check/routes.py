"""Nothing is routed to another host round the decision."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from deliverypools.core.postfix_check.checks import Check, Severity, check
from deliverypools.core.postfix_check.configuration import LOOPBACK_HOSTS
from deliverypools.core.postfix_check.site import HIGH_RISK, HOP_CLIENT, INTERNAL, Site
from deliverypools.core.postfix_check.syntax import Route, route_of, table_specs
from deliverypools.core.postfix_check.tags import tagged

_LOCAL_ROUTES: Final = (
    "local_transport",
    "virtual_transport",
    "mailbox_transport",
    "fallback_transport",
    "content_filter",
)
_PROBE_ROUTES: Final = ("address_verify_default_transport", "address_verify_relay_transport")


@check(
    Severity.ERROR,
    can_happen="All mail to other hosts leaves undecided, by the address of that transport; or it waits, because"
    " there is"
    " no such transport.",
    remedy="Profile hop: default_transport = relay_transport = egress:[127.0.0.1]:10027. Profile express: both ="
    " pool-high-risk, the fail-safe.",
)
def default_route_misses_the_decision(site: Site) -> Iterator[str]:
    """What leaves for another host takes the hop; in the express profile, what has no tag leaves by high-risk."""
    for parameter in ("default_transport", "relay_transport"):
        value = site.postfix.value(parameter)
        route = route_of(value)
        if site.is_hop:
            is_right = site.is_to_the_hop(route) or (parameter == "relay_transport" and route.transport == INTERNAL)
        else:
            is_right = site.pool_of(route.transport) == HIGH_RISK
        if not is_right or site.postfix.transport(route.transport) is None:
            yield f"{parameter} = {value}"


@check(
    Severity.ERROR,
    can_happen="Mail of the senders that the table names leaves by its transports, and is not decided.",
    remedy="sender_dependent_default_transport_maps = (empty). A sender that needs a pool of its own is a pin of the"
    " settings.",
)
def transport_by_sender(site: Site) -> Iterator[str]:
    """Transports by sender beat default_transport, so they lead round the hop."""
    if value := site.postfix.value("sender_dependent_default_transport_maps"):
        yield f"sender_dependent_default_transport_maps = {value}"


@check(
    Severity.ERROR,
    can_happen="Mail to that destination leaves undecided, by the default address of this machine.",
    remedy="Delete the entry if it repeats the default; else give it internal: (a server of yours), or a route of"
    " its own"
    " through the hop (postfix-examples/hop/README.md).",
)
def transport_map_round_the_hop(site: Site) -> Iterator[str]:
    """No entry of transport_maps names an SMTP client that is neither the hop's nor for servers of our own."""
    for spec, key, route in _mapped(site):
        if site.reaches_outside(route.transport):
            yield f"transport_maps: {spec}: {key} {route.transport}:{route.nexthop}"


@check(
    Severity.ERROR,
    can_happen="Mail to that destination waits, and is returned after maximal_queue_lifetime: a tripwire holds it,"
    " there is"
    " no such transport, or the hop's client cannot reach that next-hop.",
    remedy="Delete the entry if it repeats the default; else give it internal: (a server of yours), or a route of"
    " its own"
    " through the hop (postfix-examples/hop/README.md).",
)
def transport_map_leads_nowhere(site: Site) -> Iterator[str]:
    """Every entry of transport_maps names a transport that delivers, or none."""
    for spec, key, route in _mapped(site):
        named = f"transport_maps: {spec}: {key} {route.transport}:{route.nexthop}"
        if site.is_tripwire(route.transport):
            yield f"{named}: a tripwire"
        elif route.transport and "$" not in route.transport and site.postfix.transport(route.transport) is None:
            yield f"{named}: no such transport in master.cf"
        elif site.is_hop and _misses_the_listener(site, route):
            yield f"{named}: the hop's client reaches the listener only"


def _misses_the_listener(site: Site, route: Route) -> bool:
    is_hop_client = route.transport == HOP_CLIENT or (not route.transport and bool(route.nexthop))
    return is_hop_client and not site.is_to_the_hop(Route(HOP_CLIENT, route.nexthop))


@check(
    Severity.WARNING,
    can_happen="All mail to that destination leaves by this pool undecided, spam and notices too.",
    remedy="Give it a route of its own through the hop (postfix-examples/hop/README.md), or delete the entry.",
)
def transport_map_names_a_pool(site: Site) -> Iterator[str]:
    """No entry of transport_maps names a pool."""
    for spec, key, route in _mapped(site):
        if site.pool_of(route.transport):
            yield f"transport_maps: {spec}: {key} {route.transport}:{route.nexthop}"


def _mapped(site: Site) -> Iterator[tuple[str, str, Route]]:
    for spec, entry in site.postfix.entries(site.postfix.value("transport_maps")):
        yield spec, entry.key, route_of(entry.value)


@check(
    Severity.ERROR,
    can_happen="Mail for mailboxes, or for a content filter, waits at a tripwire, or because there is no such"
    " transport,"
    " and is returned after maximal_queue_lifetime.",
    remedy="Name internal: for mailbox servers; give a scanner a transport of its own (scan unix - - y - - smtp).",
)
def local_route_leads_nowhere(site: Site) -> Iterator[str]:
    """Deliveries that stay inside do not use the transports smtp and relay."""
    for parameter in _LOCAL_ROUTES:
        for service in (None, *site.postfix.running("smtpd", "pickup", "local", "virtual")):
            if service is not None and parameter not in service.options:
                continue
            value = site.postfix.value(parameter, service)
            transport = route_of(value).transport
            is_missing = bool(transport) and "$" not in transport and site.postfix.transport(transport) is None
            if site.is_tripwire(transport) or is_missing:
                yield f"{service.label + ': ' if service else ''}{parameter} = {value}"


@check(
    Severity.WARNING,
    can_happen="The smarthost is not used: mail goes to the MX of each recipient, or is blocked by a firewall.",
    remedy="default_filter_nexthop = $relayhost",
)
def smarthost_not_followed(site: Site) -> Iterator[str]:
    """A tag replaces all routing, relayhost too; only default_filter_nexthop is followed."""
    relayhost, followed = (site.postfix.value(name) for name in ("relayhost", "default_filter_nexthop"))
    if relayhost and not followed:
        yield f"relayhost = {relayhost}, and default_filter_nexthop is empty"


@check(
    Severity.WARNING,
    can_happen="The table has no effect any more: mail of its senders goes where all mail goes.",
    remedy="Empty it; what it did can be a route of its own (postfix-examples/hop/README.md).",
)
def smarthost_by_sender(site: Site) -> Iterator[str]:
    """A tag replaces all routing, sender_dependent_relayhost_maps too."""
    if value := site.postfix.value("sender_dependent_relayhost_maps"):
        yield f"sender_dependent_relayhost_maps = {value}"


@check(
    Severity.WARNING,
    can_happen="Address probes (reject_unverified_recipient) take the hop, where every address is deliverable; or they"
    " meet a tripwire, and mail is refused for now.",
    remedy="address_verify_default_transport = address_verify_relay_transport = pool-normal",
)
def probes_are_not_asked_outside(site: Site) -> Iterator[str]:
    """Address probes ask the destination, by a pool."""
    for parameter in _PROBE_ROUTES:
        value = site.postfix.value(parameter)
        transport = route_of(value).transport
        is_right = site.pool_of(transport) is not None or (parameter == _PROBE_ROUTES[1] and transport == INTERNAL)
        if not is_right:
            yield f"{parameter} = {value}"


@check(
    Severity.ERROR,
    can_happen="FILTER and REDIRECT send the message round the decision, or without a ticket: it leaves by another"
    " address,"
    " or waits and leaves by high-risk. In the express profile, BCC copies are lost, and HOLD is applied to the tag's"
    " own message.",
    remedy="Use an alias in place of REDIRECT, a route of its own in place of FILTER (postfix-examples/hop/README.md).",
)
def action_that_reroutes(site: Site) -> Iterator[str]:
    """The site's checks and access tables have no action that routes mail."""
    forbidden = ("FILTER", "REDIRECT") if site.is_hop else ("FILTER", "REDIRECT", "BCC", "HOLD")
    tags = {spec for _, tables in tagged(site) for spec in table_specs(tables)}
    for parameter, tables in checked_tables(site):
        for spec, entry in site.postfix.entries(tables):
            if spec in tags:
                continue
            action, _, rest = entry.value.partition(" ")
            if action.upper() in forbidden and not (action.upper() == "FILTER" and _stays(site, rest)):
                yield f"{parameter}: {spec}: {entry.key} {action} {rest}".rstrip()


def _stays(site: Site, destination: str) -> bool:
    """Tell whether a FILTER stays on this machine: pipe(8), discard, error, or a scanner at a loopback address."""
    route = route_of(destination)
    service = site.postfix.transport(route.transport)
    is_local = route.nexthop.rpartition(":")[0].strip("[]") in LOOPBACK_HOSTS
    return site.is_hop and service is not None and (service.command != "smtp" or is_local)


CHECK_PARAMETERS: Final = ("header_checks", "mime_header_checks", "nested_header_checks", "body_checks")
RESTRICTION_PARAMETERS: Final = tuple(
    f"smtpd_{stage}_restrictions"
    for stage in ("client", "helo", "sender", "relay", "recipient", "data", "end_of_data", "etrn")
)


def checked_tables(site: Site) -> Iterator[tuple[str, str]]:
    """Yield the tables whose answers are actions, each once, with the parameter that names it."""
    seen: set[str] = set()
    for parameter in CHECK_PARAMETERS:
        for service in (None, *site.postfix.running("cleanup")):
            if service is not None and parameter not in service.options:
                continue
            value = site.postfix.value(parameter, service)
            if value and value not in seen:
                seen.add(value)
                yield parameter, value
    for parameter in RESTRICTION_PARAMETERS:
        for service in (None, *site.postfix.running("smtpd")):
            words = site.postfix.words(parameter, service)
            for name, table in pairwise(words):
                if name.startswith("check_") and name.endswith("_access") and table not in seen:
                    seen.add(table)
                    yield parameter, table


ROUTE_CHECKS: Final[tuple[Check, ...]] = (
    default_route_misses_the_decision,
    transport_by_sender,
    transport_map_round_the_hop,
    transport_map_leads_nowhere,
    transport_map_names_a_pool,
    local_route_leads_nowhere,
    smarthost_not_followed,
    smarthost_by_sender,
    probes_are_not_asked_outside,
    action_that_reroutes,
)
