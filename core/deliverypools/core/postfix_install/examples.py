"""The files of postfix-examples/ as data: the single source of every line that is added to a site's configuration."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

_COMMENT_OR_EMPTY: Final = re.compile(r"\s*(#.*)?$")


@dataclass(frozen=True, slots=True)
class Example:
    """One example: parameters for main.cf, services for master.cf, and the maps below delivery-pools/."""

    main: Mapping[str, str]
    master: Mapping[tuple[str, str], str]
    maps: Mapping[str, str]
    reasons: Mapping[str, str] = field(default_factory=dict)
    """The comment above each parameter of main.cf, in one line."""


def parse_example(main: str, master: str, maps: Mapping[str, str]) -> Example:
    """Return the example that is made of these files."""
    return Example(parse_main(main), parse_master(master), dict(maps), _comments(main))


def substituted(example: Example, substitute: Callable[[str], str]) -> Example:
    """Return an example with other addresses in main.cf and master.cf."""
    return Example(
        {name: substitute(value) for name, value in example.main.items()},
        {key: substitute(line) for key, line in example.master.items()},
        example.maps,
        example.reasons,
    )


def _logical_lines(text: str) -> list[str]:
    """Return logical lines as in postconf(5): white space continues, comments and empty lines are left out anywhere."""
    logical: list[str] = []
    for line in text.splitlines():
        if _COMMENT_OR_EMPTY.match(line):
            continue
        if line[0].isspace() and logical:
            logical[-1] += "\n" + line
        else:
            logical.append(line)
    return logical


def parse_main(text: str) -> dict[str, str]:
    """Return the parameters of a main.cf; a later line replaces an earlier one."""
    parameters: dict[str, str] = {}
    for line in _logical_lines(text):
        name, _, value = line.partition("=")
        parameters[name.strip()] = value.strip()
    return parameters


def parse_master(text: str) -> dict[tuple[str, str], str]:
    """Return the services of a master.cf by name and type."""
    services: dict[tuple[str, str], str] = {}
    for line in _logical_lines(text):
        name, service_type, *_ = line.split()
        services[name, service_type] = line
    return services


def render_main(parameters: Mapping[str, str]) -> str:
    """Return a main.cf, one entry a parameter."""
    return "".join(f"{name} = {value}\n" for name, value in parameters.items())


def render_master(services: Mapping[tuple[str, str], str]) -> str:
    """Return a master.cf."""
    return "\n".join(services.values()) + "\n"


def _comments(text: str) -> dict[str, str]:
    """Return for each parameter of a main.cf the comment above it; an empty line ends a comment."""
    return dict(_commented(text))


def _commented(text: str) -> Iterator[tuple[str, str]]:
    comment: list[str] = []
    for line in text.splitlines():
        if line.startswith("#"):
            comment.append(line.lstrip("# -"))
        elif not line.strip():
            comment = []
        elif not line[0].isspace():
            yield line.partition("=")[0].strip(), " ".join(comment)
