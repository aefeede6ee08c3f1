"""Services of ours that the site's own tables lead to: an entry was changed, as the plan's remedy said.

Without the service, mail to that destination would wait, and be returned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from deliverypools.core.postfix_check.configuration import PostfixConfiguration
from deliverypools.core.postfix_check.site import HOP_CLIENT, INTERNAL
from deliverypools.core.postfix_check.syntax import action_of, route_of, table_specs
from deliverypools.core.postfix_install.manifest import Manifest
from deliverypools.core.postfix_install.plan import ServiceKey, Written
from deliverypools.core.postfix_install.written import Changes

_ROUTES: Final = (
    "default_transport",
    "relay_transport",
    "local_transport",
    "virtual_transport",
    "mailbox_transport",
    "fallback_transport",
    "content_filter",
)
_ROUTE_TABLES: Final = (
    "transport_maps",
    "sender_dependent_default_transport_maps",
    "address_verify_transport_maps",
    "mailbox_transport_maps",
    "fallback_transport_maps",
)
_ACTION_TABLES: Final = (
    "header_checks",
    "mime_header_checks",
    "nested_header_checks",
    "body_checks",
    "milter_header_checks",
)
"""Whose answers may say `FILTER transport:nexthop`."""


@dataclass(frozen=True, slots=True)
class StillNamed:
    """One place where the site names a service of ours."""

    service: str
    where: str


def our_transports(manifest: Manifest) -> frozenset[str]:
    """Return the transports that we have added and that a table may name."""
    added = (name for (name, kind), was in manifest.services.items() if kind == "unix" and was.old is None)
    return frozenset(name for name in added if name in (INTERNAL, HOP_CLIENT) or name.startswith("pool-"))


def tables_with_routes(postfix: PostfixConfiguration) -> set[str]:
    """Return the tables, `type:name`, whose entries name transports."""
    values = (postfix.value(parameter) for parameter in (*_ROUTE_TABLES, *_ACTION_TABLES))
    return {spec for value in values for spec in table_specs(value)}


def still_named(postfix: PostfixConfiguration, transports: frozenset[str]) -> Iterator[StillNamed]:
    """Yield where the site names these transports, as far as its tables can be listed."""
    for parameter in _ROUTES:
        value = postfix.value(parameter)
        if (name := route_of(value).transport) in transports:
            yield StillNamed(name, f"{parameter} = {value}")
    for parameter in _ROUTE_TABLES:
        for spec, entry in postfix.answering_entries(postfix.value(parameter)):
            if (name := route_of(entry.value).transport) in transports:
                yield StillNamed(name, f"{parameter}: {spec}: {entry.key} {entry.value}")
    for parameter in _ACTION_TABLES:
        for spec, entry in postfix.answering_entries(postfix.value(parameter)):
            action, rest = action_of(entry.value)
            if action == "FILTER" and (name := route_of(rest).transport) in transports:
                yield StillNamed(name, f"{parameter}: {spec}: {entry.key} {entry.value}")


def kept_for(names: frozenset[str], original: Written, ours: Written) -> Changes:
    """Return what the original needs so that these transports go on."""
    services: dict[ServiceKey, str | None] = {
        key: line for key, line in ours.services.items() if key[0] in names and key not in original.services
    }
    prefixes = ("delivery_pools_", *(f"{name}_" for name in sorted(names)))
    new: Mapping[str, str] = {name: value for name, value in ours.parameters.items() if name not in original.parameters}
    parameters: dict[str, str | None] = {
        name: value
        for name, value in new.items()
        if name.startswith(prefixes) and name != "internal_mail_filter_classes"
    }
    return Changes(parameters, services)
