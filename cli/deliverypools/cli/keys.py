"""`delivery-pools keys rotate`: new keys for the ticket and for SRS; the first call makes the files."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from deliverypools.adapters.key_file import rotate_keys
from deliverypools.adapters.key_lines import KeyFileError
from deliverypools.adapters.settings_file import settings_path
from deliverypools.adapters.srs_secrets import rotate_srs_secrets
from deliverypools.cli.exits import FAILED, OK
from deliverypools.cli.options import Subparsers, add_config, read_settings
from deliverypools.core.srs import VALID_DAYS


def add_to(commands: Subparsers) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "keys", help="keys of the ticket and of SRS", description="Keys of the ticket and of SRS."
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    rotate = actions.add_parser(
        "rotate",
        help="put new keys first; make the files if they are missing",
        description="Put a new key first and keep the last four; make the file if it is missing. This is done with the"
        " ticket's keys, which still open the tickets of queued mail, and, where forwarding.srs_secret_file is set,"
        f" with the secrets of SRS. Bounces to rewritten senders come back for {VALID_DAYS} days: rotate SRS secrets at"
        " most once a week, or they lead nowhere. The daemons take the new keys at SIGHUP. On several hosts that"
        " share a queue, a policy or an SRS domain, copy the files. A new file made by root can be read by the group"
        " delivery-pools, if there is one.",
    )
    add_config(rotate)
    rotate.add_argument("--only", choices=("ticket", "srs"), help="rotate the keys of one file only")
    rotate.set_defaults(run=_rotate)


def _rotate(options: argparse.Namespace) -> int:
    settings = read_settings(options)
    secret_file = settings.forwarding.srs_secret_file
    if options.only == "srs" and secret_file is None:
        path, _ = settings_path(options.config, os.environ)
        print(
            f"{path}: forwarding.srs_secret_file is not set; name the file for the secrets in [forwarding]:"
            ' srs_secret_file = "/etc/delivery-pools/srs.secrets"',
            file=sys.stderr,
        )
        return FAILED
    if secret_file is not None and os.path.realpath(secret_file) == os.path.realpath(settings.ticket_key_file):
        print(f"{secret_file}: is the ticket_key_file; give the secrets of SRS a file of their own", file=sys.stderr)
        return FAILED
    status = OK
    if options.only != "srs":
        status |= _report(rotate_keys, settings.ticket_key_file)
    if options.only != "ticket" and secret_file is not None:
        status |= _report(rotate_srs_secrets, secret_file)
    return status


def _report(rotate: Callable[[str], int], path: str) -> int:
    try:
        number = rotate(path)
    except KeyFileError as error:
        print(error, file=sys.stderr)
        return FAILED
    print(f"{path}: {number} key{'s' if number > 1 else ''}, the first one is new; send SIGHUP to the running daemons")
    return OK
