"""The tag chooses the transport: in the cleanup services it is meant for, and in no other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from deliverypools.core.decisions import REFUSED_CONTENT_TAG, REFUSED_TAG
from deliverypools.core.fast_path import CLEANUP
from deliverypools.core.pool_transports import PREFIX, PoolTransport, all_transports
from deliverypools.core.postfix_check.checks import Check, Severity, check
from deliverypools.core.postfix_check.configuration import Service
from deliverypools.core.postfix_check.site import Site
from deliverypools.core.postfix_check.syntax import action_of, route_of
from deliverypools.core.probe import Probe

UNKNOWN_POOL: Final = "no-such-pool"
"""No pool of anybody's: the last rule has to answer."""


def tag(pool: str) -> str:
    """Return the tag as a header line."""
    return f"X-Delivery-Pool: {pool}"


@check(
    Severity.ERROR,
    can_happen="Mail of this pool leaves by another pool's address, or waits, or is held. A FILTER without a colon is"
    ' ignored ("bad FILTER command" in the log): such mail leaves by the fail-safe.',
    remedy="One rule a transport in tag_checks: /^X-Delivery-Pool:[[:space:]]*<pool>[[:space:]]*$/ FILTER pool-<pool>:"
    " (a second address: <pool>[[:space:]]+2 and pool-<pool>-2).",
)
def tag_without_its_transport(site: Site) -> Iterator[str]:
    """The tag of every pool, and of each of its further addresses, becomes FILTER to a transport of this pool."""
    for label, tables in tagged(site):
        for one in all_transports(site.settings.pools):
            answer = site.postfix.answer(tables, tag(one.tag))
            if problem := _problem(site, one, answer):
                yield f"{label}: {tag(one.tag)}: {answer or 'no answer'}: {problem}"


def _problem(site: Site, wanted: PoolTransport, answer: str) -> str:
    action, destination = action_of(answer)
    transport = route_of(destination).transport
    if action != "FILTER":
        return "FILTER is expected"
    if ":" not in destination:
        return "the colon after the transport is missing"
    if site.pool_of(transport) != wanted.pool:
        return "that is no transport of this pool"
    if why := site.postfix.why_missing(transport):
        return why
    is_first = wanted.number > 1 and transport == f"{PREFIX}{wanted.pool}"
    return f"{wanted.name} is expected" if is_first and site.postfix.transport(wanted.name) else ""


PROBE_HOSTS: Final[Mapping[int, str]] = {4: "[127.0.0.1]", 6: "[::1]"}
_PROBE_PORT: Final = 25


def probe_tags(site: Site) -> Iterator[tuple[str, str]]:
    """Yield the tags of the probes of `check --live`, with the destination that each has to have."""
    for one in all_transports(site.settings.pools):
        for family, host in PROBE_HOSTS.items():
            probe = Probe(transport_tag=one.tag, family=family, port=_PROBE_PORT, message_id="")
            yield probe.tag, f"{one.name}:{host}:{_PROBE_PORT}"


@check(
    Severity.WARNING,
    can_happen="`delivery-pools check --live` cannot send its probes by this transport: they are held, and the address"
    " that receivers see is not proved.",
    remedy="Take the rules with probe-4 and probe-6 from postfix-examples, for each transport of the pools.",
)
def probe_rules_missing(site: Site) -> Iterator[str]:
    """The tags of probes lead to a port of this machine, by the transport that they name."""
    rules = list(tagged(site))
    for name, wanted in probe_tags(site) if rules else ():
        answers = [site.postfix.answer(tables, tag(name)) for _, tables in rules]
        if not any(action_of(answer) == ("FILTER", wanted) for answer in answers):
            yield f"{tag(name)}: {answers[0] or 'no answer'}; FILTER {wanted} is expected"


@check(
    Severity.ERROR,
    can_happen="A tag for which there is no rule (a new pool, a typing error) chooses nothing: the mail leaves by the"
    " fail-safe, and nobody notices.",
    remedy="The last rule of tag_checks: /^X-Delivery-Pool:/ HOLD Delivery Pools: no transport for this pool",
)
def last_tag_rule_missing(site: Site) -> Iterator[str]:
    """A tag without a rule puts the message on hold."""
    for label, tables in tagged(site):
        answer = site.postfix.answer(tables, tag(UNKNOWN_POOL))
        if action_of(answer)[0] != "HOLD":
            yield f"{label}: a tag without a rule: {answer or 'no answer'}; HOLD is expected"


@check(
    Severity.ERROR,
    can_happen="Forwarded mail that must not leave is held instead of going back, or leaves.",
    remedy='Take the rules for "refused" and "refused content" from postfix-examples/hop/delivery-pools/tag_checks.',
)
def refused_tag_missing(site: Site) -> Iterator[str]:
    """The tags of forwards that are refused become FILTER error:."""
    if not site.is_hop:
        return
    for label, tables in tagged(site):
        for name in (REFUSED_TAG, REFUSED_CONTENT_TAG):
            answer = site.postfix.answer(tables, tag(name))
            action, destination = action_of(answer)
            if action != "FILTER" or not destination.startswith("error:"):
                yield f"{label}: {tag(name)}: {answer or 'no answer'}"


