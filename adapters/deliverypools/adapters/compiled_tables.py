"""Look-up tables that postmap(1) compiles: which are older than the file that an administrator edits."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Final

from deliverypools.core.postfix_check.configuration import PostfixConfiguration
from deliverypools.core.postfix_check.syntax import table_specs

_ENDINGS: Final[Mapping[str, str]] = {
    "hash": ".db",
    "btree": ".db",
    "lmdb": ".lmdb",
    "cdb": ".cdb",
    "dbm": ".pag",
    "sdbm": ".pag",
}
"""Of the compiled file, by the type of the table."""


def outdated_tables(postfix: PostfixConfiguration) -> Iterator[str]:
    """Yield the tables, `type:name`, whose source is newer than what was compiled of it."""
    values = [*postfix.parameters.values(), *(value for one in postfix.services for value in one.options.values())]
    named = dict.fromkeys(spec for value in values if ":" in value for spec in table_specs(value))
    for spec in named:
        kind, _, name = spec.partition(":")
        if kind in _ENDINGS and name.startswith("/") and _is_newer(name, name + _ENDINGS[kind]):
            yield spec


def _is_newer(source: str, compiled: str) -> bool:
    try:
        return os.stat(source).st_mtime > os.stat(compiled).st_mtime  # noqa: PTH116
    except (OSError, ValueError):
        return False
