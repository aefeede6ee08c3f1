"""The author of a message, and its envelope sender where only the header is left."""

from __future__ import annotations

import re

from deliverypools.core.addresses import strip_brackets
from deliverypools.core.headers import Headers

_ANGLE = re.compile(r"<([^<>]{0,1000})>")
_BARE = re.compile(r"[^\s<>(),;:\"]+@[^\s<>(),;:\"]+")
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
    value = (headers.first("From") or "")[:_MOST_OF_A_FIELD]
    match = _ANGLE.search(value)
    if match:
        return match[1].strip()
    bare = _BARE.search(value)
    return bare[0] if bare else ""
