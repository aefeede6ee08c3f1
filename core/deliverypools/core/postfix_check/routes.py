"""Nothing is routed to another host round the decision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from deliverypools.core.postfix_check.checks import Check, Severity, check
from deliverypools.core.postfix_check.configuration import Entry, is_on_this_machine
from deliverypools.core.postfix_check.generated_routes import routes_out_of_date
from deliverypools.core.postfix_check.site import HIGH_RISK, HOP_CLIENT, INTERNAL, POLICY_CHECK, Site
from deliverypools.core.postfix_check.syntax import Route, action_of, is_table, route_of, split_list, table_specs
from deliverypools.core.postfix_check.tags import tagged

RESOLVER: Final = "trivial-rewrite"
"""The program that chooses transports."""
_SOURCES: Final = ("smtpd", "qmqpd", "pickup")
"""The programs by which mail comes in."""
_LOCAL_ROUTES: Final[Mapping[str, str]] = {
    "local_transport": RESOLVER,
    "virtual_transport": RESOLVER,
    "mailbox_transport": "local",
    "fallback_transport": "local",
}
"""Each with the program that follows it."""
EXACT: Final = frozenset({"texthash", "hash", "btree", "lmdb", "cdb", "dbm", "sdbm", "inline"})
"""Tables whose entries stand for one key each, so that a table in front of them can answer instead."""
_BY_SENDER: Final = "sender_dependent_default_transport_maps"
LOCAL_MAPS: Final = ("mailbox_transport_maps", "fallback_transport_maps")
_PROBE_ROUTES: Final = ("address_verify_default_transport", "address_verify_relay_transport")
_LOCAL_PROBE_ROUTES: Final[Mapping[str, str]] = {
    "address_verify_local_transport": "local_transport",
    "address_verify_virtual_transport": "virtual_transport",
}
PROBE_MAPS: Final[Mapping[str, str]] = {
    "address_verify_transport_maps": "transport_maps",
    "address_verify_sender_dependent_default_transport_maps": "sender_dependent_default_transport_maps",
}
"""Each with the parameter that it follows unless it is set."""


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
        for label, value in site.postfix.wherever_set(parameter, RESOLVER):
            route = route_of(value)
            if site.is_hop:
                is_right = site.is_to_the_hop(route) or (parameter == "relay_transport" and site.stays_inside(route))
            else:
                is_right = site.pool_of(route.transport) == HIGH_RISK
            if not is_right or site.postfix.transport(route.transport) is None:
                yield f"{label} = {value}"


@check(
    Severity.ERROR,
    can_happen="Mail of the senders that the table names leaves by its transports, and is not decided.",
    remedy="sender_dependent_default_transport_maps = (empty), or a table that leads to listeners of the hop only. A"
    " sender that needs a pool of its own is a pin of the settings.",
)
def transport_by_sender(site: Site) -> Iterator[str]:
    """Transports by sender beat default_transport, so they lead to the hop or to no other host."""
    for label, tables in site.postfix.wherever_set(_BY_SENDER, RESOLVER):
        kinds = [spec.partition(":")[0] for spec in table_specs(tables)]
        if tables and not (kinds and EXACT.issuperset(kinds)):
            yield f"{label} = {tables}"
            continue
        for named, route in _entries(site, label, tables):
            is_search_ended = route == Route("DUNNO", "")
            if not is_search_ended and (site.reaches_outside(route.transport) or not _is_safe(site, route)):
                yield named


def _is_safe(site: Site, route: Route) -> bool:
    """Tell whether a route by sender leads to the hop, or to a transport that has nothing to do with other hosts."""
    if route.transport == HOP_CLIENT or not site.is_hop:
        return site.is_hop and site.is_to_the_hop(route)
    service = site.postfix.transport(route.transport)
    return service is not None and service.command != "smtp" and not site.is_tripwire(route.transport)


def _not_empty(site: Site, parameter: str) -> Iterator[str]:
    for label, value in site.postfix.wherever_set(parameter, RESOLVER):
        if value:
            yield f"{label} = {value}"


@check(
    Severity.ERROR,
    can_happen="Mail to that destination leaves undecided, by the default address of this machine.",
    remedy="Delete the entry if it repeats the default; else give it a route of its own through the hop"
    " (postfix-examples/hop/README.md). internal:[host] is for servers of yours only: at a private address, or for an"
    " accepted domain.",
)
def transport_map_round_the_hop(site: Site) -> Iterator[str]:
    """No entry of transport_maps names an SMTP client that is neither the hop's nor for servers of our own."""
    for named, route in mapped_routes(site):
        if site.reaches_outside(route.transport) and not is_on_this_machine(route.nexthop):
            yield named


