"""The site's routes by destination, transport_maps and relay_transport, go on through the hop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from deliverypools.core.postfix_check.inside import is_inside, is_private
from deliverypools.core.postfix_check.routes import EXACT
from deliverypools.core.postfix_check.site import INTERNAL, TRIPWIRES
from deliverypools.core.postfix_check.syntax import answering_tables, route_of
from deliverypools.core.postfix_install.destinations import (
    PATTERNS,
    USUAL,
    Inexpressible,
    Inside,
    Way,
    destination_of,
    is_smtp_client,
    one_word,
    runs,
)
from deliverypools.core.postfix_install.draft import CHANGE_BACK, DIRECTORY, Draft, joined
from deliverypools.core.postfix_install.pools import refuse_what_internal_lacks
from deliverypools.core.postfix_install.routes import Routes, generated_table, normalised, probe_value_of, value_of


@dataclass(frozen=True, slots=True)
class Entries:
    """What entries of the site's tables become: by key, in the order of the keys."""

    found: Mapping[str, Way | Inside]

    @property
    def ways(self) -> Iterator[Way]:
        """Where they lead through the hop."""
        return (one for one in self.found.values() if isinstance(one, Way))


def entries_of_transport_maps(draft: Draft) -> Entries:
    """Return the entries that would lead mail round the hop, or to a next-hop that the hop does not know."""
    found: dict[str, Way | Inside] = {}
    seen: set[str] = set()
    raw_tables = draft.postfix.value("transport_maps")
    for spec, entry in draft.postfix.answering_entries(raw_tables):
        kind = spec.partition(":")[0]
        key = entry.key.lower()
        if kind in EXACT and key in seen:
            continue
        destination = destination_of(draft.site, key if kind in EXACT else "", route_of(entry.value))
        if kind in EXACT:
            seen.add(key)
        if destination is None:
            continue
        named = f"transport_maps: {spec}: {entry.key} {entry.value}"
        if isinstance(destination, Inside) and destination.transport == INTERNAL:
            refuse_what_internal_lacks(draft, named, route_of(entry.value).transport)
        if isinstance(destination, Inexpressible):
            draft.error(f"{named}: {destination.reason}, which no route can.", _name_domains(entry.value))
        elif kind in PATTERNS:
            _remark_on_pattern(draft, named, destination)
        elif any(map(str.isspace, key)) or key.startswith("#"):
            draft.error(f"{named}: its key cannot be written in a texthash table.", "Delete the entry.")
        else:
            found[key] = normalised(draft, destination) if isinstance(destination, Way) else destination
    _remark_on_servers(draft)
    return Entries(dict(sorted(found.items())))


def _name_domains(value: str) -> str:
    return f"One entry for each domain, with {value} and the domain as next-hop; or delete it."


def _remark_on_pattern(draft: Draft, named: str, destination: Way | Inside) -> None:
    if isinstance(destination, Inside):
        draft.error(f"{named}: it goes round the hop.", f"Write {destination.value} in that entry. {CHANGE_BACK}")
    elif normalised(draft, destination) == USUAL:
        draft.error(f"{named}: it goes round the hop.", "Delete the entry: it repeats the default.")
    else:
        draft.error(
            f"{named}: it goes round the hop, and a table of patterns cannot be overridden.",
            "Write its domains into a texthash or hash table of transport_maps, one a line: they get a route of their"
            " own through the hop then. A server of your own: internal:[host]."
            f" {CHANGE_BACK}",
        )


def _remark_on_servers(draft: Draft) -> None:
    for _, spec in answering_tables(draft.postfix.value("transport_maps")):
        kind = spec.partition(":")[0]
        if kind not in EXACT | PATTERNS:
            draft.warning(
                f"transport_maps: {kind} table: what it answers cannot be listed.",
                "It must answer no smtp: or relay: and no next-hop alone: internal:[host] for servers of your own,"
                " nothing for all others. Mail to a partner's gateway needs an entry in a hash or texthash table.",
            )


