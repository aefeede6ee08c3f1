"""The core decides from what it is given: it opens nothing, asks no clock and knows neither Postfix nor pymilter."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "core"
SOURCES = sorted(CORE.rglob("*.py"))

# A new name here is a decision: it must do no input or output, read no clock and draw no random number.
ALLOWED = frozenset(
    [
        "__future__",
        "abc",
        "base64",
        "binascii",
        "bisect",
        "collections",
        "dataclasses",
        "difflib",
        "email",
        "enum",
        "functools",
        "hashlib",
        "hmac",
        "inspect",
        "ipaddress",
        "itertools",
        "json",
        "math",
        "operator",
        "re",
        "string",
        "textwrap",
        "tomllib",
        "types",
        "typing",
        "unicodedata",
        "urllib.parse",
        "authres",
        "flufl.bounce",
        "idna",
        "pydantic",
        "pydantic_core",
        # It imports the clock, and asks the one that it is given: test_srs.py takes the other away.
        "srslib",
        "deliverypools.core",
    ]
)
# Inside what is allowed: these draw random numbers, ask the clock or the host's name, read files or look at callers.
FORBIDDEN = frozenset(
    {f"email.utils.{name}" for name in ("formatdate", "localtime", "make_msgid")}
    | {f"inspect.{name}" for name in ("currentframe", "findsource", "getsource", "getsourcelines", "stack")}
)
# What the project promises of the core, by name. The list above is stricter; this one keeps it honest.
PROMISED_ABSENT = [
    "socket",
    "ssl",
    "asyncio",
    "os",
    "io",
    "pathlib",
    "shutil",
    "tempfile",
    "subprocess",
    "time",
    "datetime",
    "logging",
    "sqlite3",
    "threading",
    "multiprocessing",
    "signal",
    "random",
    "secrets",
    "urllib.request",
    "Milter",
    "milter",
    "dns",
    "deliverypools.milter",
    "deliverypools.policy",
    "deliverypools.adapters",
    "deliverypools.cli",
    "deliverypools.lab",
]
FORBIDDEN_CALLS = frozenset({"open", "exec", "eval", "compile", "__import__", "input", "print", "breakpoint"})


def imported_names(tree: ast.Module, package: str) -> list[str]:
    """Every imported module or attribute with its full dotted name, wherever in the file the import stands."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *filter(None, [node.module])])
            names += [f"{base}.{alias.name}" for alias in node.names]
    return names


def is_allowed(name: str) -> bool:
    return name not in FORBIDDEN and any(name == module or name.startswith(f"{module}.") for module in ALLOWED)


def problems(source: str, package: str = "deliverypools.core") -> list[str]:
    tree = ast.parse(source)
    found = [f"imports {name}" for name in imported_names(tree, package) if not is_allowed(name)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
            found.append(f"line {node.lineno}: calls {node.func.id}()")
        if isinstance(node, ast.Attribute) and ast.unparse(node) in FORBIDDEN:
            found.append(f"line {node.lineno}: uses {ast.unparse(node)}")
    return found


def test_there_is_a_core():
    assert SOURCES


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(CORE)))
def test_core_file_is_pure(path):
    package = ".".join(path.relative_to(CORE).parent.parts)
    assert problems(path.read_text(encoding="utf-8"), package) == []


@pytest.mark.parametrize("module", PROMISED_ABSENT)
def test_the_allowed_names_hold_no_input_or_output(module):
    assert not is_allowed(module)
    assert not is_allowed(f"{module}.anything")


@pytest.mark.parametrize(
    "source",
    [
        "import socket",
        "import re, os.path",
        "from datetime import datetime",
        "def f():\n    import time",
        "if False:\n    from os import environ",
        "from ..milter import tag",
        "from deliverypools import adapters",
        "from deliverypools import milter as core",
        "import Milter",
        "from email.utils import make_msgid",
        "import inspect\nTEXT = inspect.getsource(max)",
        "import email.utils\nemail.utils.formatdate()",
        "data = open('x').read()",
        "__import__('os')",
    ],
)
def test_impure_source_is_caught(source):
    assert problems(source)


@pytest.mark.parametrize(
    "source",
    [
        "import re",
        "from email.utils import parseaddr",
        "from . import facts",
        "from .facts import MessageFacts",
        "from deliverypools.core import rules",
        "from deliverypools.core.facts import MessageFacts",
        "from collections.abc import Mapping",
    ],
)
def test_pure_source_passes(source):
    assert problems(source) == []
