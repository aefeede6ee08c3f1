"""Where each table and key of a TOML document stands: line numbers for error messages.

tomllib gives values without positions. This scanner gives positions without values: it knows just enough of
TOML 1.0 to step over strings, comments and arrays. What tomllib refuses is scanned as far as it makes sense;
nothing here raises, and nothing here decides whether a document is valid.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, TypeAlias

TomlPath: TypeAlias = tuple[str | int, ...]
"""Keys and, for elements of arrays, indexes from 0: `("pins", 0, "pool")`."""

MAX_DEPTH: Final = 32
"""Longest path that is followed. The settings need five; tomllib takes time quadratic in the length of a dotted
key and runs out of stack in nested arrays, so callers refuse what is deeper before they parse it."""

# Possessive quantifiers (`++`, `*+`): an unterminated string of a megabyte must not be tried twice.
_BASIC: Final = r'"(?:[^"\\\n]++|\\[^\n])*+"'
_LITERAL: Final = r"'[^'\n]*+'"
_MULTILINE_BASIC: Final = r'"""(?:[^"\\]++|\\[\s\S]|"{1,2}+(?!"))*+"{3,5}'
_MULTILINE_LITERAL: Final = r"'''(?:[^']++|'{1,2}+(?!'))*+'{3,5}"
_KEY_PART: Final = re.compile(rf"[ \t]*+(?P<part>[A-Za-z0-9_-]++|{_BASIC}|{_LITERAL})[ \t]*+(?P<dot>\.?)")
_VALUE_TOKEN: Final = re.compile(
    rf"(?P<newline>\n)|(?P<blank>[ \t\r]++|\#[^\n]*+)|(?P<mark>[\[\]{{}},])"
    rf"|(?P<atom>{_MULTILINE_BASIC}|{_MULTILINE_LITERAL}|{_BASIC}|{_LITERAL}|[^\s\[\]{{}},\#]++)"
)
_BLANK_LINES: Final = re.compile(r"(?:\s++|#[^\n]*+)++")
_EQUALS: Final = re.compile(r"[ \t]*+=")
_ESCAPE: Final = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|x([0-9A-Fa-f]{2})|(.))")
_ESCAPED: Final = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "e": "\x1b"}


@dataclass(frozen=True, slots=True)
class Scan:
    """What one pass over a document found."""

    lines: dict[TomlPath, int]
    """First line, from 1, of every table, key and array element."""
    repeated: tuple[tuple[TomlPath, int], ...]
    """Tables and keys that are written again, with the line of the repetition: errors of the document."""
    too_deep_line: int | None
    """Where a path grew longer than MAX_DEPTH; the scan ended there."""


def scan(text: str) -> Scan:
    """Step through a TOML document once. Total: any text has an answer, an invalid one as far as it goes."""
    scanner = _Scanner(text)
    try:
        scanner.document()
    except _TooDeepError:
        return Scan(scanner.lines, tuple(scanner.repeated), scanner.line)
    return Scan(scanner.lines, tuple(scanner.repeated), None)


class _TooDeepError(Exception):
    """A path is longer than MAX_DEPTH."""


@dataclass(slots=True)
class _Open:
    """An array or inline table that is not closed yet."""

    path: TomlPath
    is_array: bool
    index: int = 0

    def element(self) -> TomlPath:
        return _longer(self.path, self.index)


@dataclass(slots=True)
class _Scanner:
    text: str
    position: int = 0
    line: int = 1
    lines: dict[TomlPath, int] = field(default_factory=dict)
    repeated: list[tuple[TomlPath, int]] = field(default_factory=list)
    written: set[TomlPath] = field(default_factory=set)
    array_lengths: dict[TomlPath, int] = field(default_factory=dict)

    def document(self) -> None:
        table: TomlPath = ()
        while self.position < len(self.text):
            if blank := _BLANK_LINES.match(self.text, self.position):
                self._advance(blank.end())
            elif self.text.startswith("[", self.position):
                table = self._header()
            elif parts := self._key():
                self._write(table, parts)
                self._value((*table, *parts))
            else:
                self._skip_line()

    def _header(self) -> TomlPath:
        """Read `[table]` or `[[array of tables]]` and return the path of what follows."""
        brackets = 2 if self.text.startswith("[[", self.position) else 1
        self._advance(self.position + brackets)
        parts = self._key()
        path: TomlPath = ()
        for part in parts[:-1]:
            path = self._last_element((*path, part))
        if not parts:
            self._skip_line()
            return ()
        path = _longer(path, parts[-1])
        if brackets == 1:
            path = self._last_element(path)
            self._note(path)
            if path in self.written:
                self.repeated.append((path, self.line))
            self.written.add(path)
        else:
            index = self.array_lengths.get(path, 0)
            self.array_lengths[path] = index + 1
            path = _longer(path, index)
            self._note(path)
        self._skip_line()
        return path

    def _last_element(self, path: TomlPath) -> TomlPath:
        """Below the name of an array of tables, TOML means its newest table."""
        length = self.array_lengths.get(path)
        return path if length is None else _longer(path, length - 1)

    def _key(self) -> tuple[str, ...]:
        """Read a key with its dots; () when there is none."""
        parts: list[str] = []
        while found := _KEY_PART.match(self.text, self.position):
            self._advance(found.end())
            parts.append(_unquoted(found["part"]))
            if len(parts) > MAX_DEPTH:
                raise _TooDeepError
            if not found["dot"]:
                break
        return tuple(parts)

    def _write(self, table: TomlPath, parts: tuple[str, ...]) -> None:
        path = _longer(table, *parts)
        self._note(path)
        if path in self.written:
            self.repeated.append((path, self.line))
        self.written.add(path)

    def _value(self, path: TomlPath) -> None:
        """Step over `= value`, noting what arrays and inline tables hold."""
        self._equals()
        still_open: list[_Open] = []
        while token := _VALUE_TOKEN.match(self.text, self.position):
            if token["newline"] and not still_open:
                return
            mark = token["mark"]
            begins_value = token["atom"] or mark in {"[", "{"}
            if begins_value and still_open and still_open[-1].is_array:
                path = still_open[-1].element()
                self.lines.setdefault(path, self.line)
            self._advance(token.end())
            if mark in {"[", "{"}:
                still_open.append(_Open(path, is_array=mark == "["))
            elif mark in {"]", "}"} and still_open:
                still_open.pop()
            elif mark == "," and still_open:
                still_open[-1].index += 1
            if mark in {"{", ","} and still_open and not still_open[-1].is_array:
                path = self._inline_key(still_open[-1].path)
        # A quote that is never closed: the rest is no TOML. Without this step the caller would come back for ever.
        self._skip_line()

    def _inline_key(self, table: TomlPath) -> TomlPath:
        if blank := _BLANK_LINES.match(self.text, self.position):
            self._advance(blank.end())
        if not (parts := self._key()):
            return table
        self._write(table, parts)
        self._equals()
        return (*table, *parts)

    def _equals(self) -> None:
        if equals := _EQUALS.match(self.text, self.position):
            self._advance(equals.end())

    def _note(self, path: TomlPath) -> None:
        """Record the line of a path and of the tables that it implies, where they have none yet."""
        while path and path not in self.lines:
            self.lines[path] = self.line
            path = path[:-1]

    def _skip_line(self) -> None:
        end = self.text.find("\n", self.position)
        self._advance(len(self.text) if end < 0 else end + 1)

    def _advance(self, position: int) -> None:
        self.line += self.text.count("\n", self.position, position)
        self.position = position


def _longer(path: TomlPath, *parts: str | int) -> TomlPath:
    longer = (*path, *parts)
    if len(longer) > MAX_DEPTH:
        raise _TooDeepError
    return longer


def _unquoted(part: str) -> str:
    if part.startswith("'"):
        return part[1:-1]
    return _ESCAPE.sub(_unescaped, part[1:-1]) if part.startswith('"') else part


def _unescaped(escape: re.Match[str]) -> str:
    digits = escape[1] or escape[2] or escape[3]
    if not digits:
        return _ESCAPED.get(escape[4], escape[4])
    code = int(digits, 16)
    return chr(code) if code <= 0x10FFFF else "\N{REPLACEMENT CHARACTER}"  # noqa: PLR2004 (the last code point)
