"""Where a transport leads, told from the name that a delivery agent logs and from the server that it reached."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from deliverypools.core.addresses import domain_of
from deliverypools.core.audit.lines import Delivery

POOL_PREFIX: Final = "pool-"
HOP_CLIENT: Final = "egress"
INTERNAL: Final = "internal"
FIRST_LISTENER_PORT: Final = 10027
LISTENER_PORTS: Final = frozenset(range(FIRST_LISTENER_PORT, FIRST_LISTENER_PORT + 51))
"""Of the hop, and of the routes of their own (`postfix install` makes 50 at most)."""
TRIPWIRES: Final = ("smtp", "relay")

_SERVER: Final = re.compile(r"(?P<name>[^\[\]]{0,255})\[(?P<address>[0-9A-Fa-f.:]{2,45})\](?::(?P<port>\d{1,5}))?")
_NUMBERED: Final = re.compile(r"(?P<pool>.+)-\d{1,4}")


class Way(Enum):
    """Where a transport leads."""

    POOL = auto()
    """To other hosts, from the addresses of a pool."""
    HOP = auto()
    """To the listener, where the decision is made."""
    STAYS = auto()
    """To this machine, or to a server of ours."""
    NOWHERE = auto()
    """Refused or thrown away, or no server was reached."""
    TRIPWIRE = auto()
    """To the program that stands in the place of `smtp` and `relay`, and delivers nothing."""
    OUTSIDE = auto()
    """To another host, from an address that no pool has chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the log does not say about the server."""

    pools: frozenset[str]
    is_express: bool = False
    """Profile `express`: a requeued message keeps the decision about its old queue file."""
    shadow: bool = False
    """Everything leaves by normal."""
    inside: frozenset[str] = frozenset((INTERNAL,))
    """Transports that lead to servers of ours."""
    is_ours: Callable[[str, str], bool] = lambda _domain, _server: False
    """Whether mail to a domain belongs on a server, `[address]` or a host name, of ours (`postfix_check.inside`)."""
    listener_ports: frozenset[int] = LISTENER_PORTS


@dataclass(frozen=True, slots=True)
class Server:
    """What a delivery agent was connected to."""

    address: str
    port: int
    name: str = ""
    """The host's, as DNS or the route has it."""

    @property
    def is_loopback(self) -> bool:
        """Tell whether it is this machine."""
        return self.address.startswith("127.") or self.address == "::1"


def transport_of(delivery: Delivery) -> str:
    """Return the name of a transport in master.cf, or the delivery agent's where the log does not name it.

    It does with `-o syslog_name=postfix/$service_name`, as all transports of ours have. pipe(8) always does.
    """
    *instance, program = delivery.tag.split("/")
    if program == "pipe":
        return delivery.relay[:64]
    service = instance[-1] if instance else ""
    is_named = len(instance) > 1 or service.startswith(POOL_PREFIX) or service in (HOP_CLIENT, INTERNAL)
    return service if is_named else program


def server_of(delivery: Delivery) -> Server | None:
    """Return the server that was reached, None if none was: it may be a socket, a mailbox, or nothing."""
    match = _SERVER.fullmatch(delivery.relay)
    return Server(match["address"].lower(), int(match["port"] or 0), match["name"]) if match else None


def way_of(delivery: Delivery, transport: str, server: Server | None, site: Surroundings) -> Way:  # noqa: PLR0911
    """Return where a transport leads: one answer for each kind of it."""
    program = delivery.tag.rpartition("/")[2]
    if program == "pipe":
        return Way.TRIPWIRE if transport in TRIPWIRES else Way.STAYS
    if program in ("error", "discard"):
        return Way.NOWHERE
    if program != "smtp":
        # lmtp(8) speaks to mailbox servers only.
        return Way.STAYS
    if transport.startswith(POOL_PREFIX):
        return Way.POOL
    if transport == HOP_CLIENT:
        return Way.HOP
    if transport in site.inside:
        return Way.STAYS
    if server is None:
        return Way.NOWHERE
    return Way.STAYS if server.is_loopback else Way.OUTSIDE


def leads_outside(delivery: Delivery, transport: str, server: Server | None, site: Surroundings) -> bool:
    """Tell whether `internal` has reached a server that is not known to be ours, so that a pool would have been due."""
    if transport != INTERNAL or server is None or delivery.tag.rpartition("/")[2] != "smtp":
        return False
    domain = domain_of(delivery.recipient)
    return not (site.is_ours(domain, f"[{server.address}]") or site.is_ours(domain, server.name))


def pool_of_transport(transport: str, pools: Collection[str]) -> str:
    """Return the pool of a transport `pool-<name>` or `pool-<name>-<n>`, one of several addresses."""
    name = transport.removeprefix(POOL_PREFIX)
    numbered = _NUMBERED.fullmatch(name)
    if name not in pools and numbered is not None and numbered["pool"] in pools:
        return numbered["pool"]
    return name
