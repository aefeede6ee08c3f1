"""What is wrong with a settings file, in words that say what would be right."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import NoneType
from typing import Any, Final, NamedTuple, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from deliverypools.core.settings.toml_lines import TomlPath
from deliverypools.core.settings.values import WithExampleError, shown

MOST_ERRORS: Final = 100
"""More than anybody repairs in one go; without it, a file of the wrong kind would fill the log."""
_MOST_TRANSLATED: Final = 10 * MOST_ERRORS

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_MOST_SUGGESTED_FOR: Final = 50  # difflib compares every pair of characters
_ELEMENT_ARGUMENT: Final[Mapping[Any, int]] = {dict: 1, tuple: 0}  # of dict[str, Pool], tuple[Pin, ...]
_KEY_OF_A_MAPPING: Final = "[key]"  # pydantic's mark at the end of a path


class SettingsError(Exception):
    """The settings cannot be used. `errors` has one line for each mistake: `file:line: key: what and what instead`."""

    def __init__(self, errors: tuple[str, ...]) -> None:
        super().__init__("\n".join(errors))
        self.errors = errors


class Finding(NamedTuple):
    """One mistake, without its line yet."""

    path: TomlPath
    message: str


def located(findings: Iterable[Finding], lines: Mapping[TomlPath, int], filename: str) -> tuple[str, ...]:
    """Return findings as lines of text in the order of the file, each at the line of its key or nearest table."""
    placed = sorted((_line_of(finding.path, lines), key_text(finding.path), finding.message) for finding in findings)
    texts = list(dict.fromkeys(f"{filename}:{line}: {key}: {message}" for line, key, message in placed))
    if len(texts) > MOST_ERRORS:
        texts[MOST_ERRORS:] = [f"{filename}: more errors follow these {MOST_ERRORS}; correct these first"]
    return tuple(texts)


def key_text(path: TomlPath) -> str:
    """Return a key as an operator would write it, with the index of array elements: `pins[0].pool`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE_KEY.fullmatch(part) else shown(part))
    return text


def did_you_mean(word: str, choices: Iterable[str]) -> str | None:
    """Return the choice that is most like a word, if any is like it."""
    if len(word) > _MOST_SUGGESTED_FOR:
        return None
    likely = difflib.get_close_matches(word.lower().replace("-", "_"), [c.replace("-", "_") for c in choices], n=1)
    return next((choice for choice in choices if likely and choice.replace("-", "_") == likely[0]), None)


def findings_of(error: ValidationError, root: type[BaseModel]) -> list[Finding]:
    """Return pydantic's errors in our words, one for each mistake."""
    details = error.errors(include_url=False)[:_MOST_TRANSLATED]
    meant: set[TomlPath] = set()
    findings: list[Finding] = []
    for detail in details:
        if detail["type"] == "extra_forbidden":
            path, suggestion = detail["loc"], _suggestion(detail, root)
            meant.update([(*path[:-1], suggestion)] if suggestion else [])
    for detail in details:
        path = detail["loc"]
        # A name with a typing error and the name that is missing are one mistake; a list is not too short because
        # none of its elements is right.
        is_consequence = path in meant if detail["type"] == "missing" else detail["type"] == "too_short"
        if not (is_consequence and detail["input"]):
            is_key = path[-1:] == (_KEY_OF_A_MAPPING,)
            findings.append(Finding(path[:-1] if is_key else path, _message(detail, root)))
    return findings


def field_of(root: type[BaseModel], path: TomlPath) -> FieldInfo | None:
    """Return the field that a path ends in, if it ends in one."""
    holder = _annotation(root, path[:-1])
    is_table = isinstance(holder, type) and issubclass(holder, BaseModel)
    return holder.model_fields.get(str(path[-1])) if is_table and path else None


def tables(kind: Any, path: TomlPath = ()) -> Iterator[tuple[TomlPath, type[BaseModel]]]:
    """Yield every table of the settings with its path; `NAME` for names of the operator's, 0 for array elements."""
    kind = _without_none(kind)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield path, kind
        for name, field in kind.model_fields.items():
            yield from tables(field.annotation, (*path, name))
    elif get_origin(kind) is dict:
        yield from tables(get_args(kind)[1], (*path, "NAME"))
    elif get_origin(kind) is tuple:
        yield from tables(get_args(kind)[0], (*path, 0))


def table_header(path: TomlPath) -> str:
    """Return the line that begins a table: `[milter]`, `[[pins]]`."""
    if path and isinstance(path[-1], int):
        return f"[[{key_text(path[:-1])}]]"
    return f"[{key_text(path)}]"


def _line_of(path: TomlPath, lines: Mapping[TomlPath, int]) -> int:
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return 1


def _annotation(kind: Any, path: TomlPath) -> Any:
    """Return the kind of what a path leads to; None when it leads out of the known settings."""
    for part in path:
        kind = _without_none(kind)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            field = kind.model_fields.get(str(part))
            kind = field.annotation if field else None
        else:
            element = _ELEMENT_ARGUMENT.get(get_origin(kind))
            kind = None if element is None else get_args(kind)[element]
    return _without_none(kind)


def _without_none(kind: Any) -> Any:
    others = [argument for argument in get_args(kind) if argument is not NoneType]
    return others[0] if NoneType in get_args(kind) and len(others) == 1 else kind


