"""`delivery-pools decisions export`: the decision log as a file, for `replay` elsewhere and for other programs."""

from __future__ import annotations

import argparse
from typing import Final

from deliverypools.adapters.exported_decisions import decisions_in, line_of
from deliverypools.cli.exits import OK
from deliverypools.cli.moments import moment
from deliverypools.cli.options import Subparsers, add_config, read_settings
from deliverypools.cli.shared_state import shared_state

_EPILOG: Final = """\
One JSON object a line, in no order: the fields of `explain --json` (queue_id, host, pass_name, at, ingress, account,
pool, rule, reasons, envelope_sender, recipients, client_address, subject, message_id, leaves_by, evidence), and
first_evidence: the evidence of the pass in which the message was counted, null where it is this one. Rows tell who
wrote to how many, when, and the Subject: keep the file as you keep mail logs.

Exit status: 0; 1 the state cannot be read, or not to its end; 2 the command line is wrong.
"""


def add_to(commands: Subparsers) -> None:
    """Add the command with its action."""
    parser = commands.add_parser(
        "decisions",
        help="write the decision log to a file",
        description="The decision log: what was decided about each message.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    export = actions.add_parser(
        "export",
        help="write it to standard output, one JSON object a line",
        description="Write the decision log to standard output, one JSON object a line.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config(export)
    export.add_argument("--since", type=moment, default=0.0, metavar="TIME", help="2d, 2026-11-22 (default: all)")
    export.set_defaults(run=_export)


def _export(options: argparse.Namespace) -> int:
    with shared_state(read_settings(options)) as state:
        for decided in decisions_in(state, options.since):
            print(line_of(decided))
    return OK
