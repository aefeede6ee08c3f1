"""Each pool leaves by its own addresses, and nothing else leaves."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Final

from deliverypools.core.postfix_check.checks import Check, Severity, check
from deliverypools.core.postfix_check.configuration import Service
from deliverypools.core.postfix_check.site import HIGH_RISK, INTERNAL, TRIPWIRES, Site
from deliverypools.core.postfix_check.syntax import route_of
from deliverypools.core.settings.values import IpAddress

_FAMILIES: Final = {4: ("ipv4", "smtp_bind_address"), 6: ("ipv6", "smtp_bind_address6")}
OUR_FIELDS: Final = ("X-Delivery-Pool: normal", "X-Delivery-Pool-Ticket: gAAAA")
OUR_BODY_LINES: Final = (*OUR_FIELDS, " .dp.gAAAA")


@check(
    Severity.ERROR,
    can_happen='Mail that is decided for this pool waits: "mail transport unavailable".',
    remedy="Add pool-<name> to master.cf as in postfix-examples, with - in the column private, and not in"
    " master_service_disable; or remove the pool from the settings.",
)
def pool_transport_missing(site: Site) -> Iterator[str]:
    """Every pool of the settings has a transport in master.cf that qmgr(8) reaches: private, and not switched off."""
    present = {pool for pool, _ in site.pool_transports}
    for pool in site.settings.pools:
        if pool not in present:
            why = site.postfix.why_missing(f"pool-{pool}") or "not of type unix"
            yield f"pool {pool}: pool-{pool}: {why}"


@check(
    Severity.ERROR,
    can_happen="Mail of this pool is not sent by smtp(8), so it has not the pool's source address, or does not leave.",
    remedy="The command of a pool's transport is smtp.",
)
def pool_transport_is_no_smtp_client(site: Site) -> Iterator[str]:
    """Pool transports run smtp(8)."""
    for _, service in site.pool_transports:
        if service.command != "smtp":
            yield f"{service.label}: its command is {service.command}"


@check(
    Severity.ERROR,
    can_happen="Mail leaves by the machine's default address. With an IPv4 address alone, mail to servers with IPv6"
    " leaves by the default IPv6 address, at random, and smtp_bind_address_enforce does not prevent it.",
    remedy="Set smtp_bind_address and smtp_bind_address6 on the transport; without IPv6, inet_protocols = ipv4 in"
    " main.cf.",
)
def pool_without_address(site: Site) -> Iterator[str]:
    """Every pool transport has a source address of its own in each family that Postfix uses."""
    for _, service in _clients(site):
        protocols = site.postfix.words("inet_protocols", service)
        for family, parameter in _FAMILIES.values():
            if parameter not in service.options and (family in protocols or "all" in protocols):
                yield f"{service.label}: no -o {parameter}, and inet_protocols = {' '.join(protocols)}"
            elif not service.options.get(parameter, "x"):
                yield f"{service.label}: {parameter} is empty"


@check(
    Severity.ERROR,
    can_happen="When the address is not on this machine (a failed interface, a typing error), Postfix logs a"
    " warning and"
    " sends by the default address.",
    remedy="-o smtp_bind_address_enforce=yes on every pool transport.",
)
def pool_address_not_enforced(site: Site) -> Iterator[str]:
    """Mail waits if the pool's address cannot be used."""
    for _, service in _clients(site):
        if not site.postfix.is_on("smtp_bind_address_enforce", service):
            yield f"{service.label}: smtp_bind_address_enforce = no"


@check(
    Severity.ERROR,
    can_happen="Mail leaves by an address that the pool does not have: that of another pool, or one that SPF, PTR and"
    " monitoring know nothing of.",
    remedy="Make pools.<name>.addresses and smtp_bind_address of the transport the same.",
)
def pool_address_differs(site: Site) -> Iterator[str]:
    """A pool transport's source addresses are those of the settings."""
    for pool, service in _clients(site):
        for address in _bound(service):
            if address not in _wanted(site, pool):
                yield f"{service.label}: {address} is not among pools.{pool}.addresses"


@check(
    Severity.WARNING,
    can_happen="The address is in SPF and PTR, and mail never leaves by it.",
    remedy="Give it a transport of its own, pool-<name>-2 and so on, or remove it from the settings.",
)
def pool_address_unused(site: Site) -> Iterator[str]:
    """Every address of the settings has a transport."""
    protocols = site.postfix.words("inet_protocols")
    for pool in site.settings.pools:
        used = {address for name, service in _clients(site) if name == pool for address in _bound(service)}
        for address in _wanted(site, pool):
            family = _FAMILIES[address.version][0]
            if used and address not in used and (family in protocols or "all" in protocols):
                yield f"pools.{pool}.addresses: no transport of the pool has {address}"


@check(
    Severity.WARNING,
    can_happen="The name in HELO does not fit the PTR record; receivers count that against the address.",
    remedy="Make pools.<name>.helo and smtp_helo_name of the transport the same.",
)
def pool_helo_differs(site: Site) -> Iterator[str]:
    """A pool transport says the HELO name of the settings."""
    for pool, service in _clients(site):
        name = site.postfix.value("smtp_helo_name", service)
        wanted = site.settings.pools[pool].helo
        if name.lower() != wanted:
            yield f"{service.label}: smtp_helo_name = {name}; pools.{pool}.helo is {wanted}"


