"""What the checks of a running machine look at; `adapters.host_facts` and `adapters.dns_facts` gather it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from deliverypools.core.authentication import Result
from deliverypools.core.postfix_check.site import Site
from deliverypools.core.private_networks import is_private
from deliverypools.core.settings import Settings
from deliverypools.core.settings.values import IpAddress

MOST_DOMAINS: Final = 200
"""Accepted domains that are looked up in DNS: a hoster may have thousands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsAnswer:
    """What DNS says of one question."""

    values: frozenset[str] = frozenset()
    problem: str = ""
    """Why it cannot be told now, or not to the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpfAnswer:
    """What receivers that check SPF make of mail from one pool address."""

    domain: str
    pool: str
    address: IpAddress
    result: Result
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsFacts:
    """What DNS says about the pools and the accepted domains."""

    names: Mapping[IpAddress, DnsAnswer] = field(default_factory=dict)
    """PTR: the names of the pools' addresses, in lower case without a final dot."""
    addresses: Mapping[str, DnsAnswer] = field(default_factory=dict)
    """A and AAAA of the pools' HELO names."""
    mail_in: Mapping[str, DnsAnswer] = field(default_factory=dict)
    """The addresses of the servers that take mail for accepted domains."""
    spf: tuple[SpfAnswer, ...] = ()
    """For the accepted domains."""
    spf_of_rewritten: tuple[SpfAnswer, ...] = ()
    """For the domain of rewritten senders (SRS)."""
    spf_of_helo: tuple[SpfAnswer, ...] = ()
    """For HELO names, by which mail with a null sender is checked (RFC 7208 section 2.3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PathFacts:
    """One file, folder or socket."""

    path: str
    exists: bool = True
    uid: int = 0
    gid: int = 0
    mode: int = 0
    """Permission bits."""
    is_folder: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A user as the kernel judges it."""

    name: str
    uid: int
    gids: frozenset[int]

    def may(self, bits: int, path: PathFacts) -> bool:
        """Tell whether the permissions let it do all of `bits` (4 read, 2 write, 1 search)."""
        if self.uid == 0:
            return True
        shift = 6 if self.uid == path.uid else 3 if path.gid in self.gids else 0
        return path.mode >> shift & bits == bits


READ: Final = 4
WRITE: Final = 2
SEARCH: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonFacts:
    """One of our daemons, as who asks it sees it."""

    name: str
    """`milter`, `policy` or `socketmap`."""
    address: str
    """Its socket, as the settings have it."""
    problem: str = ""
    """Why it did not answer as it should, "" if it did."""
    is_forbidden: bool = False
    """It could not be asked: this user may not."""
    path: tuple[PathFacts, ...] = ()
    """The folders that lead to the socket, and the socket; () for TCP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """A file that the daemons need, with the folders that lead to it."""

    name: str
    """The setting that names it."""
    path: tuple[PathFacts, ...]
    needs: int = READ


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """What was found on this machine."""

    bind_problems: Mapping[IpAddress, str] = field(default_factory=dict)
    """Why the pools' addresses cannot be used here; "" for one that can."""
    binds_anything: frozenset[int] = frozenset()
    """The families (4, 6) for which the kernel lets programs bind addresses that are not there."""
    default_addresses: frozenset[IpAddress] = frozenset()
    """By which programs that bind none reach the outside."""
    daemons: tuple[DaemonFacts, ...] = ()
    daemon_user: Identity | None = None
    """Who runs the daemons; None where that cannot be told."""
    postfix_user: Identity | None = None
    """Postfix's mail_owner."""
    files: tuple[FileFacts, ...] = ()
    postfix_runs: bool | None = None
    """None: it cannot be told."""
    most_datagrams: int | None = None
    """How many datagrams may wait at a Unix socket that is made now; None where that cannot be told."""
    listening: Mapping[int, int] = field(default_factory=dict)
    """How many sockets listen at the ports of the hop's listeners."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What the checks are asked about."""

    settings: Settings
    facts: HostFacts = field(default_factory=HostFacts)
    dns: DnsFacts = field(default_factory=DnsFacts)
    site: Site | None = None
    """This machine's Postfix; None where there is none, or it was not examined."""

    def pool_addresses(self) -> Iterator[tuple[str, IpAddress]]:
        """Yield the addresses that mail leaves by, with their pools: of the families that Postfix uses."""
        families = families_of(self.site)
        for name, pool in self.settings.pools.items():
            for address in pool.addresses:
                if address.version in families:
                    yield name, address

    def public_addresses(self) -> Iterator[tuple[str, IpAddress]]:
        """Yield those of them that receivers see as they are: no NAT changes them."""
        return ((name, address) for name, address in self.pool_addresses() if not is_private(address))


def families_of(site: Site | None) -> frozenset[int]:
    """Return the address families that Postfix uses; both where that is not known."""
    protocols = site.postfix.words("inet_protocols") if site else ()
    if not protocols or "all" in protocols:
        return frozenset({4, 6})
    return frozenset(family for family in (4, 6) if f"ipv{family}" in protocols)
