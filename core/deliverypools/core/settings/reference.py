"""The reference of all settings, `docs/settings.md`, made from the code that checks them.

`make docs` writes it; a test fails when they differ.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from deliverypools.core.settings import Settings
from deliverypools.core.settings.errors import table_header, tables
from deliverypools.core.settings.text import NOT_SET, notes_of, toml_value
from deliverypools.core.settings.toml_lines import TomlPath

_INTRODUCTION: Final = """\
# Settings

Delivery Pools reads one TOML file: the one that `--config FILE` names, else the one that the variable
`DELIVERY_POOLS_CONFIG` names, else `/etc/delivery-pools/delivery-pools.toml`. A commented example with every setting
is `postfix-examples/delivery-pools.toml`.

The file is checked as a whole before anything starts. Every mistake is reported as `file:line: key: what is wrong and
what would be right`, all of them at once, and the program ends with exit status 78. A key that is not listed here is a
mistake. At start, the daemons log the settings in effect, one line each, and warn about those that this version does
nothing with yet.

`systemctl reload` of both daemons (SIGHUP) puts changed settings in effect; a file with a mistake changes nothing.
These need a restart of both: `state`, `milter.socket`, `policy.socket`, `socketmap.socket`, `[metrics]`, and
`forwarding.srs_domain` where there was none. After a reload their old values stay, and the journal says so.

Times are a number and a unit: `s`, `m`, `h` or `d`. Domains may be written with or without international characters,
in any case. `NAME` stands for a name of your choice.

This page is made from the code (`make docs`).
"""


def settings_reference() -> str:
    """Return the whole of docs/settings.md."""
    return "\n".join([_INTRODUCTION, *(line for path, table in tables(Settings) for line in _section(path, table))])


def _section(path: TomlPath, table: type[BaseModel]) -> Iterator[str]:
    yield f"## `{table_header(path)}`" if path else "## At the top of the file"
    yield ""
    if path:
        yield from [inspect.cleandoc(table.__doc__ or ""), ""]
        if later := notes_of(Settings.model_fields[str(path[0])]).get("later"):
            yield from [f"**Not {later} by this version.**", ""]
    else:
        yield from ["These come before the first `[table]`.", ""]
    yield from ["| key | for what | default | example |", "|---|---|---|---|"]
    yield from (_row(key, field) for key, field in _keys(table))
    yield ""


def _keys(table: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """Yield the keys of a table; those that are tables themselves have a section of their own."""
    below = {path[0] for path, _ in tables(table) if path}
    for name, field in table.model_fields.items():
        if name not in below:
            yield (f"{name}.NAME" if get_origin(field.annotation) is dict else name), field


def _row(key: str, field: FieldInfo) -> str:
    notes = notes_of(field)
    purpose = (
        (field.description or "")
        + _choices(field)
        + (f" **Not {later} by this version.**" if (later := notes.get("later")) else "")
    )
    example = f"`{key.replace('NAME', _example_name(field))} = {notes['example']}`"
    return f"| `{key}` | {purpose} | {_default(field)} | {example} |"


def _choices(field: FieldInfo) -> str:
    """Return the words that a key may have; "" where its description names all of them, or it may have others."""
    if get_origin(field.annotation) is not Literal:
        return ""
    words = [f"`{word}`" for word in get_args(field.annotation)]
    return "" if all(word in (field.description or "") for word in words) else f" One of {', '.join(words)}."


def _example_name(field: FieldInfo) -> str:
    """Return an example of a name of the operator's in a key; those of other kinds than plain text are pools."""
    return "high-risk" if get_origin(field.annotation) is dict and get_args(field.annotation)[0] is not str else "sales"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default: Any = field.get_default(call_default_factory=True)
    text = toml_value(default) if default != {} else "none"
    return {NOT_SET: "not set", "none": "none"}.get(text, f"`{text}`")
