"""The fast path: what has to hold so that mail with recipients outside only leaves exactly as it came in.

The claim: a message of a user or a trusted client, all of whose recipients Postfix would lead to the hop
(`{rcpt_mailer}`, asked at each RCPT), leaves to these recipients and to nobody else, with this sender. Then it can be
decided, and given its transport by FILTER, in the first pass. FILTER replaces the routing of all recipients, so that
none may be added or changed behind our milter.

Routes themselves are no condition, whatever they are: the answer at RCPT is Postfix's own, for this sender and this
recipient, and is not asked again behind FILTER. smtpd(8) keeps such answers as long as its process lives, so that the
tables of routes are watched.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from deliverypools.core.postfix_check.checks import Check, Severity, check
from deliverypools.core.postfix_check.configuration import Service
from deliverypools.core.postfix_check.fast_actions import (
    rerouting_checks,
    rerouting_restrictions,
    restriction_lists,
)
from deliverypools.core.postfix_check.fast_addresses import (
    ADDRESS_MAPS,
    changes_of_addresses,
    has_mappings,
    named,
)
from deliverypools.core.postfix_check.fast_domains import OF_BARE_KEYS
from deliverypools.core.postfix_check.fast_doors import (
    FAST_DOOR_CHECKS,
    fast_doors,
    fast_path_half_set_up,
    fast_path_in_the_wrong_place,
    is_wanted,
    why_not_fast,
    why_unnamed,
)
from deliverypools.core.postfix_check.fast_tables import why_unknown
from deliverypools.core.postfix_check.routes import CHECK_PARAMETERS, EXACT, RESOLVER, access_tables
from deliverypools.core.postfix_check.server import DOMAIN_PARAMETERS
from deliverypools.core.postfix_check.site import Site
from deliverypools.core.postfix_check.syntax import file_specs, route_of, table_specs
from deliverypools.core.postfix_check.tags import last_tag_rule_missing, tag_without_its_transport

_OF_TAGS: Final = "milter_header_checks"
_MILTERS_BY_CLIENT: Final = "smtpd_milter_maps"
_REWRITER: Final = "rewrite_service_name"
_QUEUE_MANAGERS: Final = ("qmgr", "oqmgr", "nqmgr")
_ROUTES: Final = (
    "transport_maps",
    "sender_dependent_default_transport_maps",
    "sender_dependent_relayhost_maps",
    "relocated_maps",
    "relay_domains",
    *DOMAIN_PARAMETERS,
)
"""What `{rcpt_mailer}` and `{rcpt_host}` depend on."""
_NOT_IN_FILES: Final = frozenset({"inline", "static", "randmap", "fail"})
_READ_AGAIN: Final = EXACT - {"texthash", "inline"}
"""Tables in files whose keys are words: a process of Postfix that has one open notices when it is made anew."""
_NO_LIMIT: Final = "DISABLE"


@check(
    Severity.LATER,
    can_happen="All mail takes the hop, as it does without a fast path: nothing goes wrong. It costs a second pass.",
    remedy="Nothing has to be done. docs/fast-path.md says for each reason what would let mail with recipients outside"
    ' only skip the hop. With fast_path = "off" this is not looked at.',
)
def fast_path_not_possible(site: Site) -> Iterator[str]:
    """Nothing adds, rewrites or reroutes recipients behind our milter, so that it can decide in the first pass."""
    if is_wanted(site):
        yield from conditions(site)


def conditions(site: Site) -> Iterator[str]:
    """Yield why all mail takes the hop; nothing where it is proved that mail may skip it.

    What cannot be known is a reason. Of a site without a fast path the doors that could have one are looked at.
    """
    if not is_wanted(site):
        yield 'profile = "express": there is no hop' if not site.is_hop else 'fast_path = "off"'
        return
    yield from _set_up(site)
    doors = fast_doors(site) or tuple(one for one in site.doors if not why_not_fast(site, one))
    # Doors share most of what is wrong.
    yield from dict.fromkeys(reason for door in doors for reason in _reasons(site, door))


def _set_up(site: Site) -> Iterator[str]:
    if not fast_doors(site):
        yield from _without_doors(site)
    yield from fast_path_half_set_up.find(site)
    yield from fast_path_in_the_wrong_place.find(site)
    for label, value in site.postfix.wherever_set("default_transport", RESOLVER):
        if not site.is_to_the_hop(route_of(value)):
            yield f"{label} = {value}: not the hop"
    for parameter in _ROUTES:
        for label, value in site.postfix.wherever_set(parameter, RESOLVER):
            for spec in table_specs(value):
                # smtpd(8) would go on with what the server said long ago.
                if spec.partition(":")[0] not in _READ_AGAIN and (problem := why_unknown(site, spec)):
                    yield f"{label}: {problem}"
    yield from tag_without_its_transport.find(site)
    yield from last_tag_rule_missing.find(site)


def _without_doors(site: Site) -> Iterator[str]:
    if why := why_unnamed(site):
        yield why
        return
    yield "no smtpd service has the fast path; delivery-pools postfix install sets it up"
    for door in site.doors:
        if why := why_not_fast(site, door):
            yield f"{door.label}: {why}"


def _reasons(site: Site, door: Service) -> Iterator[str]:
    """Yield why mail that comes in by a door takes the hop."""
    if why := why_not_fast(site, door):
        yield f"{door.label}: {why}"
    cleanup = site.postfix.cleanup_of(door)
    if cleanup is None:
        yield f"{door.label}: it has no cleanup service"
        return
    # By the hop, a recipient goes where the queue manager is told; on the fast path, where smtpd(8) was told.
    for service in (door, cleanup, *site.postfix.running(*_QUEUE_MANAGERS)):
        if (name := site.postfix.value(_REWRITER, service)) != site.postfix.value(_REWRITER):
            yield f"{service.label}: {_REWRITER} = {name}: other addresses and routes than everybody else's"
    if has_mappings(site, door):
        yield from changes_of_addresses(site, cleanup)
    yield from rerouting_checks(site, door, cleanup)
    yield from rerouting_restrictions(site, door)
    yield from _other_milters(site, door)


def _other_milters(site: Site, door: Service) -> Iterator[str]:
    """Yield the milters that may change the envelope: one that comes later is told nothing of that by Postfix."""
    label = named("smtpd_milters", door)
    milters = site.postfix.clients("smtpd_milters", door)
    ours = next((index for index, one in enumerate(milters) if site.is_our_milter(one)), len(milters))
    for one in milters[ours + 1 :]:
        yield f"{label}: {one.endpoint} comes after ours"
    for one in milters[:ours]:
        if one.endpoint not in site.settings.fast_path_milters:
            yield (
                f"{label}: {one.endpoint} may add recipients, or give another sender; if it only adds header fields,"
                " name it in fast_path_milters"
            )
    tables = site.postfix.value(_MILTERS_BY_CLIENT, door)
    label = named(_MILTERS_BY_CLIENT, door)
    for spec in table_specs(tables):
        if problem := why_unknown(site, spec):
            yield f"{label}: {problem}"
    for spec, entry in site.postfix.entries(tables):
        # Without our milter there is no fast path.
        if entry.value.upper() != _NO_LIMIT:
            yield f"{label}: {spec}: {entry.key} {entry.value}"


# ---- tables


def fast_path_tables(site: Site) -> tuple[str, ...]:
    """Return the tables whose entries are looked at, beside those that other checks need; `file:` for plain files."""
    if not is_wanted(site):
        return ()
    values = [value for parameter in (*ADDRESS_MAPS, _OF_TAGS) for value in _values(site, parameter, "cleanup")]
    specs = [spec for value in values for spec in table_specs(value) if not site.is_our_socketmap(spec)]
    return tuple(dict.fromkeys((*specs, *_of_routes(site))))


def _values(site: Site, parameter: str, *commands: str) -> Iterator[str]:
    return (value for _, value in site.postfix.wherever_set(parameter, *commands))


def watched_tables(site: Site) -> tuple[str, ...]:
    """Return the tables, `type:name` or `file:/name`, a change of which could change what `conditions` says.

    Those that hold nothing of their own (`inline`, `static`) are part of main.cf and master.cf.
    """
    values = (*_of_sessions(site), *_of_cleanups(site))
    found = dict.fromkeys((*_of_routes(site), *(spec for value in values for spec in table_specs(value))))
    return tuple(
        spec for spec in found if spec.partition(":")[0] not in _NOT_IN_FILES and not site.is_our_socketmap(spec)
    )


def _of_routes(site: Site) -> Iterator[str]:
    """Yield the tables and files that say where a domain is delivered, and for which domains bare keys are."""
    routes = (value for parameter in _ROUTES for value in _values(site, parameter, RESOLVER))
    names = (value for parameter in OF_BARE_KEYS for value in _values(site, parameter, "cleanup"))
    for value in (*routes, *names):
        yield from table_specs(value)
        yield from file_specs(value)


def _of_sessions(site: Site) -> Iterator[str]:
    """Yield the values by which smtpd(8) looks into tables."""
    for door in fast_doors(site):
        for _, restrictions in restriction_lists(site, door):
            yield from access_tables(restrictions)
        yield site.postfix.value(_MILTERS_BY_CLIENT, door)


def _of_cleanups(site: Site) -> Iterator[str]:
    """Yield the values by which cleanup(8) looks into tables."""
    for door in fast_doors(site):
        cleanup = site.postfix.cleanup_of(door)
        yield from (site.postfix.value(one, cleanup) for one in (*ADDRESS_MAPS, *CHECK_PARAMETERS, _OF_TAGS))


FAST_PATH_CHECKS: Final[tuple[Check, ...]] = (*FAST_DOOR_CHECKS, fast_path_not_possible)
