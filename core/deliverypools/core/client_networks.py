"""Which clients are likely run by the same people: the network of a client, where many are looked at together.

Not `accounts.client_network`: that is what one client is, for telling how many use an account, and a neighbour in the
same network is another one there.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

from deliverypools.core.facts import printable

_LONGEST_ADDRESS: Final = 45
_PREFIXES: Final = {4: 24, 6: 56}
"""Of IPv6 what a customer is commonly given (RIPE-690): whoever has that has 256 networks of 64 bits."""


@lru_cache(maxsize=32_768)
def network_of(client: str) -> str:
    """Return the network of a client: /24 of IPv4, /56 of IPv6; what is no address stays, printable and bounded."""
    try:
        address = ip_address(client.partition("/")[0])
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return str(ip_network((int(address), _PREFIXES[address.version]), strict=False))
    except ValueError:
        return printable(client, _LONGEST_ADDRESS)
