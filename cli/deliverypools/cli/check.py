"""`delivery-pools check`: the settings and the files they name."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from deliverypools.adapters.key_file import KeyFileError, is_open_to_all, read_keys
from deliverypools.adapters.sockets import unix_path
from deliverypools.cli.exits import FAILED, OK
from deliverypools.cli.options import Subparsers, add_config, read_settings
from deliverypools.core.settings import Settings


def add_to(commands: Subparsers) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "check",
        help="check the settings and the files they name",
        description="Check the settings file and the files and folders that it names. This version does not yet"
        " examine the Postfix configuration.",
    )
    add_config(parser)
    parser.add_argument("--quiet", action="store_true", help="print findings only")
    parser.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> int:
    settings = read_settings(options)
    errors = _errors(settings)
    for line in errors:
        print(f"error: {line}", file=sys.stderr)
    for line in settings.not_in_effect():
        print(f"warning: {line}", file=sys.stderr)
    if not errors and not options.quiet:
        print("settings and files are in order; the Postfix configuration was not examined")
    return FAILED if errors else OK


def _errors(settings: Settings) -> list[str]:
    errors = []
    try:
        read_keys(settings.ticket_key_file)
        if is_open_to_all(settings.ticket_key_file):
            errors.append(f"{settings.ticket_key_file}: every user can read the keys; take that away: chmod o=")
    except KeyFileError as error:
        errors.append(str(error))
    folders = {"state": Path(settings.state_path).parent}
    for name, table in (("milter.socket", settings.milter), ("policy.socket", settings.policy)):
        if path := unix_path(table.socket):
            folders[name] = Path(path).parent
    for name, folder in folders.items():
        if not folder.is_dir():
            errors.append(f"{name}: the folder {folder} does not exist; make it, owned by the user of the daemons")
        elif not os.access(folder, os.W_OK):
            errors.append(f"{name}: this user cannot write the folder {folder}; run check as the user of the daemons")
    return errors