@check(
    Severity.WARNING,
    can_happen="smtp(8) ends with a fatal error where inet_interfaces names an address of the other family, or a host"
    " that has only such addresses: mail of that transport waits.",
    remedy="Set inet_protocols in main.cf only; or give the transport -o inet_interfaces= too, with addresses of that"
    " family.",
)
def protocols_set_on_a_transport(site: Site) -> Iterator[str]:
    """inet_protocols is the same for all services, or inet_interfaces fits that of a pool."""
    for _, service in site.pool_transports:
        if "inet_protocols" not in service.options:
            continue
        protocols = site.postfix.words("inet_protocols", service)
        for interface in site.postfix.words("inet_interfaces", service):
            if interface not in ("all", "loopback-only") and _family_of(interface) not in protocols:
                yield f"{service.label}: -o inet_protocols={' '.join(protocols)}, and inet_interfaces has {interface}"


def _family_of(interface: str) -> str:
    """Return the protocol of an address, as inet_protocols names it; "" for a host name."""
    try:
        version = ipaddress.ip_address(interface.strip("[]").lower().removeprefix("ipv6:")).version
    except ValueError:
        return ""
    return _FAMILIES[version][0]


@check(
    Severity.ERROR,
    can_happen="Tag and ticket leave this machine: receivers see which pool a message was put into. Or the site's own"
    " smtp_header_checks match first, and the removal never happens.",
    remedy="-o smtp_header_checks=$delivery_pools_smtp_header_checks on the pool transports and on internal, with the"
    " table strip_headers first.",
)
def tag_stays_on_the_wire(site: Site) -> Iterator[str]:
    """Pool transports, and the one to our own servers, remove our header fields."""
    services = [service for _, service in _clients(site)]
    if site.is_hop and (internal := site.postfix.transport(INTERNAL)):
        services.append(internal)
    for service in services:
        tables = site.postfix.value("smtp_header_checks", service)
        for field in () if site.postfix.is_unknown(tables) else OUR_FIELDS:
            answer = site.postfix.answer(tables, field)
            if answer.upper() != "IGNORE":
                name = field.partition(":")[0]
                yield f"{service.label}: smtp_header_checks answers {answer or 'nothing'} to {name}"


@check(
    Severity.WARNING,
    can_happen="Non-delivery notices return the original message with our tag and ticket in it.",
    remedy="-o smtp_nested_header_checks=regexp:.../strip_headers -o smtp_body_checks=regexp:.../strip_body on the"
    " transports of the high-risk pool.",
)
def tag_stays_in_notices(site: Site) -> Iterator[str]:
    """The high-risk pool removes our header fields from returned messages too."""
    for pool, service in _clients(site):
        if pool != HIGH_RISK:
            continue
        for parameter, lines in (("smtp_nested_header_checks", OUR_FIELDS), ("smtp_body_checks", OUR_BODY_LINES)):
            tables = site.postfix.value(parameter, service)
            answers = [site.postfix.answer(tables, line).upper() for line in lines]
            if not site.postfix.is_unknown(tables) and any(answer != "IGNORE" for answer in answers):
                yield f"{service.label}: {parameter} = {tables or '(empty)'}"


@check(
    Severity.ERROR,
    can_happen="What a content filter hands back has no ticket any more: it counts as mail of this machine, or is"
    " undecided and leaves late by high-risk.",
    remedy="-o smtp_header_checks= on the transport of the content filter.",
)
def filter_takes_the_ticket(site: Site) -> Iterator[str]:
    """The way to a content filter removes no ticket: only pool transports do."""
    if not site.is_hop:
        return
    for name in {route_of(value).transport for value in site.content_filters}:
        service = site.postfix.transport(name)
        if service is None or service.command != "smtp" or site.pool_of(name):
            continue
        answer = site.postfix.answer(site.postfix.value("smtp_header_checks", service), OUR_FIELDS[1])
        if answer.upper() == "IGNORE":
            yield f"{service.label}: smtp_header_checks removes X-Delivery-Pool-Ticket"


@check(
    Severity.ERROR,
    can_happen="Mail that is routed round the pools, by a forgotten transport_maps entry say, leaves by the machine's"
    " default address.",
    remedy="Replace the services smtp and relay of type unix by the tripwires of postfix-examples.",
)
def tripwire_missing(site: Site) -> Iterator[str]:
    """The transports smtp and relay deliver nothing."""
    for name in TRIPWIRES:
        service = site.postfix.transport(name)
        if service is not None and service.command in ("smtp", "lmtp"):
            yield f"{service.label}: its command is {service.command}: it can deliver"


def _clients(site: Site) -> Iterator[tuple[str, Service]]:
    return ((pool, service) for pool, service in site.pool_transports if service.command == "smtp")


def _wanted(site: Site, pool: str) -> tuple[IpAddress, ...]:
    return tuple(ipaddress.ip_address(str(address)) for address in site.settings.pools[pool].addresses)


def _bound(service: Service) -> Iterator[IpAddress | str]:
    """Yield the addresses that a transport binds to; what is no address as it is written."""
    for _, parameter in _FAMILIES.values():
        if value := service.options.get(parameter, ""):
            try:
                yield ipaddress.ip_address(value.strip("[]"))
            except ValueError:
                yield value


POOL_CHECKS: Final[tuple[Check, ...]] = (
    pool_transport_missing,
    pool_transport_is_no_smtp_client,
    pool_without_address,
    pool_address_not_enforced,
    pool_address_differs,
    pool_address_unused,
    pool_helo_differs,
    protocols_set_on_a_transport,
    tag_stays_on_the_wire,
    tag_stays_in_notices,
    filter_takes_the_ticket,
    tripwire_missing,
)