@check(
    Severity.WARNING,
    can_happen="A program of this machine gets the mail undecided. If it sends it on (a tunnel, a proxy), it leaves by"
    " another address.",
    remedy="Nothing, if the program keeps what it gets, or hands it back to Postfix; else give the destination a route"
    " of its own through the hop (postfix-examples/hop/README.md).",
)
def transport_map_to_this_machine(site: Site) -> Iterator[str]:
    """No entry of transport_maps hands mail to a program at a loopback address that may send it on."""
    for named, route in mapped_routes(site):
        if site.reaches_outside(route.transport) and is_on_this_machine(route.nexthop):
            yield named


@check(
    Severity.ERROR,
    can_happen="Mail to that destination waits, and is returned after maximal_queue_lifetime: a tripwire holds it,"
    " there is"
    " no such transport, or the hop's client cannot reach that next-hop.",
    remedy="Delete the entry if it repeats the default; else give it a route of its own through the hop"
    " (postfix-examples/hop/README.md). internal:[host] is for servers of yours only: at a private address, or for an"
    " accepted domain.",
)
def transport_map_leads_nowhere(site: Site) -> Iterator[str]:
    """Every entry of transport_maps names a transport that delivers, or none."""
    for named, route in mapped_routes(site):
        if site.is_tripwire(route.transport):
            yield f"{named}: a tripwire"
        elif _is_missing(site, route):
            yield f"{named}: {site.postfix.why_missing(route.transport)}"
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
    for named, route in mapped_routes(site):
        if site.pool_of(route.transport):
            yield named


def mapped_routes(site: Site) -> Iterator[tuple[str, Route]]:
    """Yield the routes of transport_maps."""
    for label, tables in site.postfix.wherever_set("transport_maps", RESOLVER):
        yield from _entries(site, label, tables)


def _entries(site: Site, label: str, tables: str) -> Iterator[tuple[str, Route]]:
    for spec, entry in answers(site, tables):
        route = route_of(entry.value)
        yield f"{label}: {spec}: {entry.key} {route.transport}:{route.nexthop}", route


def answers(site: Site, tables: str) -> Iterator[tuple[str, Entry]]:
    """Yield the entries that answer, with the name of their table."""
    answered: set[str] = set()
    for spec, entry in site.postfix.answering_entries(tables):
        if spec.partition(":")[0] in EXACT:
            # The table in front has answered: `postfix install` makes one, and leaves the site's as they are.
            if entry.key in answered:
                continue
            answered.add(entry.key)
        yield spec, entry


def _is_missing(site: Site, route: Route) -> bool:
    return bool(route.transport) and "$" not in route.transport and site.postfix.transport(route.transport) is None


@check(
    Severity.ERROR,
    can_happen="Mail for mailboxes, or for a content filter, waits at a tripwire, or because there is no such"
    " transport,"
    " and is returned after maximal_queue_lifetime.",
    remedy="Name internal:[host] for mailbox servers of yours; give a scanner a transport of its own: scan unix - - y -"
    " - smtp, with -o smtp_fallback_relay=",
)
def local_route_leads_nowhere(site: Site) -> Iterator[str]:
    """Deliveries that stay inside do not use the transports smtp and relay."""
    for named, route in (*local_routes(site), *filters(site)):
        if site.is_tripwire(route.transport) or _is_missing(site, route):
            yield named


@check(
    Severity.ERROR,
    can_happen="Mail for mailboxes, or for users that are not known here, leaves undecided: by the default address of"
    " this machine, or by a pool that nothing has chosen.",
    remedy="Name internal:[host] for mailbox servers of yours only; relocated users get an alias, whose mail takes the"
    " hop.",
)
def local_route_round_the_hop(site: Site) -> Iterator[str]:
    """Deliveries to mailboxes name no pool, and no SMTP client but internal and those to this machine."""
    for named, route in local_routes(site):
        if _is_client(site, route) and not is_on_this_machine(route.nexthop):
            yield named