def set_transport_maps(draft: Draft, routes: Routes, entries: Entries) -> None:
    """Put a generated table in front of the site's, for the entries that change, and one for probes."""
    values = {key: value_of(routes, one) for key, one in entries.found.items()}
    if not values:
        return
    probes = {key: probe_value_of(draft, routes, one) for key, one in entries.found.items()}
    draft.files["routes"] = generated_table("transport_maps", values)
    draft.files["probe_routes"] = generated_table("transport_maps, for address probes", probes)
    own = draft.raw("transport_maps")
    draft.set(
        "transport_maps",
        joined(f"texthash:{DIRECTORY}/routes", own),
        "Entries that went round the hop take it now; the site's own table is not changed.",
    )
    probe_maps = draft.raw("address_verify_transport_maps") or own
    draft.set(
        "address_verify_transport_maps",
        joined(f"texthash:{DIRECTORY}/probe_routes", draft.inlined(probe_maps, ("transport_maps",))),
        "Address probes ask the destination; through the hop every address would be deliverable.",
    )
    for key, value in values.items():
        draft.note(f"transport_maps: {key} {value}, in place of your entry (delivery-pools/routes).")


def way_of_relay_domains(draft: Draft) -> Way | Inside:
    """Return how mail to relay_domains leaves; LMTP to servers of the site's own stays as it is.

    Another relay_transport that is no SMTP client is an error: the hop would take its mail.
    """
    route = route_of(draft.postfix.value("relay_transport"))
    domains = _relay_domains(draft)
    names = [name for name in domains if "." in name and ":" not in name and not name.startswith("/")]
    is_ours = bool(names) and all(is_inside(draft.settings, name, route.nexthop) for name in names)
    is_led_inside = bool(route.nexthop) and (is_private(route.nexthop) or is_ours)
    if is_led_inside and route.transport not in TRIPWIRES and runs(draft.site, route.transport, "lmtp"):
        return Inside(route.nexthop, route.transport)
    if not domains and draft.postfix.transport(route.transport) is None:
        return USUAL
    if not is_smtp_client(draft.site, route.transport):
        draft.error(
            f"relay_transport = {draft.postfix.value('relay_transport')} is no SMTP client.",
            "Name it in transport_maps for each of relay_domains, and set relay_transport = relay.",
        )
        return USUAL
    if is_led_inside:
        named = f"relay_transport = {draft.postfix.value('relay_transport')}"
        refuse_what_internal_lacks(draft, named, route.transport)
        return Inside(route.nexthop)
    if not route.nexthop and not domains:
        return USUAL
    return normalised(draft, Way(route.transport, one_word(route.nexthop or _own_next_hop(draft))))


def _relay_domains(draft: Draft) -> list[str]:
    value = draft.postfix.value("relay_domains")
    return [*draft.postfix.listed(value), *(entry.key for _, entry in draft.postfix.entries(value))]


def _own_next_hop(draft: Draft) -> str:
    """Return the next-hop of relay_domains where the usual one is that of default_transport, which is not theirs."""
    usual = route_of(draft.postfix.value("default_transport")).nexthop
    relayhost = draft.postfix.value("relayhost")
    if usual and not relayhost:
        draft.warning(
            f"default_transport names {usual}, relay_transport no next-hop: mail to relay_domains goes to {usual} too.",
            "relay_transport = relay:[host], or an entry in transport_maps for each of relay_domains.",
        )
    return relayhost if usual else ""


def set_relay_transport(draft: Draft, routes: Routes, one: Way | Inside) -> None:
    """Lead mail to relay_domains through the hop, or to the server behind this one."""
    value = value_of(routes, one)
    draft.set("relay_transport", value)
    if isinstance(one, Inside):
        draft.set("address_verify_relay_transport", value)
        if one.transport == INTERNAL:
            draft.note(f"relay_transport = {value}, in place of {draft.postfix.value('relay_transport')}")
    elif one != USUAL:
        draft.set("address_verify_relay_transport", probe_value_of(draft, routes, one))
