"""`delivery-pools`: arguments in, exit status out."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Final

from deliverypools.adapters.state import StateUnavailable
from deliverypools.cli.exits import EX_CONFIG, FAILED
from deliverypools.cli.shared_state import failure_text
from deliverypools.core.settings import SettingsError

_MODULES: Final = {
    "demo": "demo",
    "milter": "daemons",
    "policy": "daemons",
    "classify": "classify",
    "explain": "explain",
    "restricted": "restricted",
    "dropped": "dropped",
    "usage": "usage",
    "audit": "audit",
    "replay": "replay",
    "decisions": "decisions",
    "check": "check",
    "postfix": "postfix",
    "keys": "keys",
}
"""The module of each command, in the order of `--help`."""

_EPILOG = """\
Settings: --config FILE, else the variable DELIVERY_POOLS_CONFIG, else /etc/delivery-pools/delivery-pools.toml.
Exit status: 0 done; 1 something was found or went wrong; 2 the command line is wrong; 78 the settings are wrong.
"""


def parser(command: str = "") -> argparse.ArgumentParser:
    """Return the parser of one command, or of all of them if there is none of that name.

    Only that command is loaded: a daemon, and whoever waits for an answer, does without the others.
    """
    top = argparse.ArgumentParser(
        prog="delivery-pools",
        description="Outbound delivery pools for Postfix: mail that could harm the reputation of your addresses"
        " leaves by others.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"%(prog)s {metadata.version('delivery-pools')}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    modules = [_MODULES[command]] if command in _MODULES else dict.fromkeys(_MODULES.values())
    for name in modules:
        importlib.import_module(f"deliverypools.cli.{name}").add_to(commands)
    return top


def _run(options: argparse.Namespace) -> int:
    """Run the command, and flush here: what fails at exit ends with a complaint of Python's."""
    status = int(options.run(options))
    sys.stdout.flush()
    return status


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    try:
        return parser(*arguments[:1]).parse_args(arguments)
    except SystemExit:
        # `--help` has printed something.
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            _go_on_without_reader()
        raise


def _go_on_without_reader() -> None:
    """The reader of our output has gone, as `| head` does: no traceback, and none from the flush at exit."""
    for stream in (sys.stdout, sys.stderr):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = _parsed(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        # File names and message text may hold anything; what a terminal cannot show is escaped, not fatal.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        return _run(options)
    except SettingsError as error:
        for line in error.errors:
            print(line, file=sys.stderr)
        return EX_CONFIG
    except StateUnavailable as error:
        print(f"delivery-pools: {failure_text(error)}", file=sys.stderr)
        return FAILED
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            _go_on_without_reader()
        else:
            remedy = "; run this as root" if isinstance(error, PermissionError) and os.geteuid() != 0 else ""
            print(f"delivery-pools: {error.filename or ''}: {error.strerror or error}{remedy}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return 130
