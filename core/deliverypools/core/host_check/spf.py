"""SPF (RFC 7208) of our domains: mail of our users passes from their pools, forwarded mail is not vouched for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from deliverypools.core.authentication import Result
from deliverypools.core.host_check.facts import MOST_DOMAINS, Host, SpfAnswer
from deliverypools.core.postfix_check.checks import CheckOf, Severity, check

RELAY: Final = "relay"
_UNKNOWN: Final = (Result.TEMPERROR, Result.PERMERROR)


@check(
    Severity.WARNING,
    can_happen="Receivers cannot tell mail of the domain from forgeries; some refuse it.",
    remedy='Publish a TXT record: "v=spf1 <the addresses of normal and high-risk> -all".',
)
def spf_missing(host: Host) -> Iterator[str]:
    """Every accepted domain publishes an SPF record."""
    for domain in dict.fromkeys(one.domain for one in host.dns.spf if one.result is Result.NONE):
        yield f"{domain} has no SPF record"


@check(
    Severity.WARNING,
    can_happen="Receivers ignore the record, or refuse the mail of the domain.",
    remedy="Mend what the message says (RFC 7208: one record, at most ten terms that look something up).",
)
def spf_cannot_be_evaluated(host: Host) -> Iterator[str]:
    """The SPF records of our domains can be evaluated."""
    for one in (*host.dns.spf, *host.dns.spf_of_rewritten):
        if one.result is Result.PERMERROR:
            yield f"SPF of {one.domain}: {one.reason}"


@check(
    Severity.WARNING,
    can_happen="Receivers refuse mail of our own users that leaves by this pool, or put it with spam.",
    remedy="Add the address to the SPF record of the domain: ip4:... or ip6:...",
)
def spf_lacks_pool(host: Host) -> Iterator[str]:
    """The SPF records of accepted domains pass all pools but relay: high-risk too, by which mail of theirs leaves."""
    for one in host.dns.spf:
        if one.pool != RELAY and _is_known(one) and one.result is not Result.PASS:
            yield _told(one)


@check(
    Severity.WARNING,
    can_happen="Forwarded mail of strangers that leaves by relay passes as mail of our own domain: what the pool is to"
    " keep apart counts for the domain.",
    remedy="Take the addresses of pools.relay out of the domain's SPF record; they belong into that of"
    " forwarding.srs_domain.",
)
def spf_names_relay(host: Host) -> Iterator[str]:
    """The SPF records of accepted domains do not pass the relay pool."""
    for one in host.dns.spf:
        if one.pool == RELAY and one.result is Result.PASS and one.domain != host.settings.forwarding.srs_domain:
            yield _told(one)


@check(
    Severity.WARNING,
    can_happen="Receivers refuse forwarded mail, whose sender is in this domain, or put it with spam.",
    remedy="Add the address to the SPF record of forwarding.srs_domain.",
)
def spf_of_rewritten_senders_lacks_pool(host: Host) -> Iterator[str]:
    """The SPF record of forwarding.srs_domain passes the pool by which forwarded mail leaves."""
    for one in host.dns.spf_of_rewritten:
        if one.result not in {Result.PASS, *_UNKNOWN}:
            yield _told(one)


@check(
    Severity.LATER,
    can_happen="Nothing is known of the SPF records and mail servers of the others.",
    remedy="Look at them with another program, or let all have the same record (redirect=).",
)
def domains_not_looked_up(host: Host) -> Iterator[str]:
    """All accepted domains are looked up in DNS; of many, the first ones are."""
    count = len(host.settings.accepted_domains)
    if host.dns.spf and count > MOST_DOMAINS:
        yield f"accepted_domains: the first {MOST_DOMAINS} of {count} were looked up"


def _is_known(one: SpfAnswer) -> bool:
    return one.result not in {Result.NONE, *_UNKNOWN}


def _told(one: SpfAnswer) -> str:
    return f"SPF of {one.domain} for {one.address} (pools.{one.pool}): {one.result} ({one.reason})"


SPF_CHECKS: Final[tuple[CheckOf[Host], ...]] = (
    spf_missing,
    spf_cannot_be_evaluated,
    spf_lacks_pool,
    spf_names_relay,
    spf_of_rewritten_senders_lacks_pool,
    domains_not_looked_up,
)
