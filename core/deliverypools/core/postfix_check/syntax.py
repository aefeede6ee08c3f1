"""The values of Postfix's parameters: lists, milters, transports, tables, times. See postconf(5), transport(5)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

MOST_NESTED: Final = 10
"""Levels of braces that are looked into: Postfix's own values have two."""

_TIME: Final = re.compile(r"([0-9]{1,9})([smhdw]?)")
_UNIT_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def split_list(text: str) -> tuple[str, ...]:
    """Return the elements of a list: white space and commas separate them, except inside braces."""
    elements: list[str] = []
    start, depth = -1, 0
    for index, character in enumerate(text):
        separates = depth == 0 and (character.isspace() or character == ",")
        if separates:
            if start >= 0:
                elements.append(text[start:index])
                start = -1
            continue
        if start < 0:
            start = index
        depth += (character == "{") - (character == "}")
        depth = max(depth, 0)
    if start >= 0:
        elements.append(text[start:])
    return tuple(elements)


def without_braces(text: str) -> str:
    """Return what is between the outer braces; a text without them as it is."""
    return text[1:-1].strip() if text.startswith("{") and text.endswith("}") else text


@dataclass(frozen=True, slots=True)
class Client:
    """A milter or a policy service as a list names it: where it listens, and the options in its braces."""

    endpoint: str
    """As it is written: `unix:delivery-pools/milter.sock`, `inet:127.0.0.1:8891`."""
    options: Mapping[str, str] = field(default_factory=dict)


def client_of(element: str) -> Client:
    """Return the service that an element names, `{ unix:name, option=value }` or `unix:name`."""
    endpoint, *options = split_list(without_braces(element)) or ("",)
    pairs = (option.partition("=") for option in options)
    return Client(endpoint, {name.strip(): without_braces(value.strip()) for name, _, value in pairs})


@dataclass(frozen=True, slots=True)
class Route:
    """Where a transport(5) value leads; either part may be empty."""

    transport: str
    nexthop: str


def action_of(value: str) -> tuple[str, str]:
    """Return the action, in capitals, and its text: any white space separates them."""
    action, *text = value.split(None, 1) or ("",)
    return action.upper(), text[0].strip() if text else ""


def route_of(value: str) -> Route:
    """Return transport and next-hop of `transport:nexthop`; without a colon, the whole is the transport."""
    transport, _, nexthop = value.strip().partition(":")
    return Route(transport.strip(), nexthop.strip())


def host_of(destination: str) -> str:
    """Return the host of one destination: `[host]:port`, `host:port`, `host`, or LMTP's `inet:host:port`.

    A literal IPv6 address without its `ipv6:`; in lower case.
    """
    where = destination.removeprefix("inet:")
    if where.startswith("["):
        host = where[1:].partition("]")[0]
    else:
        host = where.partition(":")[0] if where.count(":") == 1 else where
    return host.lower().removeprefix("ipv6:")


def table_specs(value: str) -> tuple[str, ...]:
    """Return the tables, `type:name`, of a list of tables; those inside braces, pipemap and unionmap too."""
    return tuple(_specs(value, MOST_NESTED))


def _specs(value: str, levels: int) -> Iterator[str]:
    for kind, name in _tables(value, levels):
        if kind in ("pipemap", "unionmap") and levels:
            yield from _specs(without_braces(name), levels - 1)
        else:
            yield f"{kind}:{name}"


def answering_tables(value: str) -> tuple[tuple[str, str], ...]:
    """Return the tables whose answers are those of a list: each as messages name it, and its `type:name`.

    A pipemap answers what its last table says to what the others have made of the key.
    """
    return tuple(_answering(value, MOST_NESTED))


def _answering(value: str, levels: int) -> Iterator[tuple[str, str]]:
    for kind, name in _tables(value, levels):
        spec = f"{kind}:{name}"
        if kind == "pipemap" and levels:
            *_, last = split_list(without_braces(name)) or ("",)
            yield from ((spec, one) for _, one in _answering(last, levels - 1))
        elif kind == "unionmap" and levels:
            yield from _answering(without_braces(name), levels - 1)
        else:
            yield spec, spec


def _tables(value: str, levels: int) -> Iterator[tuple[str, str]]:
    """Yield type and name of each table of a list, those inside braces too."""
    for element in split_list(value):
        if element.startswith("{"):
            if levels and element.endswith("}"):
                yield from _tables(without_braces(element), levels - 1)
            continue
        kind, colon, name = element.partition(":")
        while kind == "proxy":
            kind, _, name = name.partition(":")
        if colon:
            yield kind, name


FILE: Final = "file"
"""In place of a table's type, for a file whose lines are elements of a list."""


def is_file(element: str) -> bool:
    """Tell whether an element of a list, `/file/name`, stands for the elements in a file."""
    return element.startswith("/")


def file_specs(value: str) -> tuple[str, ...]:
    """Return the files that a list names, each as `file:/file/name`."""
    return tuple(f"{FILE}:{element}" for element in split_list(value) if is_file(element))


def is_table(element: str) -> bool:
    """Tell whether an element of a list is a table; colons inside brackets belong to an IPv6 address."""
    return ":" in element.partition("[")[0]


def seconds(value: str, unit: str = "s") -> int | None:
    """Return a time in seconds; `unit` is that of a bare number. None for what is no time."""
    found = _TIME.fullmatch(value.strip())
    return int(found[1]) * _UNIT_SECONDS[found[2] or unit] if found else None


def is_yes(value: str) -> bool:
    """Tell whether a boolean parameter is on."""
    return value.strip().lower() == "yes"
