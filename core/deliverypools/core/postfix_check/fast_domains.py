"""Domains whose recipients take the hop in any case, so that it does not matter what else Postfix makes of them.

That is certain for two reasons. The milter itself takes nobody there for somebody outside (`is_certainly_outside`). Or
Postfix delivers the domain here: then `{rcpt_mailer}` is not the hop's client. A name in mydestination does not prove
that alone: `!name` in front takes it out of the list, and transport_maps come before the lists.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Final

from deliverypools.core.fast_path import HOP_CLIENT, is_certainly_outside
from deliverypools.core.postfix_check.configuration import Entry, Service
from deliverypools.core.postfix_check.fast_tables import entries_of, is_cut, why_unknown
from deliverypools.core.postfix_check.routes import EXACT, RESOLVER
from deliverypools.core.postfix_check.server import DOMAIN_PARAMETERS
from deliverypools.core.postfix_check.site import Site
from deliverypools.core.postfix_check.syntax import (
    FILE,
    answering_tables,
    file_specs,
    is_file,
    is_table,
    route_of,
    split_list,
    table_specs,
)
from deliverypools.core.settings import Settings

OF_BARE_KEYS: Final = ("myorigin", "mydestination")
"""For whose domains cleanup(8) looks up a key without a domain (canonical(5), virtual(5)).

It does so for addresses of this machine, too; but nobody at an address literal skips the hop.
"""
_OF_CLASSES: Final = ("local_transport", "virtual_transport")
"""How domains that are delivered here are delivered, unless transport_maps know better."""
_NEXTHOP: Final = "[127.0.0.1]:10027"
_ANY: Final = "*"


class Inside:
    """Domains of which it is certain that no recipient there skips the hop, for mail of one cleanup service."""

    def __init__(self, site: Site, cleanup: Service) -> None:
        self._site = site
        self._cleanup = cleanup
        self._delivered_here = frozenset(_delivered_here(site))

    def has(self, domain: str) -> bool:
        """Tell whether it is certain of a domain."""
        if not domain:
            return False
        # The milter knows every spelling of a domain. Postfix's lists have the one that somebody wrote.
        return _is_never_outside(domain, self._site.settings) or domain.lower() in self._delivered_here

    @cached_property
    def has_all_of_bare_keys(self) -> bool:
        """Whether it is certain of every domain for which a key without one is looked up."""
        return all(
            self._has_all_of(element)
            for parameter in OF_BARE_KEYS
            for element in split_list(self._site.postfix.value(parameter, self._cleanup))
        )

    def _has_all_of(self, element: str) -> bool:
        """Tell whether it is certain of all that an element of a list stands for.

        Exceptions count as if they were none: what is taken out of a list may have been in it.
        """
        name = element.lstrip("!")
        if not is_file(name) and not is_table(name):
            return self.has(name)
        specs = (*file_specs(name), *table_specs(name))
        return bool(specs) and all(
            _has_known_names(self._site, spec) and all(self.has(key) for key in _names(self._site, spec))
            for spec in specs
        )


def _is_never_outside(domain: str, settings: Settings) -> bool:
    """Tell whether the milter lets no recipient of a domain skip the hop, wherever Postfix would lead him."""
    address = f"postmaster@{domain}"
    return not is_certainly_outside(
        address, transport=HOP_CLIENT, nexthop=_NEXTHOP, resolved=address, hop=_NEXTHOP, settings=settings
    )


def _has_known_names(site: Site, spec: str) -> bool:
    """Tell whether a file, or a table whose keys are names, was read to its end."""
    table = site.postfix.tables.get(spec)
    return spec.partition(":")[0] in EXACT | {FILE} and table is not None and not table.problem


def _names(site: Site, spec: str) -> Iterator[str]:
    return (entry.key.lstrip("!") for entry in entries_of(site, spec))


# ---- delivered here


def _delivered_here(site: Site) -> Iterator[str]:
    """Yield the domains that Postfix delivers itself, whichever trivial-rewrite(8) says so; in lower case."""
    led_away = _led_to_the_hop(site)
    if _ANY in led_away:
        return
    for parameter in DOMAIN_PARAMETERS:
        main, *others = (_listed(site, value) for _, value in site.postfix.wherever_set(parameter, RESOLVER))
        yield from (name for name in main.intersection(*others) if led_away.isdisjoint(_with_parents(name)))


def _listed(site: Site, value: str) -> frozenset[str]:
    """Return the names that are certainly in a list of domains: none where it has exceptions."""
    elements = tuple(site.postfix.listed(value))
    if any(one.startswith("!") for one in elements):
        return frozenset()
    plain = (one for one in elements if not is_table(one))
    # Of a pipemap the keys of the first table are not yet answered.
    specs = (spec for name, spec in answering_tables(value) if name == spec and spec.partition(":")[0] in EXACT)
    keys = (entry.key for spec in specs for entry in entries_of(site, spec))
    return frozenset(name.lower() for name in (*plain, *keys))


def _led_to_the_hop(site: Site) -> frozenset[str]:
    """Return the domains that a route may lead to the hop, with all below them; `*` for any domain."""
    postfix = site.postfix
    classes = (value for parameter in _OF_CLASSES for _, value in postfix.wherever_set(parameter, RESOLVER))
    if any(_may_lead_to_the_hop(value) for value in classes):
        return frozenset({_ANY})
    found: set[str] = set()
    for _, value in postfix.wherever_set("transport_maps", RESOLVER):
        if any(why_unknown(site, spec) for spec in table_specs(value)):
            return frozenset({_ANY})
        entries = postfix.answering_entries(value)
        found |= {_domain_of_route(name, entry) for name, entry in entries if _may_lead_to_the_hop(entry.value)}
    return frozenset(found)


def _may_lead_to_the_hop(route: str) -> bool:
    return route_of(route).transport == HOP_CLIENT or "$" in route


def _domain_of_route(table: str, entry: Entry) -> str:
    """Return the domain that an entry of transport_maps is for: of `user@domain`, `domain`, `.domain`."""
    domain = entry.key.rpartition("@")[2].lstrip(".").lower()
    is_known = table.partition(":")[0] in EXACT and not is_cut(entry)
    return domain if is_known and domain else _ANY


def _with_parents(domain: str) -> Iterator[str]:
    labels = domain.split(".")
    return (".".join(labels[index:]) for index in range(len(labels)))
