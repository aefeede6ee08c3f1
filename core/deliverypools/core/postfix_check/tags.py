"""The tag chooses the transport: in the cleanup services it is meant for, and in no other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from deliverypools.core.decisions import REFUSED_CONTENT_TAG, REFUSED_TAG
from deliverypools.core.postfix_check.checks import Check, Severity, check
from deliverypools.core.postfix_check.configuration import Service
from deliverypools.core.postfix_check.site import Site
from deliverypools.core.postfix_check.syntax import action_of, route_of

UNKNOWN_POOL: Final = "no-such-pool"
"""No pool of anybody's: the last rule has to answer."""


def tag(pool: str) -> str:
    """Return the tag as a header line."""
    return f"X-Delivery-Pool: {pool}"


@check(
    Severity.ERROR,
    can_happen="Mail of this pool leaves by another pool's address, or waits, or is held. A FILTER without a colon is"
    ' ignored ("bad FILTER command" in the log): such mail leaves by the fail-safe.',
    remedy="One rule a pool in tag_checks: /^X-Delivery-Pool:[[:space:]]*<pool>[[:space:]]*$/ FILTER pool-<pool>:",
)
def tag_without_its_transport(site: Site) -> Iterator[str]:
    """The tag of every pool becomes FILTER to a transport of this pool."""
    for label, tables in tagged(site):
        for pool in site.settings.pools:
            answer = site.postfix.answer(tables, tag(pool))
            if problem := _problem(site, pool, answer):
                yield f"{label}: {tag(pool)}: {answer or 'no answer'}: {problem}"


def _problem(site: Site, pool: str, answer: str) -> str:
    action, destination = action_of(answer)
    transport = route_of(destination).transport
    if action != "FILTER":
        return "FILTER is expected"
    if ":" not in destination:
        return "the colon after the transport is missing"
    if site.pool_of(transport) != pool:
        return "that is no transport of this pool"
    if site.postfix.transport(transport) is None:
        return "there is no such transport in master.cf"
    return ""


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
    remedy="milter_header_checks with the rules for the tag on cleanup-egress only.",
)
def tag_chosen_before_the_hop(site: Site) -> Iterator[str]:
    """In the hop profile, no tag chooses a transport in the first pass."""
    if not site.is_hop:
        return
    behind_the_hop = {one.name for one in _deciding(site)}
    used = (site.postfix.cleanup_of(one) for one in (*site.doors, *site.postfix.running("pickup", "bounce")))
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
        for pool in () if site.postfix.is_unknown(tables) else site.settings.pools:
            answer = site.postfix.answer(tables, tag(pool))
            if _problem(site, pool, answer):
                yield f"{cleanup.label}: header_checks: {tag(pool)}: {answer or 'no answer'}"


def _deciding(site: Site) -> Iterator[Service]:
    """Yield the cleanup services behind the decision."""
    doors = site.listeners if site.is_hop else (*site.doors, *site.postfix.running("pickup", "bounce"))
    seen: set[str] = set()
    for door in doors:
        cleanup = site.postfix.cleanup_of(door)
        if cleanup is not None and cleanup.name not in seen:
            seen.add(cleanup.name)
            yield cleanup


def tagged(site: Site) -> Iterator[tuple[str, str]]:
    """Yield the tables that look at the tag, with a label."""
    for service in _deciding(site):
        tables = site.postfix.value("milter_header_checks", service)
        if tables and not site.postfix.is_unknown(tables):
            yield f"{service.label}: milter_header_checks", tables


TAG_CHECKS: Final[tuple[Check, ...]] = (
    tag_not_looked_at,
    tag_without_its_transport,
    last_tag_rule_missing,
    refused_tag_missing,
    clients_choose_the_pool,
    tag_chosen_before_the_hop,
    requeue_loses_the_pool,
)
