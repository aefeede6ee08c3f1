"""Which servers are the site's own, so that mail to them needs no pool: told by next-hop and by recipient's domain."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final

from deliverypools.core import private_networks
from deliverypools.core.postfix_check.configuration import is_on_this_machine
from deliverypools.core.postfix_check.site import Site
from deliverypools.core.postfix_check.syntax import host_of, split_list
from deliverypools.core.settings import Settings

EVERYBODY: Final = "*"
"""The key of transport(5) for all recipients."""


def is_inside(settings: Settings, domain: str, next_hop: str) -> bool:
    """Tell whether mail to a domain goes to a server of ours, which is reached by no pool.

    So it does by a private next-hop, or if the domain is accepted. Below an accepted domain it may be anybody's: a
    provider sends newsletters in the name of many a subdomain. There the next-hop has to be ours by its name.
    """
    if is_private(next_hop) or settings.is_accepted_domain(domain):
        return True
    return _is_below_ours(settings, domain) and is_named_as_ours(settings, next_hop)


def is_named_as_ours(settings: Settings, next_hop: str) -> bool:
    """Tell whether a next-hop is a host with a name in, or below, an accepted domain; of several, all of them."""
    hosts = list(map(host_of, split_list(next_hop)))
    return bool(hosts) and all(_is_below_ours(settings, host) for host in hosts)


def _is_below_ours(settings: Settings, domain: str) -> bool:
    parts = domain.lower().strip(".").split(".")
    return any(settings.is_accepted_domain(".".join(parts[index:])) for index in range(len(parts) - 1))


def is_private(next_hop: str) -> bool:
    """Tell whether a next-hop is a literal address that nobody outside has; of several, all of them."""
    hosts = split_list(next_hop)
    return bool(hosts) and all(map(_is_private_host, hosts))


def _is_private_host(destination: str) -> bool:
    try:
        return private_networks.is_private(ip_address(host_of(destination)))
    except ValueError:
        return is_on_this_machine(destination)


def domain_of_key(key: str) -> str:
    """Return the domain of a key of transport(5); "" for a key without one."""
    domain = key.rpartition("@")[2] if "@" in key else key
    return "" if key == EVERYBODY else domain.lower()


def is_delivered_here(site: Site, domain: str) -> bool:
    """Tell whether Postfix delivers a domain itself, so that a next-hop alone does not send it elsewhere."""
    names = ("mydestination", "virtual_mailbox_domains", "virtual_alias_domains")
    return bool(domain) and any(is_listed(site, name, domain) for name in names)


def is_listed(site: Site, parameter: str, domain: str) -> bool:
    """Tell whether a list of domains names one, itself or in a file or table."""
    value = site.postfix.value(parameter)
    keys = [entry.key.lower() for _, entry in site.postfix.entries(value)]
    return domain in [*(one.lower() for one in site.postfix.listed(value)), *keys]
