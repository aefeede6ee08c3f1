"""clamd's protocol (clamd(8)), in a session: the numbered, NUL-terminated answers to INSTREAM and PING."""

from __future__ import annotations

import re
from typing import Final

from deliverypools.core.facts import printable
from deliverypools.core.scanning.answers import LONGEST_SYMBOL, Scanner, ScannerAnswer, ScanVerdict
from deliverypools.core.scanning.nonsense import NonsenseError

END: Final = b"\0"
BEGIN_SESSION: Final = b"zIDSESSION\0"
PING: Final = b"zPING\0"
SCAN: Final = b"zINSTREAM\0"
END_OF_STREAM: Final = b"\0\0\0\0"
"""A chunk of no bytes."""
_ANSWER: Final = re.compile(r"(?:([0-9]{1,10}): )?([^\0\r\n]*)\0", re.ASCII)
_CLEAN: Final = "stream: OK"
_BEFORE_NAME: Final = "stream: "
_FOUND: Final = " FOUND"
_ERROR: Final = " ERROR"


def chunk_head(size_bytes: int) -> bytes:
    """Return what goes before a chunk of the stream: its length in network byte order."""
    return size_bytes.to_bytes(4, "big")


def answered_question(answer: bytes) -> int | None:
    """Return which question of the session this is the answer to; None where it has no number."""
    found = _ANSWER.fullmatch(_text(answer))
    return int(found[1]) if found and found[1] else None


def is_pong(answer: bytes) -> bool:
    """Tell whether clamd answers that it is there."""
    return _words(answer) == "PONG"


def read_answer(answer: bytes) -> ScannerAnswer:
    """Read what clamd answers to INSTREAM, with its final NUL.

    Raises:
        NonsenseError: it is no answer of clamd's, or only a part of one.
    """
    words = _words(answer)
    if words == _CLEAN:
        return ScannerAnswer(scanner=Scanner.CLAMD, verdict=ScanVerdict.HAM)
    if words.endswith(_ERROR):
        problem = f"it says {printable(words.removesuffix(_ERROR).removeprefix(_BEFORE_NAME))}"
        return ScannerAnswer(scanner=Scanner.CLAMD, verdict=ScanVerdict.UNKNOWN, problem=problem)
    name = words.removeprefix(_BEFORE_NAME).removesuffix(_FOUND)
    if not name or words != f"{_BEFORE_NAME}{name}{_FOUND}":
        raise NonsenseError(f"an answer that begins {printable(_text(answer[:60]))!r}" if answer else "no answer")
    return ScannerAnswer(
        scanner=Scanner.CLAMD, verdict=ScanVerdict.SPAM, is_forced=True, symbols=(printable(name, LONGEST_SYMBOL),)
    )


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _words(answer: bytes) -> str:
    found = _ANSWER.fullmatch(_text(answer))
    return found[2] if found else ""
