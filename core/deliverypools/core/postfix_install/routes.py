"""Routes of their own: the site's per-destination and per-sender routes go on, through the hop and by the pools."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from deliverypools.core.audit.transports import LISTENER_PORTS
from deliverypools.core.pool_transports import all_transports
from deliverypools.core.postfix_check.site import HIGH_RISK, HOP_CLIENT
from deliverypools.core.postfix_install.destinations import (
    USUAL,
    Inside,
    Way,
)
from deliverypools.core.postfix_install.draft import DIRECTORY, Draft
from deliverypools.core.postfix_install.pools import Client, base_client, client_of_site, sends_otherwise
from deliverypools.core.postfix_install.tag_rules import GENERATED, TAG_CHECKS, tag_checks

MOST_ROUTES: Final = 50
FIRST_PORT: Final = 10027
"""Of the listener of the hop; those of routes follow."""
_LAST_PORT: Final = 65535
_PORTS: Final = re.compile(r"(?<![0-9])([0-9]{5})(?![0-9])")
_LISTENER: Final = (f"127.0.0.1:{FIRST_PORT}", "inet")
_SWITCHES_OFF: Final = "master_service_disable"
"""May name our own listeners, to except them."""
_MOST_OF_A_POOL: Final = 99
"""Transports; the names of a variant's begin with its number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HopRoute:
    """One listener behind the first half of the hop, and where what it takes in leaves to."""

    number: int
    """1 is the usual one."""
    port: int
    way: Way
    client: Client

    @property
    def value(self) -> str:
        """What a table of transports says to lead mail there."""
        return f"{HOP_CLIENT}:[127.0.0.1]:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Routes:
    """All listeners, and the clients of the site that they stand for."""

    clients: tuple[Client, ...]
    """The usual one first."""
    by_way: Mapping[Way, HopRoute]

    @property
    def usual(self) -> HopRoute:
        """The one that all other mail takes."""
        return self.by_way[USUAL]

    def to(self, way: Way) -> HopRoute:
        """Return the one for a way; the usual one for a route too many, which is an error already."""
        return self.by_way.get(way, self.usual)


def plan_routes(draft: Draft, ways: Iterable[Way]) -> Routes:
    """Return the listeners for these ways, in an order that does not depend on that of the tables."""
    wanted = sorted({way for way in ways if way != USUAL})
    if len(wanted) > MOST_ROUTES:
        draft.error(
            f"{len(wanted)} different next-hops and transports need a route of their own; {MOST_ROUTES} is the most.",
            "Servers of your own need no route: put their domains into accepted_domains, or name the servers by their"
            " private addresses; then internal: leads there. Delete the other entries of transport_maps and of the maps"
            " by sender that are not needed any more.",
        )
        wanted = wanted[:MOST_ROUTES]
    names = sorted({way.client for way in wanted if way.client})
    base = base_client(draft)
    clients = {"": base} | {name: client_of_site(draft, name, index) for index, name in enumerate(names, 1)}
    if names and any(one.number > _MOST_OF_A_POOL for one in all_transports(draft.settings.pools)):
        draft.error(
            f"A pool has more than {_MOST_OF_A_POOL} addresses, and {', '.join(names)} need transports of their own.",
            f"At most {_MOST_OF_A_POOL} addresses in each pool.",
        )
    ports = _free_ports(draft)
    found = {
        way: HopRoute(number=number, port=next(ports), way=way, client=clients[way.client])
        for number, way in enumerate([USUAL, *wanted], 1)
    }
    _remark_on_ports(draft, [one.port for one in found.values()])
    return Routes(clients=tuple(clients.values()), by_way=found)


def _free_ports(draft: Draft) -> Iterator[int]:
    """Yield ports that nothing in the site's configuration names, and no other program has."""
    written = draft.original.written
    parameters = (value for name, value in written.parameters.items() if name != _SWITCHES_OFF)
    texts = (*parameters, *written.services.values())
    taken = {int(found) for text in texts for found in _PORTS.findall(text)} | draft.original.busy_ports
    return (port for port in range(FIRST_PORT, _LAST_PORT) if port not in taken)


