"""What no scanner would answer."""

from __future__ import annotations

from deliverypools.core.scanning.answers import ScannerAnswer, ScanVerdict


class NonsenseError(Exception):
    """An answer is none, or not of this scanner. The text says what was found: one printable, bounded line."""


def about_all_of_it(answer: ScannerAnswer, *, is_said: bool) -> ScannerAnswer:
    """Return an answer; `is_said` tells whether the scanner had the whole message by then.

    Raises:
        NonsenseError: it calls clean what it has not seen.
    """
    if answer.verdict is ScanVerdict.HAM and not is_said:
        raise NonsenseError("clean, to a part of the message")
    return answer
