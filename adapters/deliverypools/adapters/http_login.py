"""User and password of a URL, as HTTP sends them."""

from __future__ import annotations

import base64
from urllib.parse import SplitResult, unquote


def basic_login(parts: SplitResult) -> str:
    """Return the value of `Authorization` (RFC 7617) for a URL, "" where it names no user."""
    if parts.username is None:
        return ""
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(login.encode()).decode()
