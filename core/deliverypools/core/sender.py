"""The envelope sender of a message of which only the header is left."""

from __future__ import annotations

import re

from deliverypools.core.addresses import strip_brackets
from deliverypools.core.headers import Headers

_ANGLE = re.compile(r"<([^<>]{0,1000})>")
_BARE = re.compile(r"[^\s<>(),;:\"]+@[^\s<>(),;:\"]+")
_MOST_OF_A_FIELD = 4000


def header_sender(headers: Headers) -> str:
    """Return the sender by Return-Path (RFC 5321 section 4.4), else by From; "" where neither tells one."""
    return_path = headers.first("Return-Path")
    if return_path is not None:
        match = _ANGLE.search(return_path[:_MOST_OF_A_FIELD])
        return match[1].strip() if match else strip_brackets(return_path)
    value = (headers.first("From") or "")[:_MOST_OF_A_FIELD]
    match = _ANGLE.search(value)
    if match:
        return match[1].strip()
    bare = _BARE.search(value)
    return bare[0] if bare else ""
