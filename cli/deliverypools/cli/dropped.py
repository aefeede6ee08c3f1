"""`delivery-pools dropped`: the drop ledger, bounces that were not sent because their sender was forged."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Final

from deliverypools.cli.exits import OK
from deliverypools.cli.moments import moment
from deliverypools.cli.options import Subparsers, add_config, read_settings
from deliverypools.cli.shared_state import shared_state
from deliverypools.core.alert_text import readable
from deliverypools.core.facts import printable
from deliverypools.core.records import DroppedNotice
from deliverypools.core.restrictions import utc_text

_EPILOG: Final = """\
The drop ledger: bounces and delay warnings of this Postfix that were not sent, with `bounces.drop_backscatter`, because
the message that they are about came from outside with a forged sender, or was spam. Each entry says when; to whom the
bounce would have gone; which client had brought the message; why it was dropped; who was not reached; and the Subject,
From and first lines of the message. The newest comes first. Entries are kept for `bounces.ledger_lifetime`, at most
`bounces.ledger_entries` of them.

--since takes a number and a unit, "12h" or "2d": so long ago; or a day or time in UTC, "2026-11-22" or
"2026-11-22T13:05".

--json writes one object a line: queue_id (of the bounce), host, at (seconds since the epoch), kind, sender, recipients,
client_address, reason, original_queue_id, message_id, subject, header_from, first_lines.

Exit status: 0, also if nothing was dropped; 1 the state cannot be read; 2 the command line is wrong.
"""
_MOST: Final = 1000
_MOST_OF_ALL: Final = 1_000_000
_MOST_LINES: Final = 20
_COUNT: Final = re.compile(r"[1-9][0-9]{0,6}")


def add_to(commands: Subparsers) -> None:
    """Add the command with its action."""
    parser = commands.add_parser(
        "dropped",
        help="list bounces that were not sent because their sender was forged",
        description="Bounces that were not sent because their sender was forged (the drop ledger).",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser(
        "list",
        help="list them, newest first",
        description="List bounces that were not sent because their sender was forged, newest first.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config(listing)
    listing.add_argument("--since", type=moment, default=0.0, metavar="TIME", help="2d, 2026-11-22 (default: all)")
    listing.add_argument(
        "--most", type=_count, default=_MOST, metavar="N", help="the newest N of them (default: %(default)s)"
    )
    listing.add_argument("--json", action="store_true", help="JSON: one object a line")
    listing.set_defaults(run=_list)


def _count(text: str) -> int:
    if not _COUNT.fullmatch(text) or int(text) > _MOST_OF_ALL:
        raise argparse.ArgumentTypeError(f"got {printable(text, 40)!r}; write a number from 1 to {_MOST_OF_ALL}")
    return int(text)


def _list(options: argparse.Namespace) -> int:
    settings = read_settings(options)
    with shared_state(settings) as state:
        notices = state.dropped(since=options.since, most=options.most)
        total = state.count_dropped(since=options.since)
    rest = f"the newest {len(notices)} of {total}; --most {total} shows all"
    if options.json:
        for notice in notices:
            print(json.dumps(asdict(notice)))
        if len(notices) < total:
            print(f"delivery-pools dropped: {rest}", file=sys.stderr)
        return OK
    for notice in notices:
        print("\n".join(_lines(notice)), end="\n\n")
    if len(notices) < total:
        print(rest)
    elif notices:
        print(f"{total} dropped")
    else:
        print(
            "nothing was dropped" + ("" if settings.bounces.drop_backscatter else "; bounces.drop_backscatter is off")
        )
    return OK


def _lines(notice: DroppedNotice) -> Iterator[str]:
    """Yield an entry as people read it; whatever is in it, it is printable."""
    sender = printable(notice.sender, 400) or "(nobody)"
    yield f"{utc_text(notice.at)}  {printable(notice.queue_id)}: {printable(notice.kind)} not sent to {sender}"
    message = " ".join(printable(part) for part in (notice.original_queue_id, notice.message_id) if part)
    rows = {
        "reason": printable(notice.reason, 400),
        "client": printable(notice.client_address),
        "not reached": printable(notice.recipients, 1000),
        "message": message,
        "from": readable(notice.header_from),
        "subject": readable(notice.subject),
        "host": printable(notice.host),
    }
    for name, value in rows.items():
        if value:
            yield f"  {name + ':':<12} {value}"
    for line in notice.first_lines.split("\n")[:_MOST_LINES]:
        if line.strip():
            yield f"  | {printable(line)}"