@check(
    Severity.ERROR,
    can_happen="All mail that comes in there leaves by that transport, to the MX of its recipients, before anything is"
    " decided.",
    remedy="A content filter is named with its next-hop, by a transport of its own: scan:[127.0.0.1]:10024. Pools are"
    " chosen by the tag only.",
)
def content_filter_round_the_decision(site: Site) -> Iterator[str]:
    """content_filter leads to a scanner: not to a pool, not to an SMTP client without a next-hop."""
    for named, route in _filters_in_front(site):
        is_open = not route.nexthop and (_is_client(site, route) or route.transport == INTERNAL)
        if site.pool_of(route.transport) or is_open:
            yield named


@check(
    Severity.WARNING,
    can_happen="If that host is no scanner that hands mail back, mail leaves undecided, by the default address of this"
    " machine.",
    remedy="Nothing, if it is a scanner of yours; else content_filter = (empty).",
)
def content_filter_on_another_host(site: Site) -> Iterator[str]:
    """content_filter leads to a scanner on this machine."""
    for named, route in _filters_in_front(site):
        is_client = site.reaches_outside(route.transport) or route.transport == INTERNAL
        if route.nexthop and is_client and not is_on_this_machine(route.nexthop):
            yield named


def _is_client(site: Site, route: Route) -> bool:
    return site.reaches_outside(route.transport) or site.pool_of(route.transport) is not None


def local_routes(site: Site) -> Iterator[tuple[str, Route]]:
    """Yield the routes to mailboxes."""
    for parameter, command in _LOCAL_ROUTES.items():
        for label, value in site.postfix.wherever_set(parameter, command):
            yield f"{label} = {value}", route_of(value)
    for parameter in LOCAL_MAPS:
        for label, tables in site.postfix.wherever_set(parameter, "local"):
            yield from _entries(site, label, tables)


def filters(site: Site) -> Iterator[tuple[str, Route]]:
    """Yield where content_filter leads."""
    for label, value in site.postfix.wherever_set("content_filter", *_SOURCES):
        yield f"{label} = {value}", route_of(value)


def _filters_in_front(site: Site) -> Iterator[tuple[str, Route]]:
    """Yield the content filters of the first pass; the express profile has none (express_with_routes)."""
    behind = {f"{one.label}: content_filter = {one.options.get('content_filter', '')}" for one in site.listeners}
    for named, route in filters(site) if site.is_hop else ():
        if named not in behind:
            yield named, route


@check(
    Severity.WARNING,
    can_happen="The smarthost is not used: mail goes to the MX of each recipient, or is blocked by a firewall.",
    remedy="default_filter_nexthop = $relayhost",
)
def smarthost_not_followed(site: Site) -> Iterator[str]:
    """A tag replaces all routing, relayhost too; only default_filter_nexthop is followed."""
    for label, relayhost in site.postfix.wherever_set("relayhost", RESOLVER):
        if relayhost and not site.postfix.value("default_filter_nexthop"):
            yield f"{label} = {relayhost}, and default_filter_nexthop is empty"


@check(
    Severity.WARNING,
    can_happen="The table has no effect any more: mail of its senders goes where all mail goes.",
    remedy="Empty it; what it did can be a route of its own (postfix-examples/hop/README.md).",
)
def smarthost_by_sender(site: Site) -> Iterator[str]:
    """A tag replaces all routing, sender_dependent_relayhost_maps too."""
    yield from _not_empty(site, "sender_dependent_relayhost_maps")


@check(
    Severity.WARNING,
    can_happen="Address probes (reject_unverified_recipient) take the hop, where every address is deliverable; or they"
    " meet a tripwire, and mail is refused for now.",
    remedy="address_verify_default_transport = address_verify_relay_transport = pool-normal",
)
def probes_are_not_asked_outside(site: Site) -> Iterator[str]:
    """Address probes ask the destination, by a pool."""
    for parameter in _PROBE_ROUTES:
        for label, value in site.postfix.wherever_set(parameter, RESOLVER):
            route = route_of(value)
            is_inside = parameter == _PROBE_ROUTES[1] and site.stays_inside(route)
            is_right = site.pool_of(route.transport) is not None or is_inside
            if not is_right and not site.reaches_outside(route.transport):
                yield f"{label} = {value}"


@check(
    Severity.ERROR,
    can_happen="Address probes (reject_unverified_recipient, reject_unverified_sender) leave by the default address of"
    " this machine.",
    remedy="Leave address_verify_* as they are in postfix-examples; where one has to differ, name a pool, or"
    " internal:[host] for a server of yours.",
)
def probe_leaves_by_no_pool(site: Site) -> Iterator[str]:
    """Address probes leave by pools only, or go to servers of our own."""
    for named, route in _probes(site):
        if site.reaches_outside(route.transport) and not is_on_this_machine(route.nexthop):
            yield named


