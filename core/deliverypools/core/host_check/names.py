"""HELO name, PTR record and A or AAAA record say the same of every address."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from deliverypools.core.authentication import Result
from deliverypools.core.host_check.facts import Host
from deliverypools.core.postfix_check.checks import CheckOf, Severity, check


@check(
    Severity.WARNING,
    can_happen="Many receivers refuse mail from an address without a name, over IPv6 nearly all of them.",
    remedy="Let the owner of the network (your provider) set the PTR record of the address to pools.<name>.helo.",
)
def pool_address_without_name(host: Host) -> Iterator[str]:
    """Every address of a pool has a PTR record."""
    for pool, address in host.public_addresses():
        answer = host.dns.names.get(address)
        if answer is not None and not answer.problem and not answer.values:
            yield f"pools.{pool}.addresses: {address} has no PTR record"


@check(
    Severity.WARNING,
    can_happen="The name in HELO does not fit the PTR record; receivers count that against the address.",
    remedy="Make the PTR record of the address and pools.<name>.helo the same name.",
)
def pool_address_has_another_name(host: Host) -> Iterator[str]:
    """The PTR record of a pool's address is the pool's HELO name."""
    for pool, address in host.public_addresses():
        answer = host.dns.names.get(address)
        helo = host.settings.pools[pool].helo
        if answer is not None and answer.values and helo not in answer.values:
            yield f"pools.{pool}.addresses: PTR of {address} is {_listed(answer.values)}; pools.{pool}.helo is {helo}"


@check(
    Severity.WARNING,
    can_happen="The name in HELO cannot be confirmed; receivers that compare it with the address refuse the mail, or"
    " count it against the address.",
    remedy="Add the address to the A or AAAA records of pools.<name>.helo.",
)
def helo_leads_elsewhere(host: Host) -> Iterator[str]:
    """The HELO name of a pool resolves to each of its addresses."""
    for pool, address in host.public_addresses():
        helo = host.settings.pools[pool].helo
        answer = host.dns.addresses.get(helo)
        if answer is not None and not answer.problem and str(address) not in answer.values:
            kind = "A" if address.version == 4 else "AAAA"  # noqa: PLR2004  (the address family)
            there = [one for one in answer.values if (":" in one) == (":" in str(address))]
            yield f"pools.{pool}.helo: {helo} {kind} is {_listed(there) or '(none)'}; {address} is not in it"


@check(
    Severity.WARNING,
    can_happen="Notices have a null sender and are checked by their HELO name: receivers refuse them, or put them with"
    " spam.",
    remedy='Let the SPF record of the HELO name pass its addresses ("v=spf1 a -all"), or publish none for it.',
)
def spf_of_helo_fails(host: Host) -> Iterator[str]:
    """The SPF record of a HELO name, if it has one, passes the pool's addresses."""
    for one in host.dns.spf_of_helo:
        if one.result not in {Result.PASS, Result.NONE, Result.TEMPERROR}:
            yield f"pools.{one.pool}.helo: SPF of {one.domain} for {one.address}: {one.result} ({one.reason})"


@check(
    Severity.LATER,
    can_happen="Whether receivers see what they should is not known.",
    remedy="Run the check again when DNS answers (dns.nameservers, /etc/resolv.conf), or ask from elsewhere.",
)
def dns_cannot_tell(host: Host) -> Iterator[str]:
    """DNS answers every question of these checks."""
    problems = list(_dns_problems(host))
    if problems:
        more = f"; so it is with {len(problems) - 1} more questions" if len(problems) > 1 else ""
        yield f"{problems[0]}{more}"


def _dns_problems(host: Host) -> Iterator[str]:
    for address, answer in host.dns.names.items():
        if answer.problem:
            yield f"PTR of {address}: {answer.problem}"
    for name, answer in host.dns.addresses.items():
        if answer.problem:
            yield f"A and AAAA of {name}: {answer.problem}"
    for domain, answer in host.dns.mail_in.items():
        if answer.problem:
            yield f"MX of {domain}: {answer.problem}"
    for one in (*host.dns.spf, *host.dns.spf_of_rewritten, *host.dns.spf_of_helo):
        if one.result is Result.TEMPERROR:
            yield f"SPF of {one.domain}: {one.reason}"


def _listed(values: frozenset[str] | list[str]) -> str:
    return ", ".join(sorted(values)[:5])


NAME_CHECKS: Final[tuple[CheckOf[Host], ...]] = (
    pool_address_without_name,
    pool_address_has_another_name,
    helo_leads_elsewhere,
    spf_of_helo_fails,
    dns_cannot_tell,
)
