"""Where the site's own routes lead: to servers of its own, by the usual way, or by a route through the hop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from deliverypools.core.postfix_check.configuration import is_on_this_machine
from deliverypools.core.postfix_check.inside import EVERYBODY, domain_of_key, is_delivered_here, is_inside, is_listed
from deliverypools.core.postfix_check.site import INTERNAL, TRIPWIRES, Site
from deliverypools.core.postfix_check.syntax import Route, split_list

PATTERNS: Final = frozenset({"regexp", "pcre", "cidr", "static", "randmap", "pipemap"})
"""Tables that can be listed, and whose keys are not those that are looked up."""


@dataclass(frozen=True, slots=True, order=True)
class Way:
    """How mail to a destination leaves: by which of the site's SMTP clients, and to which next-hop."""

    client: str
    """The name of its transport; "" for the one that carries the site's usual mail."""
    next_hop: str
    """"" for the usual one: relayhost, or the MX of the recipient's domain."""


USUAL: Final = Way("", "")


@dataclass(frozen=True, slots=True)
class Inside:
    """A server of the site's own, which needs no pool."""

    next_hop: str
    transport: str = INTERNAL
    """Another one is LMTP: it goes on as it is."""

    @property
    def value(self) -> str:
        """The same in the words of transport(5)."""
        return f"{self.transport}:{self.next_hop}"


@dataclass(frozen=True, slots=True)
class Inexpressible:
    """A destination that no route can have; the text says why."""

    reason: str


Destination = Way | Inside | Inexpressible


def destination_of(site: Site, key: str, route: Route) -> Destination | None:
    """Return where an entry of transport_maps leads from now on; None if it stays as it is."""
    domain = domain_of_key(key)
    if _stays(site, domain, route):
        return None
    client = route.transport or _transport_of_class(site, domain)
    if runs(site, client, "lmtp"):
        return Inside(route.nexthop, client)
    if key != EVERYBODY and is_inside(site.settings, domain, route.nexthop):
        return Inside(route.nexthop)
    if route.nexthop or not route.transport or not usual_next_hop(site):
        return Way(client, one_word(route.nexthop))
    if not domain or domain.startswith("."):
        return Inexpressible("it goes round relayhost to each recipient's own domain")
    return Way(client, domain)


def _stays(site: Site, domain: str, route: Route) -> bool:
    """Tell whether an entry has nothing to do with other hosts, or says nothing."""
    if not route.transport:
        return not route.nexthop or is_delivered_here(site, domain)
    if not is_smtp_client(site, route.transport):
        return True
    # A program of this machine that is reached by a client of its own (a scanner, a list manager).
    return route.transport not in TRIPWIRES and is_on_this_machine(route.nexthop)


def usual_next_hop(site: Site) -> str:
    """Return where all mail to other hosts goes; "" for the MX of each domain."""
    return site.postfix.value("default_transport").partition(":")[2].strip() or site.postfix.value("relayhost")


def one_word(next_hop: str) -> str:
    """Return a next-hop as one word: several are separated by commas alone."""
    return ",".join("".join(one.split()) for one in split_list(next_hop))


def _transport_of_class(site: Site, domain: str) -> str:
    """Return the transport that an entry without one gets: that of the domain's class."""
    return site.postfix.value("relay_transport").partition(":")[0] if is_listed(site, "relay_domains", domain) else ""


def is_smtp_client(site: Site, transport: str) -> bool:
    """Tell whether a transport of the site runs smtp(8)."""
    return runs(site, transport, "smtp")


def runs(site: Site, transport: str, command: str) -> bool:
    """Tell whether a transport of the site runs a program."""
    service = site.postfix.transport(transport)
    return service is not None and service.command == command
