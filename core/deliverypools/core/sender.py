"""The author of a message, and its envelope sender where only the header is left."""

from __future__ import annotations

import re
from email.utils import parseaddr

from deliverypools.core.addresses import strip_brackets
from deliverypools.core.headers import Headers

_ANGLE = re.compile(r"<([^<>]{0,1000})>")
_MOST_OF_A_FIELD = 4000


def header_sender(headers: Headers) -> str | None:
    """Return the sender by Return-Path ("" if that is null; RFC 5321 section 4.4), else by From, else None."""
    return_path = headers.first("Return-Path")
    if return_path is not None:
        match = _ANGLE.search(return_path[:_MOST_OF_A_FIELD])
        return match[1].strip() if match else strip_brackets(return_path)
    return from_address(headers) or None


def from_address(headers: Headers) -> str:
    """Return the first address in From (RFC 5322 section 3.6.2), "" where there is none."""
    return first_address(headers, "From")


def first_address(headers: Headers, name: str) -> str:
    """Return the first address in a field, "" where there is none."""
    value = "".join((headers.first(name) or "")[:_MOST_OF_A_FIELD].splitlines())
    try:
        address = parseaddr(value)[1].strip()
    except (RecursionError, ValueError, IndexError):
        # Deeply nested comments, and whatever else a hostile field breaks in the library.
        return ""
    return address if "@" in address else ""
