"""What scanners that ran before us say of a message in its header."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import Final

from deliverypools.core.facts import printable
from deliverypools.core.headers import Headers

_MOST_OF_A_HEADER: Final = 4000
_SAYS_YES: Final = frozenset({"yes", "true", "spam", "1"})


def spam_evidence(headers: Headers, signs: Iterable[str]) -> str:
    """Return the first header that calls the message spam, or "".

    `signs` is the setting `spam.headers`: "Name: value" matches a value that begins with that word or phrase,
    without case; "Name" alone matches yes, true, spam or 1.
    """
    for name, wanted in _read(tuple(signs)):
        for value in headers.all(name):
            if _says(value, wanted):
                return f"{name}: {printable(value.strip(), 80)}"
    return ""


@functools.lru_cache(maxsize=8)
def _read(signs: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return the name and the wanted value of each sign: settings are few, messages many."""
    parts = (sign.partition(":") for sign in signs)
    return tuple((name.strip(), wanted.strip().lower()) for name, _, wanted in parts)


def _says(value: str, wanted: str) -> bool:
    given = " ".join(value[:_MOST_OF_A_HEADER].lower().split())
    if not wanted:
        return re.split(r"[\s,;]", given, maxsplit=1)[0] in _SAYS_YES
    return given.startswith(wanted) and not given[len(wanted) : len(wanted) + 1].isalnum()
