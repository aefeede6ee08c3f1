"""The pools' addresses are on this machine, and serve nothing else that matters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from deliverypools.core.host_check.facts import Host
from deliverypools.core.postfix_check.checks import CheckOf, Severity, check
from deliverypools.core.postfix_check.site import HIGH_RISK
from deliverypools.core.private_networks import is_private

_RISKY: Final = (HIGH_RISK, "relay")


@check(
    Severity.ERROR,
    can_happen="Mail of this pool waits (the pools' transports enforce their addresses), and goes back to its sender"
    " after maximal_queue_lifetime.",
    remedy="Give the address to an interface, for good (ip addr add shows whether it works); or correct"
    " pools.<name>.addresses.",
)
def pool_address_not_here(host: Host) -> Iterator[str]:
    """Programs of this machine can send by every address of the pools."""
    for pool, address in host.pool_addresses():
        if problem := host.facts.bind_problems.get(address, ""):
            yield f"pools.{pool}.addresses: {address}: {problem}"


@check(
    Severity.LATER,
    can_happen="An address that no interface has can be bound all the same: connections by it get no answer, and mail"
    " waits. pool_address_not_here cannot see that.",
    remedy="Look with `ip addr`; `delivery-pools check --live` sends by each address.",
)
def addresses_can_be_invented(host: Host) -> Iterator[str]:
    """The kernel lets programs bind only addresses that are there (net.ipv4.ip_nonlocal_bind = 0)."""
    used = {address.version for _, address in host.pool_addresses()}
    for family in sorted(host.facts.binds_anything & used):
        yield f"net.ipv{family}.ip_nonlocal_bind = 1"


@check(
    Severity.LATER,
    can_happen="Receivers see another address than this one: its PTR record, HELO name and SPF cannot be compared from"
    " here.",
    remedy="Send a message to a mailbox elsewhere, and look at its topmost Received fields. Each pool address needs a"
    " public address of its own.",
)
def pool_address_is_private(host: Host) -> Iterator[str]:
    """No pool sends from behind a NAT."""
    for pool, address in host.pool_addresses():
        if is_private(address):
            yield f"pools.{pool}.addresses: {address}"


@check(
    Severity.LATER,
    can_happen="What does not come from a pool leaves by this address too: programs that speak SMTP themselves (a"
    " compromised web application), and Postfix's own transports without an address. Receivers take all of it for"
    " mail of the pool.",
    remedy="Give the pool an address that nothing else uses; or let the firewall keep all users but postfix from port"
    " 25 of other hosts.",
)
def pool_address_is_the_default(host: Host) -> Iterator[str]:
    """No pool has the address that this machine sends by when a program names none."""
    for pool, address in host.pool_addresses():
        if address in host.facts.default_addresses:
            yield f"pools.{pool}.addresses: {address} is the default source address of this machine"
        elif address in _bound_by_postfix(host):
            yield f"pools.{pool}.addresses: {address}: inet_interfaces makes it Postfix's own default"


def _bound_by_postfix(host: Host) -> frozenset[object]:
    """Return the addresses that smtp(8) binds by itself: one that is alone in inet_interfaces (postconf(5))."""
    if host.site is None:
        return frozenset()
    named = [word.strip("[]") for word in host.site.postfix.words("inet_interfaces")]
    return frozenset(
        address
        for _, address in host.pool_addresses()
        if str(address) in named and sum(":" in one for one in named) <= 1 and sum("." in one for one in named) <= 1
    )


@check(
    Severity.WARNING,
    can_happen="Block lists may name this address. Networks that drop all traffic of listed addresses then do not reach"
    " the server that takes mail for the domain.",
    remedy="Let MX lead to an address of no pool, or to that of normal.",
)
def risky_address_takes_mail_in(host: Host) -> Iterator[str]:
    """The addresses of high-risk and relay take no mail for accepted domains."""
    for domain, answer in host.dns.mail_in.items():
        for pool, address in host.public_addresses():
            if pool in _RISKY and str(address) in answer.values:
                yield f"MX of {domain}: {address} is an address of pools.{pool}"


ADDRESS_CHECKS: Final[tuple[CheckOf[Host], ...]] = (
    pool_address_not_here,
    addresses_can_be_invented,
    pool_address_is_private,
    pool_address_is_the_default,
    risky_address_takes_mail_in,
)