def _probes(site: Site) -> Iterator[tuple[str, Route]]:
    """Yield the routes of probes; those that only follow the routes of mail are reported as such."""
    for parameter in (*_PROBE_ROUTES, *_LOCAL_PROBE_ROUTES):
        followed = site.postfix.value(_LOCAL_PROBE_ROUTES.get(parameter, ""))
        for label, value in site.postfix.wherever_set(parameter, RESOLVER):
            if value != followed:
                yield f"{label} = {value}", route_of(value)
    for parameter, mail in PROBE_MAPS.items():
        for label, tables in site.postfix.wherever_set(parameter, RESOLVER):
            if tables != site.postfix.value(mail):
                yield from _entries(site, label, tables)


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
    for named, action, rest in _actions(site):
        if action in forbidden and not (action == "FILTER" and _stays(site, rest)):
            yield named


def _actions(site: Site) -> Iterator[tuple[str, str, str]]:
    """Yield the actions of the site's checks and access tables: in words, the action, and its text."""
    tags = {spec for _, tables in tagged(site) for spec in table_specs(tables)}
    for parameter, tables in checked_tables(site):
        for spec, entry in site.postfix.entries(tables):
            if spec not in tags:
                action, rest = action_of(entry.value)
                yield f"{parameter}: {spec}: {entry.key} {action} {rest}".rstrip(), action, rest


def filter_actions(site: Site) -> Iterator[tuple[str, Route]]:
    """Yield where FILTER actions of the site lead."""
    return ((named, route_of(rest)) for named, action, rest in _actions(site) if action == "FILTER")


def _stays(site: Site, destination: str) -> bool:
    """Tell whether a FILTER stays on this machine: pipe(8), discard, error, or a scanner at a loopback address."""
    route = route_of(destination)
    service = site.postfix.transport(route.transport)
    if not site.is_hop or service is None or site.is_tripwire(route.transport):
        return False
    return service.command != "smtp" or is_on_this_machine(route.nexthop)


CHECK_PARAMETERS: Final = ("header_checks", "mime_header_checks", "nested_header_checks", "body_checks")
RESTRICTION_PARAMETERS: Final = tuple(
    f"smtpd_{stage}_restrictions"
    for stage in ("client", "helo", "sender", "relay", "recipient", "data", "end_of_data", "etrn")
)


def checked_tables(site: Site) -> Iterator[tuple[str, str]]:
    """Yield the tables whose answers are actions, each once, with the parameter that names it."""
    seen: set[str] = set()
    for parameter in CHECK_PARAMETERS:
        for _, value in site.postfix.wherever_set(parameter, "cleanup"):
            if value and value not in seen:
                seen.add(value)
                yield parameter, value
    for parameter in (*RESTRICTION_PARAMETERS, *restriction_classes(site)):
        for _, value in site.postfix.wherever_set(parameter, "smtpd"):
            for table in access_tables(value):
                if table not in seen:
                    seen.add(table)
                    yield parameter, table


def restriction_classes(site: Site) -> Iterator[str]:
    """Yield the restriction lists to which the site gave names (smtpd_restriction_classes)."""
    for _, value in site.postfix.wherever_set("smtpd_restriction_classes", "smtpd"):
        yield from split_list(value)


def access_tables(restrictions: str) -> Iterator[str]:
    """Yield the tables of a restriction list; without a check_..._access in front they are access tables too."""
    before = ""
    for word in split_list(restrictions):
        if before != POLICY_CHECK and is_table(word):
            yield word
        before = word


ROUTE_CHECKS: Final[tuple[Check, ...]] = (
    default_route_misses_the_decision,
    transport_by_sender,
    transport_map_round_the_hop,
    transport_map_to_this_machine,
    transport_map_leads_nowhere,
    transport_map_names_a_pool,
    local_route_leads_nowhere,
    local_route_round_the_hop,
    content_filter_round_the_decision,
    content_filter_on_another_host,
    smarthost_not_followed,
    smarthost_by_sender,
    probes_are_not_asked_outside,
    probe_leaves_by_no_pool,
    action_that_reroutes,
    routes_out_of_date,
)
