"""Header fields in a body, as they stand there: one after the other, folds kept, linear in what is read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_NO_LIMIT: Final = -1
_FIELD: Final = re.compile(rb"([!-9;-~]{1,900})[ \t]*:([^\n]*+(?:\n[ \t][^\n]*+)*+)(?:\n|\Z)")
_EMPTY_LINES: Final = re.compile(rb"(?:\r?\n)++")


class FieldReader:
    """Reads fields (RFC 5322 section 2.2) from `at` on; afterwards `at` is where the first line stands that is none.

    After `most` fields nothing more is read: that is the end, whatever follows.
    """

    def __init__(self, data: bytes, at: int = 0, most: int = _NO_LIMIT) -> None:
        self._data = data
        self._left = most
        self.at = at

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        """Yield name, lower case, and value, as it is."""
        while found := _FIELD.match(self._data, self.at):
            self._left -= 1
            self.at = found.end() if self._left else len(self._data)
            yield found[1].decode("ascii").lower(), found[2]

    @property
    def is_at_end(self) -> bool:
        """Tell whether nothing is left."""
        return self.at >= len(self._data)

    def skip_empty_lines(self) -> bool:
        """Go on to the next line that is not empty; tell whether there were any that are."""
        if found := _EMPTY_LINES.match(self._data, self.at):
            self.at = found.end()
        return found is not None

    def skip_line(self) -> None:
        """Go on to the next line."""
        self.at = self._data.find(b"\n", self.at) + 1 or len(self._data)


def unfolded(value: bytes, most: int) -> str:
    """Return the beginning of a value as one line; what is not UTF-8 is replaced."""
    # A character has four bytes at most, and folds become one blank.
    return " ".join(value[: 8 * most].decode("utf-8", "replace").split())[:most]
