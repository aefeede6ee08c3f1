"""What is known of the tables that the fast path depends on."""

from __future__ import annotations

from typing import Final

from deliverypools.core.postfix_check.configuration import Entry, Table
from deliverypools.core.postfix_check.routes import EXACT
from deliverypools.core.postfix_check.site import Site

PATTERNS: Final = frozenset({"regexp", "pcre"})
ANSWERS_ALL: Final = frozenset({"static", "randmap"})
_LISTED: Final = EXACT | PATTERNS | ANSWERS_ALL | {"cidr"}
"""Types of tables whose entries can be looked at."""
_CUT: Final = "..."
"""Ends the key of an entry that was too long to be kept whole."""


def is_cut(entry: Entry) -> bool:
    """Tell whether only the beginning of an entry's key is known."""
    return entry.key.endswith(_CUT)


def entries_of(site: Site, spec: str) -> tuple[Entry, ...]:
    """Return the entries of a table, as far as they were read."""
    return site.postfix.tables.get(spec, Table()).entries


def why_unknown(site: Site, spec: str) -> str:
    """Return why it cannot be told what a table answers; "" if its entries are known."""
    kind = spec.partition(":")[0]
    table = site.postfix.tables.get(spec)
    if kind not in _LISTED or (table is not None and table.is_asked_elsewhere):
        return f"{kind} table: what it answers is not known"
    if table is None:
        return f"{spec}: it was not read"
    return f"{spec}: {table.problem}" if table.problem else ""
