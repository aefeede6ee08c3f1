"""The table `[metrics]` of the settings file."""

from __future__ import annotations

import ipaddress
import json
from typing import Annotated, Final, TypeAlias

from pydantic import PlainValidator

from deliverypools.core.settings.tables import Table, setting
from deliverypools.core.settings.values import (
    AbsolutePath,
    Nameserver,
    Network,
    WithExampleError,
    client_ip,
    nameserver,
    shown,
)

OFF: Final = "off"
_EXAMPLE: Final = "127.0.0.1:9641"
_FIRST_PORT: Final = 1024
"""Those below are for root alone, and the daemons are not root."""
_LOOPBACK: Final = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


def metrics_address(value: object) -> Nameserver | None:
    """Return address and port of "127.0.0.1:9641" or "[::1]:9641"; None for "off"."""
    if value is None or isinstance(value, Nameserver):
        return value
    if value == OFF:
        return None
    problem = f'got {shown(value)}; write "{OFF}", or an address and a port from {_FIRST_PORT} on,'
    try:
        address = nameserver(value)
    except ValueError:
        raise WithExampleError(problem, json.dumps(_EXAMPLE)) from None
    if address.port < _FIRST_PORT:
        raise WithExampleError(problem, json.dumps(_EXAMPLE))
    return address


MetricsAddress: TypeAlias = Annotated[Nameserver | None, PlainValidator(metrics_address)]


def is_loopback(address: str) -> bool:
    """Tell whether an IP address is of this host alone."""
    parsed = client_ip(address)
    return parsed is not None and any(parsed in network for network in _LOOPBACK)


class Metrics(Table):
    """Counts and durations of all processes, for Prometheus: see [metrics](metrics.md)."""

    listen: MetricsAddress = setting(
        "Address and port at which the policy daemon answers `GET /metrics`; `off`: nothing is measured.",
        default=_EXAMPLE,
        example='"192.0.2.5:9641"',
    )
    allow: tuple[Network, ...] = setting(
        "Clients that may ask, beside this host itself. Needed where `listen` is no loopback address.",
        default=(),
        example='["192.0.2.9", "2001:db8:9::/64"]',
    )
    directory: AbsolutePath = setting(
        "Folder, of this installation alone, by which the processes hand their numbers to the policy daemon. It is made"
        " if that can be done.",
        default="/run/delivery-pools/metrics",
        example='"/run/mail/metrics"',
    )

    def allows(self, client_address: str) -> bool:
        """Tell whether a client may ask."""
        client = client_ip(client_address)
        return client is not None and (is_loopback(client_address) or any(client in network for network in self.allow))
