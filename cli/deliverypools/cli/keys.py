"""`delivery-pools keys rotate`: a new key for the ticket; the first call makes the file."""

from __future__ import annotations

import argparse
import sys

from deliverypools.adapters.key_file import KeyFileError, rotate_keys
from deliverypools.cli.exits import FAILED, OK
from deliverypools.cli.options import Subparsers, add_config, read_settings


def add_to(commands: Subparsers) -> None:
    """Add the command."""
    parser = commands.add_parser("keys", help="keys of the ticket", description="Keys of the ticket.")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    rotate = actions.add_parser(
        "rotate",
        help="put a new key first; make the file if it is missing",
        description="Put a new key first and keep the last four, which still open the tickets of queued mail; make the"
        " file if it is missing. The daemons take the new key at SIGHUP. On several hosts that share"
        " a queue or a policy, copy the file.",
    )
    add_config(rotate)
    rotate.set_defaults(run=_rotate)


def _rotate(options: argparse.Namespace) -> int:
    path = read_settings(options).ticket_key_file
    try:
        number = rotate_keys(path)
    except KeyFileError as error:
        print(error, file=sys.stderr)
        return FAILED
    print(f"{path}: {number} key{'s' if number > 1 else ''}, the first one is new; send SIGHUP to the running daemons")
    return OK
