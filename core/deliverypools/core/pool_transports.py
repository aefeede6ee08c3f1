"""The transports of a pool: one for each of its source addresses, and which of them a message leaves by.

A pool with one address (or one of IPv4 and one of IPv6) has the transport `pool-<name>` and the tag `<name>`. Further
addresses have `pool-<name>-2` and so on, and the tag `<name> 2`: the name of the pool is always its first word.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from deliverypools.core.settings.tables import Pool

PREFIX: Final = "pool-"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolTransport:
    """One transport of a pool, with the addresses that it binds to; at least one of them is there."""

    pool: str
    number: int
    """From 1."""
    ipv4: IPv4Address | None
    ipv6: IPv6Address | None

    @property
    def name(self) -> str:
        """The name of the service in master.cf."""
        return f"{PREFIX}{self.pool}" if self.number == 1 else f"{PREFIX}{self.pool}-{self.number}"

    @property
    def tag(self) -> str:
        """The value of X-Delivery-Pool that leads to it."""
        return self.pool if self.number == 1 else f"{self.pool} {self.number}"


def transports_of(name: str, pool: Pool) -> tuple[PoolTransport, ...]:
    """Return the transports of a pool, in the order of its addresses.

    The first IPv4 address goes with the first IPv6 address, the second with the second; where there are fewer of one
    family, those serve several transports.
    """
    ipv4 = [one for one in pool.addresses if isinstance(one, IPv4Address)]
    ipv6 = [one for one in pool.addresses if isinstance(one, IPv6Address)]
    return tuple(
        PoolTransport(
            pool=name,
            number=index + 1,
            ipv4=ipv4[index % len(ipv4)] if ipv4 else None,
            ipv6=ipv6[index % len(ipv6)] if ipv6 else None,
        )
        for index in range(max(len(ipv4), len(ipv6)))
    )


def all_transports(pools: Mapping[str, Pool]) -> tuple[PoolTransport, ...]:
    """Return the transports of all pools."""
    return tuple(one for name, pool in pools.items() for one in transports_of(name, pool))


def transport_for(name: str, pool: Pool, sender: str) -> PoolTransport:
    """Return the transport by which the mail of a sender leaves.

    It is the same for every message and every retry. When an address is added or taken away, only the senders of that
    one move (rendezvous hashing): receivers have got to know the others.
    """
    transports = transports_of(name, pool)
    if len(transports) == 1:
        return transports[0]

    def weight(one: PoolTransport) -> bytes:
        return hashlib.sha256(f"{one.ipv4} {one.ipv6} {sender.lower()}".encode(errors="replace")).digest()

    return max(transports, key=weight)