def _suggestion(detail: ErrorDetails, root: type[BaseModel]) -> str | None:
    """Return the key that an unknown one was meant to be; none where it is right in another table."""
    path = detail["loc"]
    holder = _annotation(root, path[:-1])
    if not holder or (not _holds_tables(detail["input"]) and _right_tables(str(path[-1]), root)):
        return None
    return did_you_mean(str(path[-1]), tuple(holder.model_fields))


def _right_tables(name: str, root: type[BaseModel]) -> list[str]:
    return [
        table_header(path) if path else "the top of the file, above the first [table]"
        for path, table in tables(root)
        if name in table.model_fields
    ]


def _holds_tables(value: object) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, dict) for item in value))


def _unknown_key(detail: ErrorDetails, root: type[BaseModel]) -> str:
    if suggestion := _suggestion(detail, root):
        return f'is no setting; did you mean "{suggestion}"?'
    path = detail["loc"]
    if not _holds_tables(detail["input"]) and (places := _right_tables(str(path[-1]), root)):
        return f"is no setting here; it belongs in {' or '.join(places)}"
    known = ", ".join(_annotation(root, path[:-1]).model_fields)
    return f"is no setting; {table_header(path[:-1]) if path[:-1] else 'the file'} can have {known}"


def _message(detail: ErrorDetails, root: type[BaseModel]) -> str:
    """Return one of pydantic's errors in our words."""
    if special := _SPECIAL_MESSAGES.get(detail["type"]):
        return special(detail, root)
    advice = _ADVICE.get(detail["type"])
    example = _for_example(detail["loc"], root) if detail["type"] in _WITH_EXAMPLE else ""
    text = advice.format(**detail.get("ctx", {})) + example if advice else detail["msg"]
    return f"got {shown(detail['input'])}; {text}"


def _own_words(detail: ErrorDetails, root: type[BaseModel]) -> str:
    error = detail["ctx"]["error"]
    if isinstance(error, WithExampleError) and (example := _example(detail["loc"], root)):
        error = error.with_example(example)
    return str(error)


def _missing(detail: ErrorDetails, root: type[BaseModel]) -> str:
    path = detail["loc"]
    field = field_of(root, path)
    if field is not None and get_origin(field.annotation) is dict:
        return "is missing; write the tables [pools.normal], [pools.high-risk] and [pools.relay]"
    return f"is missing; write it{_for_example(path, root, str(path[-1]) + ' = ')}"


def _wrong_choice(detail: ErrorDetails, root: type[BaseModel]) -> str:
    field = field_of(root, detail["loc"])
    choices = [str(choice) for choice in get_args(field.annotation)] if field else []
    value = detail["input"]
    likely = did_you_mean(value, choices) if isinstance(value, str) else None
    question = f'did you mean "{likely}"? ' if likely else ""
    return f"got {shown(value)}; {question}Choices: {', '.join(json.dumps(choice) for choice in choices)}"


def _for_example(path: TomlPath, root: type[BaseModel], prefix: str = "") -> str:
    example = _example(path, root)
    return f", for example {prefix}{example}" if example else ""


def _example(path: TomlPath, root: type[BaseModel]) -> str:
    """Return the example of a key, or the first element of the example of a list, as TOML; "" where there is none."""
    is_element = isinstance(path[-1], int)
    field = field_of(root, path[:-1] if is_element else path)
    notes = field.json_schema_extra if field else None
    example = str(notes.get("example", "")) if isinstance(notes, dict) else ""
    if not (example and is_element):
        return example
    elements = tomllib.loads(f"x = {example}")["x"]
    return json.dumps(elements[0], ensure_ascii=False) if elements else ""


def _no_table(detail: ErrorDetails, root: type[BaseModel]) -> str:
    path = detail["loc"]
    header = table_header(path)
    if get_origin(_annotation(root, path)) is dict:
        element = get_args(_annotation(root, path))[1]
        kind = "list" if get_origin(element) is tuple else "number"
        header = f"[{key_text((*path, 'NAME'))}]" if path == ("pools",) else f"{header} with a {kind} for each name"
    return f"got {shown(detail['input'])}; write a table, {header}"


def _no_list(detail: ErrorDetails, root: type[BaseModel]) -> str:
    path = (*detail["loc"], 0)
    element = _annotation(root, path)
    is_table = isinstance(element, type) and issubclass(element, BaseModel)
    advice = (
        f"write a {table_header(path)} table for each" if is_table else "write a list" + _for_example(path[:-1], root)
    )
    return f"got {shown(detail['input'])}; {advice}"


_SPECIAL_MESSAGES: Final[Mapping[str, Callable[[ErrorDetails, type[BaseModel]], str]]] = {
    "dict_type": _no_table,
    "extra_forbidden": _unknown_key,
    "literal_error": _wrong_choice,
    "missing": _missing,
    "model_type": _no_table,
    "tuple_type": _no_list,
    "value_error": _own_words,
}
_ADVICE: Final = {
    "bool_type": "write true or false, without quotes",
    "greater_than": "write more than {gt:g}",
    "greater_than_equal": "write {ge:.15g} or more",
    "less_than_equal": "write {le:.15g} or less",
    "too_short": "write at least one",
}
_WITH_EXAMPLE: Final = frozenset({"too_short"})
