"""The site's routes by sender go on through the hop: FILTER would replace them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from deliverypools.core.postfix_check.routes import EXACT
from deliverypools.core.postfix_check.syntax import Route, route_of, split_list
from deliverypools.core.postfix_install.destinations import (
    PATTERNS,
    Way,
    is_smtp_client,
    one_word,
)
from deliverypools.core.postfix_install.draft import DIRECTORY, Draft
from deliverypools.core.postfix_install.next_hops import refuse_next_hop_here
from deliverypools.core.postfix_install.routes import Routes, generated_table, normalised, value_of

_BY_SENDER: Final = ("sender_dependent_default_transport_maps", "sender_dependent_relayhost_maps")


@dataclass(frozen=True, slots=True)
class BySender:
    """Where mail of some senders leaves: a way, or a value that stays as it is (`error:...`, `DUNNO`)."""

    found: Mapping[str, Way | str]

    @property
    def ways(self) -> Iterator[Way]:
        """Where they lead through the hop."""
        return (one for one in self.found.values() if isinstance(one, Way))


def entries_by_sender(draft: Draft) -> BySender:
    """Return what the maps by sender say, both together: the transport of one, the next-hop of the other."""
    transports, relayhosts = (_listed_by_sender(draft, parameter) for parameter in _BY_SENDER)
    found: dict[str, Way | str] = {}
    for key in sorted({*transports, *relayhosts}):
        transport = _looked_up(transports, key)
        relayhost = _looked_up(relayhosts, key)
        route = Route("", "") if transport in ("", _NOTHING) else route_of(transport)
        if route.transport and not is_smtp_client(draft.site, route.transport):
            found[key] = transport
            continue
        next_hop = route.nexthop or ("" if relayhost == _NOTHING else relayhost)
        refuse_next_hop_here(draft, f"{_BY_SENDER[0 if route.nexthop else 1]}: {key} {next_hop}", next_hop)
        found[key] = normalised(draft, Way(route.transport, one_word(next_hop)))
    return BySender(found)


_NOTHING: Final = "DUNNO"
"""The answer that ends the search in a map by sender."""


def _looked_up(table: Mapping[str, str], sender: str) -> str:
    """Return what a map by sender answers: the whole address goes before its domain."""
    domain = f"@{sender.rpartition('@')[2]}"
    return table.get(sender) or (table.get(domain, "") if "@" in sender else "")


def _listed_by_sender(draft: Draft, parameter: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for element in split_list(draft.postfix.value(parameter)):
        kind = element.removeprefix("proxy:").partition(":")[0]
        if kind not in EXACT:
            say = draft.error if kind in PATTERNS else draft.warning
            say(
                f"{parameter}: {kind} table: a tag replaces all routing, so what it answers would have no effect.",
                "Write its senders into a hash or texthash table, one a line: they get routes of their own. Else empty"
                " it.",
            )
            continue
        for _, entry in draft.postfix.entries(element):
            found.setdefault(entry.key.lower(), entry.value)
    return found


def set_routes_by_sender(draft: Draft, routes: Routes, by_sender: BySender) -> None:
    """Write one table for both maps by sender, and empty the site's."""
    sender_maps, relayhost_maps = _BY_SENDER
    if not any(draft.postfix.value(parameter) for parameter in _BY_SENDER):
        return
    draft.set(relayhost_maps, "", "A tag replaces all routing; delivery-pools/sender_routes has what it said.")
    if not by_sender.found:
        return
    values = {key: one if isinstance(one, str) else value_of(routes, one) for key, one in by_sender.found.items()}
    draft.files["sender_routes"] = generated_table(
        " and ".join(_BY_SENDER), {key: one for key, one in values.items() if one}
    )
    draft.set(
        sender_maps,
        f"texthash:{DIRECTORY}/sender_routes",
        "Senders with a route of their own keep it, through the hop.",
    )
    draft.set(
        "address_verify_sender_dependent_default_transport_maps",
        "",
        "Address probes ask the destination, by a pool.",
    )
    draft.note(f"{len(by_sender.found)} entries of {' and '.join(_BY_SENDER)}: now delivery-pools/sender_routes.")
    if draft.postfix.value("relay_domains") and draft.postfix.value(relayhost_maps):
        draft.warning(
            f"{relayhost_maps} no longer applies to mail for relay_domains.", "Nothing, if no sender needs it."
        )
