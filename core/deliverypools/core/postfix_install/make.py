"""From a site's configuration, the settings and the example: what to change, so that mail leaves by pools."""

from __future__ import annotations

from collections import Counter
from typing import Final

from deliverypools.core.postfix_check.inside import is_delivered_here
from deliverypools.core.postfix_check.server import postfix_too_old
from deliverypools.core.postfix_check.syntax import route_of
from deliverypools.core.postfix_install.destinations import Way, is_smtp_client
from deliverypools.core.postfix_install.draft import Draft, joined
from deliverypools.core.postfix_install.endpoints import endpoint, set_endpoints
from deliverypools.core.postfix_install.examples import Example
from deliverypools.core.postfix_install.express import check_conditions
from deliverypools.core.postfix_install.fast_path import set_fast_path
from deliverypools.core.postfix_install.local_routes import (
    set_clients_that_stay,
    set_content_filters,
    set_local_routes,
)
from deliverypools.core.postfix_install.milters import set_milters
from deliverypools.core.postfix_install.next_hops import refuse_next_hop_here
from deliverypools.core.postfix_install.plan import Original, Plan
from deliverypools.core.postfix_install.pools import base_client, set_pools
from deliverypools.core.postfix_install.routes import FIRST_PORT, Routes, plan_routes, set_listeners
from deliverypools.core.postfix_install.senders import entries_by_sender, set_routes_by_sender
from deliverypools.core.postfix_install.sources import set_sources
from deliverypools.core.postfix_install.tag_rules import set_files
from deliverypools.core.postfix_install.transport_maps import (
    entries_of_transport_maps,
    set_relay_transport,
    set_transport_maps,
    way_of_relay_domains,
)
from deliverypools.core.settings import Settings

_SRS_MAPS: Final = "recipient_canonical_maps"
_EXAMPLE_SOCKETMAP: Final = "unix:delivery-pools/socketmap.sock"
_HEADERS_BYTES: Final = 10240
"""What tag, ticket and authentication results may take."""


def make_plan(original: Original, settings: Settings, examples: Example) -> Plan:
    """Return what makes the original ours. `examples` is the example of the profile that the settings name.

    The same original, settings and example always give the same plan.
    """
    draft = Draft(original, settings, examples)
    draft.blame(postfix_too_old)
    _remark_on_services(draft)
    if draft.is_hop:
        _plan_hop(draft)
    else:
        _plan_express(draft)
    _remark_on_sizes(draft)
    _check_that_master_listens(draft)
    return draft.plan()


def _plan_hop(draft: Draft) -> None:
    entries = entries_of_transport_maps(draft)
    by_sender = entries_by_sender(draft)
    relay = way_of_relay_domains(draft)
    ways = [*entries.ways, *by_sender.ways, *([relay] if isinstance(relay, Way) else [])]
    routes = plan_routes(draft, ways)
    _set_example(draft, routes)
    set_endpoints(draft)
    set_milters(draft)
    set_sources(draft)
    set_pools(draft, routes.clients)
    set_listeners(draft, routes)
    set_relay_transport(draft, routes, relay)
    set_transport_maps(draft, routes, entries)
    set_routes_by_sender(draft, routes, by_sender)
    set_local_routes(draft)
    set_content_filters(draft)
    set_fast_path(draft)
    set_clients_that_stay(draft)
    _set_srs(draft)
    _set_usual_next_hop(draft)
    set_files(draft, routes.clients[0])


def _plan_express(draft: Draft) -> None:
    check_conditions(draft)
    for parameter, value in draft.example.main.items():
        draft.set(parameter, value)
    set_endpoints(draft)
    set_milters(draft)
    set_sources(draft)
    base = base_client(draft)
    set_pools(draft, (base,))
    _set_usual_next_hop(draft)
    set_files(draft, base)


def _set_example(draft: Draft, routes: Routes) -> None:
    """Set what the example's main.cf says; what depends on the site is set again by the other parts."""
    for parameter, value in draft.example.main.items():
        if parameter != _SRS_MAPS:
            draft.set(parameter, value.replace(f"]:{FIRST_PORT}", f"]:{routes.usual.port}"))


def _set_usual_next_hop(draft: Draft) -> None:
    """Keep the next-hop of default_transport, which goes before relayhost."""
    value = draft.postfix.value("default_transport")
    relayhost = draft.postfix.value("relayhost")
    route = route_of(value)
    named = f"default_transport = {value}" if route.nexthop else f"relayhost = {relayhost}"
    refuse_next_hop_here(draft, named, route.nexthop or relayhost)
    if not is_smtp_client(draft.site, route.transport):
        draft.error(
            f"default_transport = {value}: it is no SMTP client, so mail does not leave this machine by an address.",
            "default_transport = smtp, or the name of another SMTP client of master.cf.",
        )
    elif route.nexthop:
        draft.set("default_filter_nexthop", route.nexthop)
        draft.set("address_verify_default_transport", f"pool-normal:{route.nexthop}")
        draft.note(f"default_transport = {value}: its next-hop is used by all pools (default_filter_nexthop).")
    elif relayhost:
        draft.note(f"relayhost = {relayhost} is used by all pools (default_filter_nexthop).", _SMARTHOST)
    if draft.postfix.value("default_filter_nexthop"):
        draft.warning(
            f"default_filter_nexthop = {draft.postfix.value('default_filter_nexthop')} is replaced.",
            "Name the next-hop in each FILTER and content_filter that has none.",
        )


_SMARTHOST: Final = "If that host does not pass the source address on, pools have no effect beyond it."


def _set_srs(draft: Draft) -> None:
    """Lead rewritten senders back, if senders are rewritten."""
    domain = draft.settings.forwarding.srs_domain
    if domain is None:
        return
    socket = endpoint(draft, "socketmap.socket", draft.settings.socketmap.socket)
    ours = draft.example.main[_SRS_MAPS].replace(_EXAMPLE_SOCKETMAP, socket)
    draft.set(_SRS_MAPS, joined(draft.raw(_SRS_MAPS), ours))
    if not is_delivered_here(draft.site, domain):
        draft.set(
            "mydestination",
            joined(draft.raw("mydestination"), domain),
            "Mail to rewritten senders (SRS) is accepted, and led back.",
        )


def _remark_on_services(draft: Draft) -> None:
    counts = Counter(one.label for one in draft.postfix.services)
    for label, count in counts.items():
        if count > 1:
            draft.warning(
                f"master.cf: {label} stands there {count} times; Postfix uses the last, and so does this plan.",
                "Delete the others: where the service is changed, they go.",
            )


def _check_that_master_listens(draft: Draft) -> None:
    disabled = [key for key in draft.services if draft.postfix.is_disabled(*key)]
    if disabled:
        names = ", ".join(f"!{'/'.join(key)}" for key in disabled)
        value = draft.postfix.value("master_service_disable")
        draft.error(
            f"master_service_disable = {value}: Postfix would not listen for what mail to other hosts has to take.",
            f"master_service_disable = {names}, {value}",
        )


def _remark_on_sizes(draft: Draft) -> None:
    limit = draft.postfix.value("message_size_limit")
    if limit.isdecimal() and int(limit) > 0:
        draft.note(
            f"message_size_limit = {limit}: what milters add counts, so the largest messages that clients may send are"
            " about 10 kB smaller now.",
            f"message_size_limit = {int(limit) + _HEADERS_BYTES}",
        )
