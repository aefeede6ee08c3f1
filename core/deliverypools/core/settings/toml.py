"""From the text of a settings file to its values and their line numbers."""

from __future__ import annotations

import re
import tomllib
from typing import Any, Final

from deliverypools.core.settings.errors import SettingsError, key_text
from deliverypools.core.settings.toml_lines import Scan, TomlPath, scan

_POSITION: Final = re.compile(
    r"(?P<what>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)", re.DOTALL
)
_HUGE_NUMBER: Final = re.compile(r"[0-9][0-9_]{4000}")  # int() refuses more than 4300 digits, with a bare ValueError
_REPEATED: Final = ("Cannot overwrite", "Cannot declare", "Cannot mutate", "Duplicate", "Cannot redefine")


def read_toml(text: str, filename: str) -> tuple[dict[str, Any], dict[TomlPath, int]]:
    """Return the document and the line of each of its keys. Raises SettingsError with one error, the first."""
    if not _is_unicode(text):
        raise SettingsError((f"{filename}:1: is no valid Unicode text; save the file as UTF-8",))
    if text.startswith("\ufeff"):
        raise SettingsError((f"{filename}:1: begins with a byte order mark; save the file as UTF-8 without one",))
    found = scan(text)
    if found.too_deep_line:
        raise SettingsError((f"{filename}:{found.too_deep_line}: is nested deeper than any setting",))
    try:
        return tomllib.loads(text), found.lines
    except RecursionError:
        problem = f"{filename}:1: is nested deeper than any setting"
    except tomllib.TOMLDecodeError as error:
        problem = _syntax_error(str(error), text, filename, found)
    except ValueError as error:
        huge = _HUGE_NUMBER.search(text)
        line = text.count("\n", 0, huge.start()) + 1 if huge else 1
        problem = f"{filename}:{line}: {'holds a number that is too large' if huge else error}"
    raise SettingsError((problem,))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _syntax_error(message: str, text: str, filename: str, found: Scan) -> str:
    """Return tomllib's message with its position in front, and in plainer words where a name is written twice."""
    position = _POSITION.fullmatch(message)
    what = position["what"] if position else message
    line = int(position["line"]) if position and position["line"] else text.rstrip("\n").count("\n") + 1
    if what.startswith(_REPEATED):
        # tomllib stands at the end of the value, which may be some lines below the key.
        earlier = [(path, at) for path, at in found.repeated if at <= line]
        if earlier:
            path, at = earlier[-1]
            return f"{filename}:{at}: {key_text(path)}: is written a second time; first in line {found.lines[path]}"
    column = f" (column {position['column']})" if position and position["column"] else ""
    clean = "".join(c if c.isprintable() else "?" for c in what)
    return f"{filename}:{line}: is no valid TOML: {clean}{column}"
