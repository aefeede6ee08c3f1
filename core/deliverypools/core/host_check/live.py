"""What `check --live` sends, what has to come of it, and what it means when something else does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from deliverypools.core.addresses import domain_of
from deliverypools.core.facts import printable
from deliverypools.core.pool_transports import all_transports
from deliverypools.core.postfix_check.inside import is_delivered_here
from deliverypools.core.postfix_check.site import HOP_CLIENT, Site
from deliverypools.core.postfix_check.syntax import route_of, split_list
from deliverypools.core.settings import Settings
from deliverypools.core.settings.values import IpAddress, client_ip

LOOPBACK: Final[Mapping[int, str]] = {4: "127.0.0.1", 6: "::1"}
"""Where the sink listens, by address family."""
_OURS: Final = "x-delivery-pool"


class Outcome(StrEnum):
    """What became of one probe."""

    RIGHT = "right"
    WRONG_ADDRESS = "wrong address"
    WRONG_HELO = "wrong HELO name"
    OUR_HEADERS = "our headers left"
    """The tag or the ticket was on the wire."""
    NOT_TAKEN = "not delivered"
    """It was sent by the right address, but the delivery was not completed."""
    MISSING = "did not come"
    PAUSED = "paused by defer_transports"
    NOT_TESTED = "not tested"
    """Nothing came of a family that the pool has not; whether its transport has tried is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One probe: a transport, over one address family."""

    pool: str
    transport: str
    transport_tag: str
    family: int
    address: IpAddress | None
    """By which it has to come; None: the pool has no address of this family, so nothing may come."""
    helo: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the sink saw of one probe."""

    source: str
    helo: str
    header: bytes | None = None
    """The header of the message; None: it was not handed over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one probe, and why."""

    wanted: Wanted
    outcome: Outcome
    seen: Seen | None = None
    reason: str = ""
    """What Postfix says of it, or what was found."""


def probes_for(settings: Settings, families: frozenset[int]) -> tuple[Wanted, ...]:
    """Return the probes that show all addresses of all pools, in the families that Postfix uses."""
    return tuple(
        Wanted(
            pool=one.pool,
            transport=one.name,
            transport_tag=one.tag,
            family=family,
            address=one.ipv4 if family == 4 else one.ipv6,  # noqa: PLR2004  (the address family)
            helo=settings.pools[one.pool].helo,
        )
        for one in all_transports(settings.pools)
        for family in sorted(families)
    )


def paused_transports(site: Site) -> frozenset[str]:
    """Return the transports whose mail the administrator lets wait (defer_transports)."""
    return frozenset(site.postfix.words("defer_transports"))


def starts_tls_at_once(site: Site, wanted: Wanted) -> bool:
    """Tell whether a transport speaks TLS from the first byte (smtp_tls_wrappermode), as smarthosts on port 465 do."""
    return site.postfix.is_on("smtp_tls_wrappermode", site.postfix.transport(wanted.transport))


def judge_probe(
    wanted: Wanted,
    seen: Seen | None,
    queue_reason: str,
    failed_by: str = "",
    paused: frozenset[str] = frozenset(),
) -> Result:
    """Return what became of a probe.

    `queue_reason` is what Postfix says of it while it waits, "" where it says nothing; `failed_by` is the transport
    that could not deliver it, as the mail log has it, "" where no log tells.
    """
    if seen is None and paused.intersection((wanted.transport, HOP_CLIENT)):
        return Result(wanted=wanted, outcome=Outcome.PAUSED, reason=queue_reason)
    if seen is None:
        return Result(wanted=wanted, outcome=_not_come(wanted, failed_by), reason=queue_reason)
    outcome, reason = _judged(wanted, seen)
    return Result(wanted=wanted, outcome=outcome, seen=seen, reason=reason or queue_reason)


def _not_come(wanted: Wanted, failed_by: str) -> Outcome:
    if wanted.address is not None:
        return Outcome.MISSING
    return Outcome.RIGHT if failed_by == wanted.transport else Outcome.NOT_TESTED


def _judged(wanted: Wanted, seen: Seen) -> tuple[Outcome, str]:
    if wanted.address is None or client_ip(seen.source) != wanted.address:
        return Outcome.WRONG_ADDRESS, ""
    if seen.helo.lower() != wanted.helo:
        return Outcome.WRONG_HELO, ""
    if seen.header is None:
        return Outcome.NOT_TAKEN, ""
    if names := sorted(set(_our_fields(seen.header))):
        return Outcome.OUR_HEADERS, ", ".join(names)
    return Outcome.RIGHT, ""


def _our_fields(header: bytes) -> Iterator[str]:
    """Yield the names of our header fields. The request that makes a probe is none of them: only probes have it."""
    for line in header.split(b"\n"):
        name = line.partition(b":")[0].decode("ascii", "replace").strip()
        if name.lower() in {_OURS, f"{_OURS}-ticket", f"{_OURS}-dsn"}:
            yield printable(name)


# ---- copies


def copies_outside(site: Site, copied_to: Callable[[str], str]) -> Iterator[str]:
    """Yield whom outside Postfix would send a copy of each probe, with the parameter that says so.

    `copied_to` tells what tables, the value of recipient_bcc_maps, answer to a probe's recipient; "" for nothing.
    """
    for pickup in site.postfix.running("pickup"):
        if "no_address_mappings" in site.postfix.words("receive_override_options", pickup):
            continue
        cleanup = site.postfix.cleanup_of(pickup)
        tables = site.postfix.value("recipient_bcc_maps", cleanup)
        copies = {
            "always_bcc": site.postfix.value("always_bcc", cleanup),
            "recipient_bcc_maps": copied_to(tables) if tables else "",
        }
        for parameter, addresses in copies.items():
            for address in split_list(addresses):
                if _leads_outside(site, address):
                    yield f"{parameter}: {address}"


def _leads_outside(site: Site, address: str) -> bool:
    """Tell whether an address is not delivered by this machine, nor by a transport that transport_maps names for it."""
    domain = domain_of(address)
    if not domain or site.settings.is_accepted_domain(domain) or is_delivered_here(site, domain):
        return False
    entries = site.postfix.entries(site.postfix.value("transport_maps"))
    named = [route_of(entry.value).transport for _, entry in entries if entry.key.lower() in (domain, address.lower())]
    return not named or named[0] in ("", HOP_CLIENT)
