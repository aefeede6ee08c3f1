"""What DNS says about the pools' addresses and our domains, asked in parallel and with one deadline for everything."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

import dns.reversename
from dns.rdtypes.ANY.MX import MX
from dns.rdtypes.ANY.PTR import PTR
from dns.rdtypes.IN.A import A
from dns.rdtypes.IN.AAAA import AAAA

from deliverypools.adapters.authentication.spf_check import check_spf
from deliverypools.adapters.resolver import DnsUnavailable, Reply, Resolver
from deliverypools.core.host_check.facts import MOST_DOMAINS, DnsAnswer, DnsFacts, Host, SpfAnswer
from deliverypools.core.host_check.spf import RELAY
from deliverypools.core.settings.values import IpAddress

_MOST_SECONDS: Final = 60.0
"""For all questions together; those left over are unknown."""
_THREADS: Final = 8
_MOST_MAIL_HOSTS: Final = 5
"""Of one domain's MX records."""

Asked = TypeVar("Asked")
Answered = TypeVar("Answered")


def dns_facts(host: Host) -> DnsFacts:
    """Ask the resolvers of the settings; takes a minute at most."""
    resolver = Resolver(host.settings.dns)
    asker = _Asker(resolver, time.monotonic() + _MOST_SECONDS)
    try:
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="check-dns") as threads:
            return _asked(host, asker, threads)
    finally:
        resolver.close()


@dataclass(frozen=True, slots=True)
class _SpfQuestion:
    domain: str
    """"" for the HELO name."""
    pool: str
    address: IpAddress
    helo: str


def _asked(host: Host, asker: _Asker, threads: ThreadPoolExecutor) -> DnsFacts:
    settings = host.settings
    domains = settings.accepted_domains[:MOST_DOMAINS]
    sending = list(host.public_addresses())
    helos = list(dict.fromkeys(settings.pools[pool].helo for pool, _ in sending))

    def questions(domain: str, pools: Iterable[str]) -> list[_SpfQuestion]:
        wanted = set(pools)
        return [_SpfQuestion(domain, pool, one, settings.pools[pool].helo) for pool, one in sending if pool in wanted]

    srs_domain = settings.forwarding.srs_domain
    forwarding = {RELAY, settings.forwarding.authenticated_forward_pool}
    spf = [one for domain in domains for one in questions(domain, settings.pools)]
    rewritten = questions(srs_domain, forwarding) if srs_domain else []
    return DnsFacts(
        names=_all(threads, asker.names, dict.fromkeys(address for _, address in sending)),
        addresses=_all(threads, asker.addresses, helos),
        mail_in=_all(threads, asker.mail_hosts, domains if sending else ()),
        spf=tuple(threads.map(asker.spf, spf)),
        spf_of_rewritten=tuple(threads.map(asker.spf, rewritten)),
        spf_of_helo=tuple(threads.map(asker.spf, questions("", settings.pools))),
    )


def _all(
    threads: ThreadPoolExecutor, ask: Callable[[Asked], Answered], asked: Iterable[Asked]
) -> Mapping[Asked, Answered]:
    keys = list(asked)
    return dict(zip(keys, threads.map(ask, keys), strict=True))


class _Asker:
    """Questions to the resolver; any thread may ask them. None raises."""

    def __init__(self, resolver: Resolver, deadline: float) -> None:
        self._resolver = resolver
        self._deadline = deadline

    def names(self, address: IpAddress) -> DnsAnswer:
        """Return the PTR records of an address."""
        name = dns.reversename.from_address(str(address)).to_text(omit_final_dot=True)
        try:
            records = self._look_up(name, "PTR").records
        except DnsUnavailable as error:
            return DnsAnswer(problem=str(error))
        targets = (one.target for one in records if isinstance(one, PTR))
        return DnsAnswer(values=frozenset(one.to_text(omit_final_dot=True).lower() for one in targets))

    def addresses(self, name: str) -> DnsAnswer:
        """Return the A and AAAA records of a name."""
        found: list[str] = []
        for rdtype in ("A", "AAAA"):
            try:
                records = self._look_up(name, rdtype).records
            except DnsUnavailable as error:
                return DnsAnswer(values=frozenset(found), problem=f"{rdtype}: {error}")
            found += [str(ipaddress.ip_address(one.address)) for one in records if isinstance(one, A | AAAA)]
        return DnsAnswer(values=frozenset(found))

    def mail_hosts(self, domain: str) -> DnsAnswer:
        """Return the addresses of the servers that take a domain's mail (RFC 5321 section 5.1)."""
        try:
            records = self._look_up(domain, "MX").records
        except DnsUnavailable as error:
            return DnsAnswer(problem=str(error))
        exchanges = [one.exchange.to_text(omit_final_dot=True) for one in records if isinstance(one, MX)]
        answers = [self.addresses(one) for one in (exchanges or [domain])[:_MOST_MAIL_HOSTS] if one not in {"", "."}]
        return DnsAnswer(
            values=frozenset[str]().union(*(one.values for one in answers)),
            problem=next((one.problem for one in answers if one.problem), ""),
        )

    def spf(self, question: _SpfQuestion) -> SpfAnswer:
        """Return what a receiver makes of mail from an address; without a domain, of mail with a null sender."""
        found = check_spf(
            self._resolver,
            client_address=str(question.address),
            helo=question.helo,
            envelope_sender=f"postmaster@{question.domain}" if question.domain else "",
            seconds=self._seconds(),
        )
        return SpfAnswer(
            domain=found.domain,
            pool=question.pool,
            address=question.address,
            result=found.result,
            reason=found.reason,
        )

    def _look_up(self, name: str, rdtype: str) -> Reply:
        return self._resolver.look_up(name, rdtype, self._seconds())

    def _seconds(self) -> float:
        return max(0.0, self._deadline - time.monotonic())
