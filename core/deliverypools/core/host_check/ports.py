"""Nobody else listens where the hop's client delivers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from deliverypools.core.host_check.facts import Host
from deliverypools.core.postfix_check.checks import CheckOf, Severity, check
from deliverypools.core.postfix_check.site import Site

_HOSTS: Final = ("127.0.0.1", "localhost")


def listener_ports(site: Site | None) -> frozenset[int]:
    """Return the ports of 127.0.0.1 at which the hop's listeners are."""
    names = (one.name.rpartition(":") for one in site.listeners) if site else ()
    return frozenset(int(port) for host, _, port in names if host in _HOSTS and port.isdecimal())


@check(
    Severity.ERROR,
    can_happen="The kernel deals connections out to both: mail of this Postfix is decided by daemons of the other one,"
    " and leaves by its addresses; and the other way round. A program that is no Postfix may keep this one from"
    " starting.",
    remedy="Another instance of Postfix: run `delivery-pools postfix install` for one of the two, which moves its"
    " listener to a free port. Another program: move it; `ss -ltnp` names it.",
)
def listener_is_shared(host: Host) -> Iterator[str]:
    """At the ports of the hop's listeners nobody listens but this Postfix."""
    ours = 0 if host.facts.postfix_runs is False else 1
    for port in sorted(listener_ports(host.site)):
        if (number := host.facts.listening.get(port, 0)) > ours:
            yield f"127.0.0.1:{port}: {number - ours} more than this Postfix"


PORT_CHECKS: Final[tuple[CheckOf[Host], ...]] = (listener_is_shared,)
