"""The author domain: whose message it claims to be (RFC 9989 section 5.3.1, RFC 5322 section 3.6.2).

What is shown to the reader must be what was checked. A From field that readers may understand in several ways has no
author domain here: nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from deliverypools.core.authentication.dmarc_records import mail_domain
from deliverypools.core.headers import Headers

_TOO_LONG: Final = 4000
"""Characters of a field; longer ones may have been cut before."""
_MOST_FIELDS: Final = 10
_TOKENS: Final = re.compile(
    r"""
    (?P<blank>\s+)
    | (?P<quoted>"(?:[^"\\]|\\.)*")
    | (?P<literal>\[[^\[\]\\]*\])
    | (?P<special>[()<>\[\],;:@"\\])
    | (?P<atom>[^\s()<>\[\],;:@"\\]+)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_PARTS: Final = re.compile(r"\\.|[()]", re.DOTALL)


class _UnclearError(Exception):
    """A field that cannot be read in one way only."""


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str


def author_domains(headers: Headers) -> tuple[str, ...]:
    """Return the different domains of all addresses in all From fields, as A-labels, sorted.

    () where there is none, or where that cannot be told: a field that can be read in several ways, an address without
    a domain name, a field or a header that is too long.
    """
    fields = list(headers.all("From"))
    if not headers.is_complete or len(fields) > _MOST_FIELDS:
        return ()
    try:
        return tuple(sorted({domain for field in fields for domain in _domains(field)}))
    except _UnclearError:
        return ()


def _domains(field: str) -> set[str]:
    """Return the domains of all addresses in a From field. Raises _UnclearError."""
    if len(field) >= _TOO_LONG:
        raise _UnclearError
    found = {_domain(address) for address in _addresses(list(_tokens(field)))}
    if not found:
        raise _UnclearError
    return found


def _tokens(field: str) -> Iterator[_Token]:
    """Yield the parts of a field; a comment is as good as a blank. Raises _UnclearError."""
    at = 0
    while at < len(field):
        token = _TOKENS.match(field, at)
        if not token or not token.lastgroup:
            raise _UnclearError
        if token[0] == "(":
            at = _end_of_comment(field, at)
            yield _Token("blank", " ")
        else:
            at = token.end()
            yield _Token(token.lastgroup, token[0])


def _end_of_comment(field: str, start: int) -> int:
    """Return where the comment ends that starts here; they nest. Raises _UnclearError where it does not end."""
    depth = 0
    for part in _COMMENT_PARTS.finditer(field, start):
        depth += {"(": 1, ")": -1}.get(part[0], 0)
        if not depth:
            return part.end()
    raise _UnclearError


def _addresses(tokens: list[_Token]) -> Iterator[list[_Token]]:
    """Yield the addresses (addr-spec) of an address list with groups. Raises _UnclearError.

    A name without quotes may hold "@" and commas in spite of RFC 5322, and often does: it ends where "<" begins.
    """
    address: list[_Token] = []
    in_angle = False
    for token in tokens:
        if token.kind != "special" or token.text == "@":
            address.append(token)
            continue
        if token.text not in ("<>" if in_angle else "<,;:"):
            raise _UnclearError
        if token.text == ">" or (token.text in ",;:" and _has_at(address)):
            yield address
        in_angle = token.text == "<"
        address = []
    if in_angle:
        raise _UnclearError
    if _has_at(address):
        yield address


def _has_at(tokens: list[_Token]) -> bool:
    """Tell whether these tokens look like an address."""
    return any(token.text == "@" for token in tokens)


def _domain(address: list[_Token]) -> str:
    """Return the domain of one address. Raises _UnclearError where there is none or more than one."""
    parts = [token for token in address if token.kind != "blank"]
    positions = [position for position, token in enumerate(parts) if token.text == "@"]
    if len(positions) != 1:
        raise _UnclearError
    local_part, domain = parts[: positions[0]], parts[positions[0] + 1 :]
    # Blanks are allowed around the dots only, and no one writes them.
    if not local_part or len(domain) != 1 or domain[0].kind != "atom":
        raise _UnclearError
    name = mail_domain(domain[0].text)
    if not name:
        raise _UnclearError
    return name
