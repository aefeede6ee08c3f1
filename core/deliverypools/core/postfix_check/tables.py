"""Which tables the checks need, what they ask them, and what it means that one cannot be read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from deliverypools.core.decisions import REFUSED_CONTENT_TAG, REFUSED_TAG
from deliverypools.core.postfix_check.checks import Check, Severity, check
from deliverypools.core.postfix_check.configuration import Entry, Table
from deliverypools.core.postfix_check.pools import OUR_BODY_LINES
from deliverypools.core.postfix_check.routes import checked_tables
from deliverypools.core.postfix_check.server import DOMAIN_PARAMETERS
from deliverypools.core.postfix_check.site import Site
from deliverypools.core.postfix_check.syntax import table_specs
from deliverypools.core.postfix_check.tags import UNKNOWN_POOL, tag

_LISTED: Final[Mapping[str, tuple[str, ...]]] = {
    "transport_maps": ("transport_map_round_the_hop", "transport_map_leads_nowhere", "transport_map_names_a_pool"),
    "smtpd_milter_maps": ("milter_switched_off_for_clients",),
    **dict.fromkeys(DOMAIN_PARAMETERS, ("domain_not_accepted",)),
}
_OF_ACTIONS: Final = ("action_that_reroutes",)
_ASKED_FOR_TAGS: Final[Mapping[str, tuple[str, ...]]] = {
    "milter_header_checks": ("tag_without_its_transport", "last_tag_rule_missing", "refused_tag_missing"),
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
    for parameter, checks in _LISTED.items():
        for service in (None, *site.postfix.running("smtpd")):
            _note(wanted, site.postfix.value(parameter, service), checks)
    for _, tables in checked_tables(site):
        _note(wanted, tables, _OF_ACTIONS)
    return wanted


def tables_to_ask(site: Site) -> dict[str, tuple[tuple[str, ...], set[str]]]:
    """Return the tables that are asked something: by `type:name`, the keys, and the checks that need the answers."""
    tags = tuple(tag(pool) for pool in (*site.settings.pools, REFUSED_TAG, REFUSED_CONTENT_TAG, UNKNOWN_POOL))
    asked: dict[str, tuple[tuple[str, ...], set[str]]] = {}
    for command, keys, parameters in (
        ("cleanup", tags, _ASKED_FOR_TAGS),
        ("smtp", OUR_BODY_LINES, _ASKED_FOR_REMOVAL),
    ):
        for parameter, checks in parameters.items():
            wanted: dict[str, set[str]] = {}
            for service in site.postfix.running(command):
                _note(wanted, site.postfix.value(parameter, service), checks)
            for spec, names in wanted.items():
                known_keys, known_names = asked.get(spec, ((), set()))
                asked[spec] = tuple(dict.fromkeys((*known_keys, *keys))), known_names | names
    return asked


def _note(wanted: dict[str, set[str]], tables: str, checks: tuple[str, ...]) -> None:
    for spec in table_specs(tables):
        wanted.setdefault(spec, set()).update(checks)


@check(
    Severity.ERROR,
    can_happen="The services that use the table end with a fatal error: their mail waits.",
    remedy="Write the table, or take it out of the parameter.",
)
def table_missing(site: Site) -> Iterator[str]:
    """Every table that is named is there."""
    for spec, table, _ in _with_problems(site):
        if table.is_missing:
            yield f"{spec}: {table.problem}"


@check(
    Severity.WARNING,
    can_happen="What this table does to mail is not known; the checks that are named have not looked at it.",
    remedy="Run the check as a user who can read the table (root).",
)
def table_not_read(site: Site) -> Iterator[str]:
    """Every table that matters could be read, to its end."""
    for spec, table, checks in _with_problems(site):
        if not table.is_missing:
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


def _with_problems(site: Site) -> Iterator[tuple[str, Table, set[str]]]:
    wanted = tables_to_list(site)
    for spec, (_, checks) in tables_to_ask(site).items():
        wanted.setdefault(spec, set()).update(checks)
    for spec, checks in wanted.items():
        table = site.postfix.tables.get(spec, Table())
        if table.problem:
            yield spec, table, checks


def pattern_entries(text: str) -> Iterator[Entry]:
    """Yield the rules of a regexp, pcre or cidr table: patterns and actions, without `if` and `endif`."""
    for line in _logical_lines(text):
        entry = _rule_of(line)
        if entry is not None:
            yield entry


def _logical_lines(text: str) -> Iterator[str]:
    """Yield lines as in postconf(5): white space continues one; empty lines and comments are left out."""
    parts: list[str] = []
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not line[0].isspace() and parts:
            yield " ".join(parts)
            parts = []
        parts.append(line.strip())
    if parts:
        yield " ".join(parts)


def _rule_of(line: str) -> Entry | None:
    pattern = line.removeprefix("!").lstrip()
    first_word = pattern.split(None, 1)[0].lower() if pattern else ""
    if first_word in ("if", "endif") or first_word.startswith(("if/", "if!")):
        return None
    if pattern[:1].isalnum() or pattern[:1] in "[:":
        key, _, value = line.partition(" ")  # cidr
        return Entry(key=key, value=value.strip())
    end = _end_of_pattern(pattern)
    flags, _, value = pattern[end:].partition(" ")
    return Entry(key=pattern[:end] + flags, value=value.strip())


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


TABLE_CHECKS: Final[tuple[Check, ...]] = (table_missing, table_not_read, table_asked_elsewhere)
