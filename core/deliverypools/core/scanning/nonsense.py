"""What no scanner would answer."""

from __future__ import annotations


class NonsenseError(Exception):
    """An answer is none, or not of this scanner. The text says what was found: one printable, bounded line."""
