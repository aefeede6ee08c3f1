"""What slows or stops the pools' transports, and what lies beside this configuration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from deliverypools.core.pool_transports import transports_of
from deliverypools.core.postfix_check.checks import Check, Severity, check
from deliverypools.core.postfix_check.site import HOP_CLIENT, INTERNAL, Site

_TUNING: Final = (
    "destination_concurrency_limit",
    "destination_recipient_limit",
    "destination_rate_delay",
    "destination_concurrency_failed_cohort_limit",
    "destination_concurrency_negative_feedback",
    "destination_concurrency_positive_feedback",
    "initial_destination_concurrency",
    "transport_rate_delay",
)
"""Parameters of qmgr(8) that have the name of a transport in front."""


@check(
    Severity.WARNING,
    can_happen="Mail of the transport is not tried until somebody runs postqueue -f, and goes back to its sender after"
    " maximal_queue_lifetime.",
    remedy="Take the transport out of defer_transports when the pause is over.",
)
def pool_is_deferred(site: Site) -> Iterator[str]:
    """No transport of ours is paused."""
    for name in site.postfix.words("defer_transports"):
        if site.pool_of(name) or (site.is_hop and name in (HOP_CLIENT, INTERNAL)):
            yield f"defer_transports: {name}"


@check(
    Severity.WARNING,
    can_happen="Mail to other servers is sent faster, or slower, than the site had decided: these parameters have the"
    " name of a transport in front, and those of smtp do not apply to the pools.",
    remedy="Set the same for each transport of the pools: pool-<name>_destination_rate_delay and so on.",
)
def tuning_not_copied(site: Site) -> Iterator[str]:
    """What main.cf sets for the transport smtp, it sets for the transports of the pools."""
    for ending in _TUNING:
        common = site.postfix.value(f"default_{ending}")
        wanted = site.postfix.value(f"smtp_{ending}") or common
        if wanted == common:
            continue
        for pool, service in site.pool_transports:
            if service.name not in {one.name for one in transports_of(pool, site.settings.pools[pool])}:
                # It has what the site's own transport had whose place it takes.
                continue
            own = site.postfix.value(f"{service.name}_{ending}") or common
            if own == common:
                yield f"smtp_{ending} = {wanted}, and {service.name}_{ending} is not set"


@check(
    Severity.LATER,
    can_happen="Mail that another instance sends is not decided here.",
    remedy="Examine each of them: delivery-pools check --postfix DIR.",
)
def other_instances_not_examined(site: Site) -> Iterator[str]:
    """There is one Postfix on this machine."""
    for directory in site.postfix.words("multi_instance_directories"):
        yield f"multi_instance_directories: {directory}"


@check(
    Severity.WARNING,
    can_happen="Postfix does not see what was edited: it goes on using what was compiled before.",
    remedy="postmap TYPE:NAME (aliases: newaliases), or undo the change.",
)
def table_not_compiled_again(site: Site) -> Iterator[str]:
    """Tables that are compiled are newer than the files that they are compiled from."""
    yield from (f"{spec}: changed after it was compiled" for spec in site.postfix.outdated)


QUEUE_CHECKS: Final[tuple[Check, ...]] = (
    pool_is_deferred,
    tuning_not_copied,
    other_instances_not_examined,
    table_not_compiled_again,
)
