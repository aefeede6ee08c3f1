"""The message that a DSN returns: the fields by which it can be known again, and its ticket."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from deliverypools.core import ticket
from deliverypools.core.dsn.header_reader import FieldReader
from deliverypools.core.headers import Headers
from deliverypools.core.ticket import Binder, Binding

_MOST_FIELD_CHARACTERS: Final = 4000
_MOST_TICKET_CHARACTERS: Final = 100_000
_BODY_BYTES_KEPT: Final = 4096

_MOST_OF: Final = {
    ticket.HEADER.lower(): 2,
    # Postfix refuses mail with more (hopcount_limit).
    "received": 50,
    **dict.fromkeys(("return-path", "sender"), 1),
}
"""How many fields of a name are kept; of other names none."""
_BOUND: Final = frozenset(name.lower() for name in (*ticket.BOUND_FIELDS, "Subject"))
"""Kept in full, all of them: a digest of them tells whether the ticket belongs to the message."""
_SHOWS_A_MESSAGE: Final = frozenset({"from", "date", "message-id", "subject", "received"})
_ENVELOPE_LINE: Final = re.compile(rb">?From [^\n]*\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """The message that a DSN returns, as far as it is there."""

    headers: Headers
    """Its header fields that are of use, bounded in number and size; folds are kept as LF and white space, as a milter
    gets them. Names are lower case."""
    body_start: bytes = b""
    """b"" where only the header was returned."""


def read_returned(data: bytes) -> Returned | None:
    """Read a message, or its header alone; None where there is nothing of the kind."""
    envelope_line = _ENVELOPE_LINE.match(data)
    reader = FieldReader(data, envelope_line.end() if envelope_line else 0)
    kept: list[tuple[str, str]] = []
    counts: dict[str, int] = {}
    is_complete = True
    for name, value in reader:
        if name in _BOUND:
            kept.append((name, _text(value)))
        elif most := _MOST_OF.get(name):
            counts[name] = counts.get(name, 0) + 1
            if counts[name] > most:
                is_complete = False
                continue
            characters = _MOST_TICKET_CHARACTERS if name == ticket.HEADER.lower() else _MOST_FIELD_CHARACTERS
            kept.append((name, _text(value)[:characters]))
    if not any(name in _SHOWS_A_MESSAGE for name, _ in kept):
        return None
    has_body = reader.skip_empty_lines()
    body = data[reader.at : reader.at + _BODY_BYTES_KEPT] if has_body else b""
    return Returned(headers=Headers.of(kept, is_complete=is_complete), body_start=body)


def binding_of(returned: Returned) -> Binding:
    """Return what the ticket of a returned message is compared with; only the header counts (`after_filter`)."""
    binder = Binder()
    for name, value in returned.headers.fields:
        if name in _BOUND:
            binder.add_field(name, value)
    return binder.binding()


def _text(value: bytes) -> str:
    """Return a value as a milter would get it (`Milter.Base.header`)."""
    return value.replace(b"\r", b"").decode("utf-8", "surrogateescape").lstrip(" \t")
