"""Settings as text: the lines of the start log, and the warnings about keys without effect."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from deliverypools.core.settings.errors import key_text
from deliverypools.core.settings.scan_values import size_text
from deliverypools.core.settings.toml_lines import TomlPath
from deliverypools.core.settings.values import Nameserver, masked_url

NOT_SET: Final = "(not set)"
_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def notes_of(field: FieldInfo) -> Mapping[str, Any]:
    """Return what `tables.setting` noted about a key."""
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}


def effective_lines(table: BaseModel, path: TomlPath = (), *, only_set: bool = False) -> list[str]:
    """Return one line `key = value` for every setting of a table and of those below it, secrets masked.

    Of tables in an array, which may be many, there are only the keys that were set. What this version does nothing
    with is marked so.
    """
    lines: list[str] = []
    for name, field in type(table).model_fields.items():
        if only_set and name not in table.model_fields_set:
            continue
        value, at = getattr(table, name), (*path, name)
        if below := list(_tables_in(value, at)):
            few = only_set or isinstance(value, tuple)
            lines += [line for place, held in below for line in effective_lines(held, place, only_set=few)]
        elif isinstance(value, dict) and value:
            lines += [_line((*at, key), element) for key, element in value.items()]
        else:
            later = notes_of(field).get("later")
            mark = f"  # not {later} by this version" if later else ""
            lines.append(_line(at, _fit_for_log(value, field)) + mark)
    return lines


def keys_without_effect(table: BaseModel, path: TomlPath = ()) -> Iterator[str]:
    """Yield a warning for each key that was set, to something else than its default, and that nothing reads yet."""
    for name, field in type(table).model_fields.items():
        if name not in table.model_fields_set:
            continue
        value, later = getattr(table, name), notes_of(field).get("later")
        if later:
            if value != field.get_default(call_default_factory=True):
                yield f"{key_text((*path, name))}: not {later} by this version"
        else:
            for place, below in _tables_in(value, (*path, name)):
                yield from keys_without_effect(below, place)


def _tables_in(value: object, path: TomlPath) -> Iterator[tuple[TomlPath, BaseModel]]:
    """Yield the tables that a key holds, each with its path: one, several by name, or an array of them."""
    if isinstance(value, BaseModel):
        yield path, value
    elements = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, tuple) else ()
    yield from (((*path, key), element) for key, element in elements if isinstance(element, BaseModel))


def _line(path: TomlPath, value: object) -> str:
    return f"{key_text(path)} = {toml_value(value)}"


def _fit_for_log(value: object, field: FieldInfo) -> object:
    """Return a value without its secrets, times and sizes with the unit that an operator would write."""
    if isinstance(value, str) and value.startswith(("http://", "https://", "redis://", "rediss://")):
        is_secret = notes_of(field).get("secret") or "@" in urlsplit(value).netloc
        return masked_url(value) if is_secret else value
    # Only times and sizes have a default that is text and a value that is none.
    if isinstance(field.default, str) and isinstance(value, float | int):
        return duration_text(value) if isinstance(value, float) else size_text(value)
    return value


def duration_text(seconds: float) -> object:
    """Return whole seconds as number and largest unit that fits, as in "4h"; others stay a number."""
    for size, unit in _UNITS:
        if seconds and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return seconds


def toml_value(value: object) -> str:
    """Return a value as TOML; what is not set, which TOML cannot say, as "(not set)"."""
    match value:
        case None:
            return NOT_SET
        case bool() | int() | float():
            return str(value).lower()
        case Nameserver(address, port):
            return json.dumps(f"[{address}]:{port}" if ":" in address else f"{address}:{port}")
        case tuple() | list():
            return f"[{', '.join(toml_value(element) for element in value)}]"
        case dict():
            return f"{{{', '.join(f'{key_text((key,))} = {toml_value(element)}' for key, element in value.items())}}}"
    return json.dumps(str(value), ensure_ascii=False)
