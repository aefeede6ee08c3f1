"""Deliveries that stay inside, and the ways to content filters: none may use the names that become tripwires."""

from __future__ import annotations

from typing import Final

from deliverypools.core.postfix_check.configuration import is_on_this_machine
from deliverypools.core.postfix_check.internal import FALLBACK, clients_beside_pools
from deliverypools.core.postfix_check.routes import EXACT, filter_actions, filters, local_routes, mapped_routes
from deliverypools.core.postfix_check.site import INTERNAL, TRIPWIRES
from deliverypools.core.postfix_check.syntax import Route, route_of
from deliverypools.core.postfix_install.destinations import is_smtp_client
from deliverypools.core.postfix_install.draft import CHANGE_BACK, DIRECTORY, Draft, joined
from deliverypools.core.postfix_install.pools import refuse_what_internal_lacks
from deliverypools.core.postfix_install.routes import generated_table

_TRANSPORTS: Final = ("local_transport", "virtual_transport", "mailbox_transport", "fallback_transport")
_MAPS: Final = {"mailbox_transport_maps": "mailbox_routes", "fallback_transport_maps": "fallback_routes"}
"""Each with the name of the table that goes in front."""
_SOURCES: Final = ("smtpd", "pickup", "qmqpd")
_SCAN: Final = "scan"


def set_local_routes(draft: Draft) -> None:
    """Lead deliveries to mailbox servers by `internal`, where they used an SMTP client."""
    for parameter in _TRANSPORTS:
        route = route_of(draft.postfix.value(parameter))
        if _goes_by_smtp(draft, route):
            refuse_what_internal_lacks(draft, f"{parameter} = {draft.postfix.value(parameter)}", route.transport)
            draft.set(parameter, _inside(route), f"{route.transport} is a tripwire; servers of your own need no pool.")
            draft.note(f"{parameter} = {_inside(route)}, in place of {draft.postfix.value(parameter)}")
    for parameter, file in _MAPS.items():
        values: dict[str, str] = {}
        seen: set[str] = set()
        for spec, entry in draft.postfix.answering_entries(draft.postfix.value(parameter)):
            route = route_of(entry.value)
            is_exact = spec.partition(":")[0] in EXACT
            if _goes_by_smtp(draft, route) and not is_exact:
                draft.error(
                    f"{parameter}: {spec}: {entry.key} {entry.value}",
                    f"Write {_inside(route)} in that entry. {CHANGE_BACK}",
                )
            elif is_exact and entry.key not in seen and _goes_by_smtp(draft, route):
                refuse_what_internal_lacks(draft, f"{parameter}: {spec}: {entry.key} {entry.value}", route.transport)
                values[entry.key] = _inside(route)
            seen.add(entry.key)
        if values:
            draft.files[file] = generated_table(parameter, dict(sorted(values.items())))
            draft.set(
                parameter,
                joined(f"texthash:{DIRECTORY}/{file}", draft.raw(parameter)),
                "Mailbox servers are reached by internal; the site's own table is not changed.",
            )


def _goes_by_smtp(draft: Draft, route: Route) -> bool:
    if not is_smtp_client(draft.site, route.transport):
        return False
    return route.transport in TRIPWIRES or not is_on_this_machine(route.nexthop)


def _inside(route: Route) -> str:
    return f"{INTERNAL}:{route.nexthop}"


# ---- content filters


def set_content_filters(draft: Draft) -> None:
    """Give a scanner that is reached by smtp or relay a transport of its own."""
    if scanned := _scanned(draft, draft.postfix.value("content_filter")):
        draft.set("content_filter", scanned, "smtp and relay are tripwires; the scanner has a transport of its own.")
    for service in draft.postfix.running(*_SOURCES):
        value = service.options.get("content_filter", "")
        if scanned := _scanned(draft, value):
            line = draft.line_of(service).with_options({"content_filter": scanned})
            draft.add(line, "The scanner has a transport of its own.")
    if draft.site.content_filters and not any(map(draft.site.is_return_of_a_filter, draft.doors())):
        draft.warning(
            f"content_filter = {draft.site.content_filters[0]}: no service was found by which it hands mail back.",
            "If it is an smtpd of this machine, name it with its loopback address and give it -o content_filter= and -o"
            " milter_macro_daemon_name=REINJECT. A filter that calls sendmail(1) keeps the header"
            " X-Delivery-Pool-Ticket.",
        )


def set_clients_that_stay(draft: Draft) -> None:
    """Take the fallback relay from scanners, and from clients that reach programs of this machine."""
    site = draft.site
    routes = (*mapped_routes(site), *local_routes(site), *filter_actions(site))
    staying = [(named, route) for named, route in routes if is_on_this_machine(route.nexthop)]
    for service in clients_beside_pools(site, (*filters(site), *staying)):
        if draft.postfix.value(FALLBACK, service):
            line = draft.line_of(service).with_options({FALLBACK: ""})
            draft.add(line, "A fallback relay would take mail away undecided.")
            draft.note(f"{service.label}: -o {FALLBACK}=: only what leaves by a pool has a fallback relay.")


def _scanned(draft: Draft, value: str) -> str:
    """Return a content filter by the transport `scan`, which is added; "" where the site's own can stay."""
    route = route_of(value)
    if route.transport not in TRIPWIRES or not route.nexthop or not is_smtp_client(draft.site, route.transport):
        return ""
    number = 1
    while (name := _SCAN if number == 1 else f"{_SCAN}-{number}", "unix") in draft.lines:
        number += 1
    line = draft.lines[route.transport, "unix"].named(name)
    if draft.postfix.value(FALLBACK, draft.postfix.transport(route.transport)):
        line = line.with_options({FALLBACK: ""})
    draft.add(line, "The way to the scanner, as it was, without a fallback relay.")
    draft.note(f"content_filter = {name}:{route.nexthop}, in place of {value}")
    return f"{name}:{route.nexthop}"
