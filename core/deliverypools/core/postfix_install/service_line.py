"""One service of master.cf, as a line that can be changed: master(5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from deliverypools.core.postfix_check.syntax import without_braces

_FIELDS: Final = 8
"""Name, type, private, unprivileged, chroot, wakeup time, process limit, command."""
_CHROOT: Final = 4
_LIMIT: Final = 6


@dataclass(frozen=True, slots=True)
class ServiceLine:
    """A service, with its options in the order in which they are written."""

    fields: tuple[str, ...]
    """The eight columns."""
    options: Mapping[str, str] = field(default_factory=dict)
    """What `-o` sets, `$names` not expanded."""
    arguments: tuple[str, ...] = ()
    """What else stands behind the command: `-v`, pipe(8)'s own words."""

    @property
    def key(self) -> tuple[str, str]:
        """Name and type."""
        return self.fields[0], self.fields[1]

    @property
    def command(self) -> str:
        """The program."""
        return self.fields[7]

    @property
    def chroot(self) -> str:
        """`y`, `n` or `-`."""
        return self.fields[_CHROOT]

    @property
    def process_limit(self) -> str:
        """The most processes at a time; `-` is default_process_limit."""
        return self.fields[_LIMIT]

    def named(self, name: str, kind: str | None = None) -> ServiceLine:
        """Return the service under another name, and perhaps of another type."""
        return replace(self, fields=(name, kind or self.fields[1], *self.fields[2:]))

    def with_chroot(self, letter: str) -> ServiceLine:
        """Return the service inside or outside the chroot."""
        return self._with_field(_CHROOT, letter)

    def with_process_limit(self, limit: str) -> ServiceLine:
        """Return the service with another process limit."""
        return self._with_field(_LIMIT, limit)

    def with_options(self, options: Mapping[str, str]) -> ServiceLine:
        """Return the service with these options; one that it has already keeps its place."""
        return replace(self, options={**self.options, **options})

    def over(self, options: Mapping[str, str]) -> ServiceLine:
        """Return the service with these options beneath its own: its own win."""
        return replace(self, options={**self.options, **{k: v for k, v in options.items() if k not in self.options}})

    def without(self, *options: str) -> ServiceLine:
        """Return the service without some options."""
        return replace(self, options={name: value for name, value in self.options.items() if name not in options})

    def _with_field(self, index: int, value: str) -> ServiceLine:
        return replace(self, fields=(*self.fields[:index], value, *self.fields[index + 1 :]))

    def render(self) -> str:
        """Return the service as one logical line, as `postconf -Me` takes it."""
        options = (_option(name, value) for name, value in self.options.items())
        return " ".join([*self.fields, *options, *self.arguments])


def _option(name: str, value: str) -> str:
    # Braces keep white space together; "{" at the beginning of a value would be taken for them.
    is_plain = value == "" or (not any(map(str.isspace, value)) and not value.startswith("{"))
    return f"-o {name}={value}" if is_plain else f"-o {{ {name} = {value} }}"


def parse_service(line: str) -> ServiceLine:
    """Return a service of master.cf; what has too few columns is filled up with `-`."""
    words = _words(line)
    fields = (*words[:_FIELDS], *["-"] * (_FIELDS - len(words)))
    options: dict[str, str] = {}
    arguments: list[str] = []
    rest = iter(words[_FIELDS:])
    for word in rest:
        if word == "-o" or (word.startswith("-o") and "=" in word):
            name, value = _setting(next(rest, "") if word == "-o" else word.removeprefix("-o"))
            options[name] = value
        else:
            arguments.append(word)
    return ServiceLine(fields, options, tuple(arguments))


def _setting(text: str) -> tuple[str, str]:
    name, _, value = without_braces(text).partition("=")
    return name.strip(), value.strip()


def _words(line: str) -> list[str]:
    """Return the words of a line: white space separates them, except in a word that begins with a brace."""
    words: list[str] = []
    start, depth = -1, 0
    for index, character in enumerate(line):
        if start < 0:
            if character.isspace():
                continue
            start, depth = index, int(character == "{")
        elif depth:
            depth += (character == "{") - (character == "}")
        elif character.isspace():
            words.append(line[start:index])
            start = -1
    if start >= 0:
        words.append(line[start:])
    return words
