"""Addresses that nobody outside has, and that receivers outside never see."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Final

from deliverypools.core.settings.values import IpAddress

_PRIVATE: Final = tuple(
    map(
        ip_network,
        (
            *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),  # RFC 1918
            "100.64.0.0/10",  # RFC 6598, behind a provider's NAT
            *("127.0.0.0/8", "169.254.0.0/16", "::1/128", "fe80::/10"),  # loopback; RFC 3927 and 4291
            "fc00::/7",  # RFC 4193
        ),
    )
)
"""Not the addresses for documentation."""


def is_private(address: IpAddress) -> bool:
    """Tell whether nobody outside reaches this address, and nobody outside sees it."""
    return any(address.version == network.version and address in network for network in _PRIVATE)