@check(
    Severity.ERROR,
    can_happen="No tag is looked at: all mail leaves by the fail-safe, the high-risk pool.",
    remedy="milter_header_checks = regexp:$config_directory/delivery-pools/tag_checks: on cleanup-egress (hop), in"
    " main.cf"
    " (express).",
)
def tag_not_looked_at(site: Site) -> Iterator[str]:
    """The cleanup service behind the decision has the rules for the tag."""
    for service in _deciding(site):
        if not site.postfix.value("milter_header_checks", service):
            yield f"{service.label}: milter_header_checks is empty"


@check(
    Severity.ERROR,
    can_happen="Whoever writes X-Delivery-Pool into a message chooses its pool, and so its source address.",
    remedy="Rules for the tag in milter_header_checks only; in the express profile also in header_checks of"
    " cleanup-pickup. They look at headers that a milter has added.",
)
def clients_choose_the_pool(site: Site) -> Iterator[str]:
    """A tag that a client writes has no effect: it is in no table for headers of clients."""
    for service in (one for door in site.postfix.running("smtpd") if (one := site.postfix.cleanup_of(door))):
        yield from _chosen_by_clients(site, service)
    if site.is_hop:
        for pickup in site.postfix.running("pickup"):
            if cleanup := site.postfix.cleanup_of(pickup):
                yield from _chosen_by_clients(site, cleanup)


def _chosen_by_clients(site: Site, cleanup: Service) -> Iterator[str]:
    tables = site.postfix.value("header_checks", cleanup)
    for pool in site.settings.pools:
        answer = site.postfix.answer(tables, tag(pool))
        if action_of(answer)[0] == "FILTER":
            yield f"{cleanup.label}: header_checks: {tag(pool)}: {answer}"


@check(
    Severity.ERROR,
    can_happen="In the first pass, where nothing is decided, a tag of another milter would choose the pool for local"
    " recipients too: they bounce.",
    remedy="milter_header_checks with the rules for the tag on cleanup-egress and cleanup-fast only.",
)
def tag_chosen_before_the_hop(site: Site) -> Iterator[str]:
    """In the hop profile, no tag chooses a transport in the first pass, but for that of the fast path."""
    if not site.is_hop:
        return
    behind_the_hop = {cleanup.name for one in site.listeners if (cleanup := site.postfix.cleanup_of(one))}
    doors = [one for one in site.doors if site.postfix.value("cleanup_service_name", one) != CLEANUP]
    used = (site.postfix.cleanup_of(one) for one in (*doors, *site.postfix.running("pickup", "bounce")))
    for name, cleanup in {one.name: one for one in used if one}.items():
        if name in behind_the_hop:
            yield f"{cleanup.label} is used in the first pass, and by the listener of the hop"
            continue
        tables = site.postfix.value("milter_header_checks", cleanup)
        for pool in site.settings.pools:
            if action_of(site.postfix.answer(tables, tag(pool)))[0] == "FILTER":
                yield f"{cleanup.label}: milter_header_checks = {tables}"
                break


@check(
    Severity.ERROR,
    can_happen="After postsuper -r a message has lost its pool, and leaves by the fail-safe.",
    remedy="-o header_checks=regexp:$config_directory/delivery-pools/tag_checks on cleanup-pickup, the site's own"
    " behind it.",
)
def requeue_loses_the_pool(site: Site) -> Iterator[str]:
    """In the express profile, the tag in the queue file keeps a requeued message in its pool."""
    if site.is_hop:
        return
    for pickup in site.postfix.running("pickup"):
        cleanup = site.postfix.cleanup_of(pickup)
        if cleanup is None:
            continue
        tables = site.postfix.value("header_checks", cleanup)
        for one in () if site.postfix.is_unknown(tables) else all_transports(site.settings.pools):
            answer = site.postfix.answer(tables, tag(one.tag))
            if _problem(site, one, answer):
                yield f"{cleanup.label}: header_checks: {tag(one.tag)}: {answer or 'no answer'}"


def _deciding(site: Site) -> Iterator[Service]:
    """Yield the cleanup services behind the decision; that of the fast path has its own checks."""
    doors = site.listeners if site.is_hop else (*site.doors, *site.postfix.running("pickup", "bounce"))
    seen: set[str] = set()
    for door in doors:
        cleanup = site.postfix.cleanup_of(door)
        if cleanup is not None and cleanup.name not in seen:
            seen.add(cleanup.name)
            yield cleanup


def tagged(site: Site) -> Iterator[tuple[str, str]]:
    """Yield the tables that look at the tag, with a label."""
    fast = [one for one in site.postfix.running("cleanup") if site.is_hop and one.name == CLEANUP]
    for service in (*_deciding(site), *fast):
        tables = site.postfix.value("milter_header_checks", service)
        if tables and not site.postfix.is_unknown(tables):
            yield f"{service.label}: milter_header_checks", tables


TAG_CHECKS: Final[tuple[Check, ...]] = (
    tag_not_looked_at,
    tag_without_its_transport,
    probe_rules_missing,
    last_tag_rule_missing,
    refused_tag_missing,
    clients_choose_the_pool,
    tag_chosen_before_the_hop,
    requeue_loses_the_pool,
)