def _remark_on_ports(draft: Draft, ports: Sequence[int]) -> None:
    if ports[0] != FIRST_PORT:
        draft.note(f"The hop's listener is 127.0.0.1:{ports[0]}: {FIRST_PORT} is in use.")
    if unknown := [port for port in ports if port not in LISTENER_PORTS]:
        options = " ".join(f"--listener {port}" for port in unknown)
        draft.warning(
            f"Listeners at ports that `delivery-pools audit` does not know: {', '.join(map(str, unknown))}.",
            f"Run it with {options}.",
        )


def normalised(draft: Draft, way: Way) -> Way:
    """Return a way without the name of a client that sends as the usual one does."""
    return way if sends_otherwise(draft, way.client) else Way("", way.next_hop)


# ---- the listeners


def set_listeners(draft: Draft, routes: Routes) -> None:
    """Add the second half of the hop: for each route an smtpd, its cleanup service and its rules for the tag."""
    for route in routes.by_way.values():
        cleanup = "cleanup-egress" if route.number == 1 else f"cleanup-egress-{route.number}"
        table = TAG_CHECKS if route.number == 1 else f"{TAG_CHECKS}_{route.number}"
        pool = next(one for one in all_transports(draft.settings.pools) if one.pool == HIGH_RISK)
        listener = (
            draft.template(*_LISTENER)
            .named(f"127.0.0.1:{route.port}")
            .with_options(
                {
                    "content_filter": f"{route.client.transport(pool)}:{route.way.next_hop}",
                    "cleanup_service_name": cleanup,
                }
            )
        )
        reason = f"The second half of the hop{_to(route)}."
        draft.add(listener.with_chroot(_letter(draft, "smtpd", listener.chroot)), reason)
        template = draft.template("cleanup-egress").named(cleanup)
        options = {"milter_header_checks": f"regexp:{DIRECTORY}/{table}", "hopcount_limit": _hopcount_limit(draft)}
        line = template.with_options(options)
        draft.add(line.with_chroot(_letter(draft, "cleanup", line.chroot)), reason)
        if route.number > 1:
            draft.files[table] = tag_checks(draft, route.client, route.way.next_hop)
            draft.note(f"A route of its own{_to(route)}: listener 127.0.0.1:{route.port}, {cleanup}, {table}.")
    port = str(routes.usual.port)
    client = draft.line(HOP_CLIENT)
    draft.add(client.with_options({"smtp_tcp_port": port}), "The first half of the hop.")


def _to(route: HopRoute) -> str:
    if route.number == 1:
        return ""
    by = f", as {route.way.client} sends" if route.way.client else ""
    return f", for mail to {route.way.next_hop or 'the usual next-hop'}{by}"


def _letter(draft: Draft, command: str, default: str) -> str:
    """Return whether the site's own services of a program are chrooted."""
    lines = (line for line in draft.lines.values() if line.command == command)
    return next((line.chroot for line in lines), default)


def _hopcount_limit(draft: Draft) -> str:
    limit = draft.postfix.value("hopcount_limit")
    return str(int(limit) + 1) if limit.isdecimal() else draft.template("cleanup-egress").options["hopcount_limit"]


# ---- tables


def value_of(routes: Routes, one: Way | Inside) -> str:
    """Return what a table of transports says from now on."""
    return one.value if isinstance(one, Inside) else routes.to(one).value


def probe_value_of(draft: Draft, routes: Routes, one: Way | Inside) -> str:
    """Return the same for address probes, which must ask the destination itself."""
    if isinstance(one, Inside):
        return one.value
    pool = next(one for one in all_transports(draft.settings.pools) if one.pool == "normal")
    return f"{routes.to(one).client.transport(pool)}:{one.next_hop}"


def generated_table(parameter: str, values: Mapping[str, str]) -> str:
    """Return a texthash table with a head that says where it comes from."""
    lines = "".join(f"{key}\t{value}\n" for key, value in values.items())
    return (
        f"{GENERATED}# texthash table, made from {parameter} of this site. After a change there, run it again.\n{lines}"
    )
