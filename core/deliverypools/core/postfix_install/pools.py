"""The SMTP clients: one for each address of each pool, one for servers inside, tripwires in place of the old ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from deliverypools.core.pool_transports import PoolTransport, all_transports
from deliverypools.core.postfix_check.site import HOP_CLIENT, INTERNAL
from deliverypools.core.postfix_check.syntax import route_of
from deliverypools.core.postfix_install.draft import CHANGE_BACK, DIRECTORY, Draft, joined
from deliverypools.core.postfix_install.service_line import ServiceLine, parse_service

STRIP: Final = f"regexp:{DIRECTORY}/strip_headers"
STRIP_BODY: Final = f"regexp:{DIRECTORY}/strip_body"
_NUMBERS_OF_A_VARIANT: Final = 100
"""Pool transports of a variant are numbered from 100 times its own number; no pool has as many addresses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """An SMTP client of the site, and what is its own about it: the pools go on with that."""

    name: str
    """The transport's name in the site's master.cf."""
    number: int
    """0: the one that carries all mail. From 1: another one, whose mail leaves by pool transports of its own."""
    options: Mapping[str, str]
    process_limit: str
    tuning: Mapping[str, str]
    """What main.cf says of the transport by name: `destination_concurrency_limit`, `transport_rate_delay` ..."""

    def transport(self, pool: PoolTransport) -> str:
        """Return the name of a pool's transport that has these options."""
        if self.number == 0:
            return pool.name
        return f"pool-{pool.pool}-{_NUMBERS_OF_A_VARIANT * self.number + pool.number}"


def base_client(draft: Draft) -> Client:
    """Return the site's client that carries its mail to other hosts: the transport of default_transport."""
    name = route_of(draft.postfix.value("default_transport")).transport or "smtp"
    return client_of_site(draft, name, 0)


def client_of_site(draft: Draft, name: str, number: int) -> Client:
    """Return a transport of the site; one that is missing has no options."""
    line = draft.lines.get((name, "unix"), parse_service(f"{name} unix - - - - - smtp"))
    return Client(
        name=name,
        number=number,
        options={key: value for key, value in line.options.items() if key != "syslog_name"},
        process_limit=line.process_limit,
        tuning=_tuning(draft, name),
    )


def sends_otherwise(draft: Draft, name: str) -> bool:
    """Tell whether a client of the site has options, a process limit or tuning that its usual one has not."""
    usual = base_client(draft)
    own = client_of_site(draft, name, 0)
    if name in ("", usual.name) or (name, "unix") not in draft.lines:
        return False
    is_limited = own.process_limit not in ("-", usual.process_limit)
    differs = any(_differing_options(draft, own, usual))
    return differs or is_limited or (bool(own.tuning) and own.tuning != usual.tuning)


def refuse_what_internal_lacks(draft: Draft, named: str, transport: str) -> None:
    """Refuse a route to a server of the site's own by a client with a login, TLS, port or address of its own.

    By `internal`, which goes on like the usual client, that server would refuse the mail, or get it in clear.
    """
    own, usual = client_of_site(draft, transport, 0), base_client(draft)
    if transport in ("", usual.name) or (transport, "unix") not in draft.lines:
        return
    lacking = [name for name in _differing_options(draft, own, usual) if name.startswith(_OF_THE_CONNECTION)]
    if lacking:
        options = ", ".join(f"-o {name}={own.options.get(name, '')}" for name in sorted(lacking))
        draft.error(
            f"{named}: mail to servers of your own goes by {INTERNAL}, which lacks what {transport} has: {options}",
            "Say it by destination, in main.cf: smtp_tls_policy_maps, smtp_sasl_auth_enable and smtp_sasl_password_maps"
            f" or a port in the next-hop ([host]:587). Then name smtp there. {CHANGE_BACK}",
        )


def _differing_options(draft: Draft, own: Client, usual: Client) -> Iterator[str]:
    service, base = draft.postfix.transport(own.name), draft.postfix.transport(usual.name)
    for option in {*own.options, *usual.options}:
        if draft.postfix.value(option, service) != draft.postfix.value(option, base):
            yield option


