"""Which tables the checks need, what they ask them, and what it means that one cannot be read."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from deliverypools.core.decisions import REFUSED_CONTENT_TAG, REFUSED_TAG
from deliverypools.core.pool_transports import all_transports
from deliverypools.core.postfix_check.checks import Check, Severity, check
from deliverypools.core.postfix_check.configuration import Entry, Table, Unread
from deliverypools.core.postfix_check.internal import relay_domain_tables
from deliverypools.core.postfix_check.pools import OUR_BODY_LINES
from deliverypools.core.postfix_check.routes import LOCAL_MAPS, PROBE_MAPS, checked_tables
from deliverypools.core.postfix_check.server import DOMAIN_PARAMETERS
from deliverypools.core.postfix_check.site import Site
from deliverypools.core.postfix_check.syntax import file_specs, table_specs
from deliverypools.core.postfix_check.tags import UNKNOWN_POOL, probe_tags, tag

_OF_INTERNAL: Final = ("internal_takes_mail_outside", "internal_server_is_not_ours")
_OF_TRANSPORT_MAPS: Final = (
    "transport_map_round_the_hop",
    "transport_map_to_this_machine",
    "transport_map_leads_nowhere",
    "transport_map_names_a_pool",
    "routes_out_of_date",
    *_OF_INTERNAL,
)
_LISTED: Final[tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]] = (
    ("trivial-rewrite", ("transport_maps",), _OF_TRANSPORT_MAPS),
    ("trivial-rewrite", tuple(PROBE_MAPS), ("probe_leaves_by_no_pool",)),
    ("trivial-rewrite", ("sender_dependent_default_transport_maps",), ("transport_by_sender",)),
    ("trivial-rewrite", DOMAIN_PARAMETERS, ("domain_not_accepted",)),
    (
        "local",
        LOCAL_MAPS,
        ("local_route_round_the_hop", "local_route_leads_nowhere", "internal_server_is_not_ours"),
    ),
    (
        "smtpd",
        ("smtpd_milter_maps",),
        (
            "milter_switched_off_for_clients",
            "milter_does_not_tempfail",
            "milter_protocol_too_old",
            "milter_socket_and_chroot",
        ),
    ),
)
"""The program that looks into a table, the parameters, and the checks that need what they list."""
_FILES: Final[Mapping[str, tuple[str, ...]]] = {
    "mynetworks": ("trusted_networks_differ",),
    **dict.fromkeys(DOMAIN_PARAMETERS, ("domain_not_accepted",)),
}
_OF_ACTIONS: Final = ("action_that_reroutes",)
_ASKED_FOR_TAGS: Final[Mapping[str, tuple[str, ...]]] = {
    "milter_header_checks": (
        "tag_without_its_transport",
        "probe_rules_missing",
        "last_tag_rule_missing",
        "refused_tag_missing",
    ),
    "header_checks": ("clients_choose_the_pool", "requeue_loses_the_pool"),
}
_ASKED_FOR_REMOVAL: Final[Mapping[str, tuple[str, ...]]] = {
    "smtp_header_checks": ("tag_stays_on_the_wire", "filter_takes_the_ticket"),
    "smtp_nested_header_checks": ("tag_stays_in_notices",),
    "smtp_body_checks": ("tag_stays_in_notices",),
}


def tables_to_list(site: Site) -> dict[str, set[str]]:
    """Return the tables whose entries are looked at, by `type:name`, each with the checks that need it."""
    wanted: dict[str, set[str]] = {}
    for command, parameters, checks in _LISTED:
        for parameter in parameters:
            for _, value in site.postfix.wherever_set(parameter, command):
                _note(wanted, table_specs(value), checks)
    for parameter, checks in _FILES.items():
        for _, value in site.postfix.wherever_set(parameter, "trivial-rewrite"):
            _note(wanted, file_specs(value), checks)
    _note(wanted, relay_domain_tables(site), _OF_INTERNAL)
    for _, tables in checked_tables(site):
        _note(wanted, table_specs(tables), _OF_ACTIONS)
    return wanted


def tables_to_ask(site: Site) -> dict[str, tuple[tuple[str, ...], set[str]]]:
    """Return the tables that are asked something: by `type:name`, the keys, and the checks that need the answers."""
    transports = (one.tag for one in all_transports(site.settings.pools))
    probes = (name for name, _ in probe_tags(site))
    tags = tuple(map(tag, (*transports, *probes, REFUSED_TAG, REFUSED_CONTENT_TAG, UNKNOWN_POOL)))
    asked: dict[str, tuple[tuple[str, ...], set[str]]] = {}
    for command, keys, parameters in (
        ("cleanup", tags, _ASKED_FOR_TAGS),
        ("smtp", OUR_BODY_LINES, _ASKED_FOR_REMOVAL),
    ):
        for parameter, checks in parameters.items():
            wanted: dict[str, set[str]] = {}
            for service in site.postfix.running(command):
                _note(wanted, table_specs(site.postfix.value(parameter, service)), checks)
            for spec, names in wanted.items():
                known_keys, known_names = asked.get(spec, ((), set()))
                asked[spec] = tuple(dict.fromkeys((*known_keys, *keys))), known_names | names
    return asked


def _note(wanted: dict[str, set[str]], specs: tuple[str, ...], checks: tuple[str, ...]) -> None:
    for spec in specs:
        wanted.setdefault(spec, set()).update(checks)


@check(
    Severity.ERROR,
    can_happen="The services that use the table end with a fatal error: their mail waits.",
    remedy="Write the table, or take it out of the parameter.",
)
def table_missing(site: Site) -> Iterator[str]:
    """Every table that is named is there."""
    for spec, table, _ in _with_problems(site, Unread.MISSING):
        yield f"{spec}: {table.problem}"


_NOT_KNOWN: Final = "What this table does to mail is not known; the checks that are named have not looked at it."


@check(
    Severity.WARNING,
    can_happen=_NOT_KNOWN,
    remedy="Run the check as a user who can read the table (root).",
)
def table_not_read(site: Site) -> Iterator[str]:
    """Whoever runs the check may read every table that matters."""
    return _not_examined(site, Unread.FORBIDDEN)


@check(
    Severity.WARNING,
    can_happen="What the rest of this table does to mail is not known: the checks that are named have not seen it.",
    remedy="Search the table for what these checks look for (postmap -s lists it), or split it into several.",
)
def table_too_large(site: Site) -> Iterator[str]:
    """Every table that matters could be read to its end: 16 MB are read of each."""
    return _not_examined(site, Unread.TOO_LARGE)


@check(
    Severity.WARNING,
    can_happen=_NOT_KNOWN,
    remedy="Mend what the message says: an error in the table or in its name, a table type that this machine has no"
    " package for, a server that does not answer. `postmap -q KEY TYPE:NAME` shows it again.",
)
def table_fails(site: Site) -> Iterator[str]:
    """Every table that matters answers."""
    return _not_examined(site, Unread.FAILED)


def _not_examined(site: Site, unread: Unread) -> Iterator[str]:
    for spec, table, checks in _with_problems(site, unread):
        yield f"{spec}: {table.problem}; not examined by: {', '.join(sorted(checks))}"


@check(
    Severity.LATER,
    can_happen="What the server answers can route mail round the decision; it cannot be listed beforehand.",
    remedy="Watch for mail that leaves by another transport than a pool's; or ask with postmap -q.",
)
def table_asked_elsewhere(site: Site) -> Iterator[str]:
    """Tables of servers (LDAP, SQL, socketmap) answer only when they are asked."""
    for spec, checks in tables_to_list(site).items():
        if site.postfix.tables.get(spec, Table()).is_asked_elsewhere:
            kind, _, _ = spec.partition(":")
            yield f"{kind} table; not examined by: {', '.join(sorted(checks))}"


def _with_problems(site: Site, unread: Unread) -> Iterator[tuple[str, Table, set[str]]]:
    wanted = tables_to_list(site)
    for spec, (_, checks) in tables_to_ask(site).items():
        wanted.setdefault(spec, set()).update(checks)
    for spec, checks in wanted.items():
        table = site.postfix.tables.get(spec, Table())
        if table.problem and table.unread is unread:
            yield spec, table, checks


def pattern_entries(text: str, kind: str) -> Iterator[Entry]:
    """Yield the rules of a regexp, pcre or cidr table: patterns and actions, without `if` and `endif`."""
    for line in _logical_lines(text):
        pattern = line.lstrip(_NEGATIONS)
        if not _IF.match(pattern):
            rule = _network_rule(pattern) if kind == "cidr" else _pattern_rule(pattern)
            yield replace(rule, is_negated="!" in line[: len(line) - len(pattern)])


_NEGATIONS: Final = f"!{string.whitespace}"
_IF: Final = re.compile(r"(if|endif)(?![0-9a-z])", re.IGNORECASE)


def _logical_lines(text: str) -> Iterator[str]:
    """Yield lines as in postconf(5): white space continues one; empty lines and comments are left out."""
    parts: list[str] = []
    for line in text.split("\n"):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not line[0].isspace() and parts:
            yield " ".join(parts)
            parts = []
        parts.append(line.strip())
    if parts:
        yield " ".join(parts)


def _network_rule(line: str) -> Entry:
    network, *action = line.split(None, 1) or ("",)
    return Entry(key=network, value=action[0].strip() if action else "")


def _pattern_rule(line: str) -> Entry:
    end = _end_of_pattern(line)
    flags, *action = _WHITE_SPACE.split(line[end:], maxsplit=1)
    return Entry(key=line[:end] + flags, value=action[0].strip() if action else "")


_WHITE_SPACE: Final = re.compile(r"\s+")


def _end_of_pattern(pattern: str) -> int:
    """Return where the flags begin: behind the next delimiter that has no backslash before it."""
    position = 1
    while position < len(pattern):
        if pattern[position] == "\\":
            position += 1
        elif pattern[position] == pattern[0]:
            return position + 1
        position += 1
    return len(pattern)


TABLE_CHECKS: Final[tuple[Check, ...]] = (
    table_missing,
    table_not_read,
    table_too_large,
    table_fails,
    table_asked_elsewhere,
)