_OF_THE_CONNECTION: Final = (
    *("smtp_tls_", "smtp_use_tls", "smtp_enforce_tls", "smtp_sasl_", "smtp_tcp_port"),
    *("smtp_bind_address", "smtp_helo_name", "smtp_host_lookup", "smtp_dns_"),
)
"""What options begin with without which a server may refuse mail, or is another one."""
_TUNING: Final = (
    "_delivery_slot_cost",
    "_delivery_slot_discount",
    "_delivery_slot_loan",
    "_destination_concurrency_failed_cohort_limit",
    "_destination_concurrency_limit",
    "_destination_concurrency_negative_feedback",
    "_destination_concurrency_positive_feedback",
    "_destination_rate_delay",
    "_destination_recipient_limit",
    "_extra_recipient_limit",
    "_initial_destination_concurrency",
    "_minimum_delivery_slots",
    "_recipient_limit",
    "_recipient_refill_delay",
    "_recipient_refill_limit",
    "_transport_rate_delay",
)
"""What qmgr(8) looks up by the name of a transport (postconf(5))."""


def _tuning(draft: Draft, name: str) -> dict[str, str]:
    written = draft.original.written.parameters
    return {ending: written[f"{name}{ending}"] for ending in _TUNING if f"{name}{ending}" in written}


# ---- what is added


def set_pools(draft: Draft, clients: tuple[Client, ...]) -> None:
    """Add the pool transports, for the site's usual client and for those that routes have of their own."""
    base = clients[0]
    if any("smtp_header_checks" not in one.options for one in clients):
        _carry_over_header_checks(draft)
    _check_families(draft)
    for client in clients:
        for pool in all_transports(draft.settings.pools):
            line = _pool_line(draft, client, pool)
            draft.add(line, f"Mail of the pool {pool.pool} leaves by this transport.")
            for ending, value in client.tuning.items():
                draft.set(f"{line.key[0]}{ending}", value, f"{client.name}{ending}, which the pools go on with.")
    if draft.is_hop:
        _add_internal(draft, base)
        draft.add(_with_letter(draft, draft.template(HOP_CLIENT)), "The first half of the hop.")
    for name in ("smtp", "relay"):
        draft.add(draft.template(name), "A tripwire: what is still routed here waits, and leaves by no wrong address.")
    _note_what_is_carried(draft, base)


def _pool_line(draft: Draft, client: Client, pool: PoolTransport) -> ServiceLine:
    name = f"pool-{pool.pool}"
    template = draft.template(name if (name, "unix") in draft.example.master else "pool-normal")
    addresses = {"smtp_bind_address": pool.ipv4, "smtp_bind_address6": pool.ipv6}
    missing = [option for option, address in addresses.items() if address is None]
    line = template.named(client.transport(pool)).without(*missing)
    line = line.with_options({option: str(address) for option, address in addresses.items() if address is not None})
    line = line.with_options({"smtp_helo_name": draft.settings.pools[pool.pool].helo})
    line = line.with_options(_one_family(draft, pool))
    line = _with_header_checks(draft, line, client.options)
    return _with_letter(draft, line.over(client.options)).with_process_limit(client.process_limit)


def _with_letter(draft: Draft, line: ServiceLine) -> ServiceLine:
    """Return an SMTP client inside or outside the chroot, as the site's own is."""
    own = draft.lines.get(("smtp", "unix"))
    return line.with_chroot(own.chroot) if own else line


def _with_header_checks(draft: Draft, line: ServiceLine, options: Mapping[str, str]) -> ServiceLine:
    """Put the site's checks of outgoing mail behind the removal of our header fields.

    The first table that matches wins. What main.cf has is in delivery_pools_smtp_header_checks already.
    """
    if own := options.get("smtp_header_checks"):
        line = line.with_options({"smtp_header_checks": joined(STRIP, own)})
    elif "smtp_header_checks" in options:
        line = line.with_options({"smtp_header_checks": STRIP})
    for parameter in ("smtp_nested_header_checks", "smtp_body_checks"):
        if parameter in line.options:
            own = options.get(parameter, draft.raw(parameter))
            line = line.with_options({parameter: joined(line.options[parameter], own)})
    return line


def _carry_over_header_checks(draft: Draft) -> None:
    own = draft.raw("smtp_header_checks")
    draft.set("delivery_pools_smtp_header_checks", joined(STRIP, own))
    if own:
        draft.note(f"smtp_header_checks: yours are behind ours in the pools and in internal: {own}")


def _add_internal(draft: Draft, base: Client) -> None:
    if (INTERNAL, "unix") in draft.lines:
        draft.error(
            f"master.cf: {INTERNAL}/unix is a service of yours; ours has that name.",
            f"Give it another name, also in your tables, and run this again. {CHANGE_BACK}",
        )
    line = _with_header_checks(draft, draft.template(INTERNAL), base.options).over(base.options)
    line = _with_letter(draft, line).with_process_limit(base.process_limit)
    draft.add(line, "Mail to servers of your own, which needs no pool.")
    for ending, value in base.tuning.items():
        draft.set(f"{INTERNAL}{ending}", value, f"{base.name}{ending}, which mail to your own servers goes on with.")


def _note_what_is_carried(draft: Draft, base: Client) -> None:
    if base.options:
        text = ", ".join(f"-o {name}={value}" for name, value in base.options.items())
        draft.note(f"{base.name}/unix: its options are those of the pool transports too, unless ours differ: {text}")
    if base.tuning:
        names = ", ".join(f"{base.name}{ending}" for ending in base.tuning)
        draft.note(f"Each pool transport has the same of its own: {names}. Limits count for each of them.")
    for parameter in ("smtp_bind_address", "smtp_bind_address6"):
        if value := draft.postfix.value(parameter):
            draft.note(f"{parameter} = {value}: pools have their own; it holds for internal and other clients still.")
    for word in draft.postfix.words("defer_transports"):
        if word in ("smtp", "relay"):
            draft.warning(
                f"defer_transports = {word}: mail leaves by pool transports, and is not deferred any more.",
                "defer_transports = pool-normal, pool-high-risk, pool-relay",
            )


# ---- pools with addresses of one family


_IPV4: Final = 4
_IPV6: Final = 6


def _check_families(draft: Draft) -> None:
    protocols = _protocols(draft)
    if draft.is_hop and _IPV4 not in protocols:
        draft.error(
            f"inet_protocols = {draft.postfix.value('inet_protocols')}: the two halves of the hop meet at 127.0.0.1.",
            "inet_protocols = all in main.cf; pools can have IPv6 addresses only where IPv4 has no route.",
        )
    for name, pool in draft.settings.pools.items():
        versions = {address.version for address in pool.addresses}
        if _IPV4 in protocols and _IPV4 not in versions:
            draft.error(
                f"pools.{name} has no IPv4 address, and Postfix uses IPv4: mail to hosts without IPv6, which is most of"
                " them, would be returned.",
                f"Give pools.{name}.addresses an IPv4 address too.",
            )
    without = [
        name for name, pool in draft.settings.pools.items() if all(one.version != _IPV6 for one in pool.addresses)
    ]
    # A smarthost that is named by its IPv4 address is the only host that is asked.
    if without and _IPV6 in protocols and _version(draft.postfix.value("relayhost").partition("]")[0]) != _IPV4:
        draft.warning(
            f"Pools without an IPv6 address, while Postfix uses IPv6: {', '.join(without)}. They use IPv4 only; their"
            " mail to hosts that have IPv6 only is returned.",
            "Give each pool an IPv6 address too, or set inet_protocols = ipv4 if nothing else needs IPv6.",
        )


def _protocols(draft: Draft) -> set[int]:
    words = draft.postfix.words("inet_protocols")
    return {version for version in (_IPV4, _IPV6) if "all" in words or f"ipv{version}" in words}


def _one_family(draft: Draft, pool: PoolTransport) -> dict[str, str]:
    """Return the options of a transport that must not use one of the families: it would do so by the default address.

    smtp(8) ends with a fatal error when inet_interfaces names an address of the other family, or a host that has only
    such addresses. It uses the list to find that a destination is this machine, so that the pool's own address is
    enough: the greeting tells as well.
    """
    missing = _IPV6 if pool.ipv6 is None else _IPV4 if pool.ipv4 is None else 0
    if missing not in (protocols := _protocols(draft)) or len(protocols) == 1:
        return {}
    own = pool.ipv4 or pool.ipv6
    options = {"inet_protocols": "ipv6" if pool.ipv4 is None else "ipv4"}
    interfaces = draft.postfix.words("inet_interfaces")
    if not _ALL_INTERFACES.issuperset(interfaces):
        usable = [one for one in interfaces if own and _version(one) == own.version]
        options["inet_interfaces"] = ", ".join(usable) or str(own)
    return options


_ALL_INTERFACES: Final = frozenset({"all", "loopback-only"})


def _version(interface: str) -> int:
    """Return the family of an address; 0 for a name."""
    try:
        return ip_address(interface.strip("[]").lower().removeprefix("ipv6:")).version
    except ValueError:
        return 0
