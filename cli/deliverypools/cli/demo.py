"""`delivery-pools demo`: a private Postfix with everything attached, real messages through it, and a table."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import smtplib
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from deliverypools.adapters.message_file import parse_headers
from deliverypools.cli.exits import FAILED, OK
from deliverypools.cli.options import Subparsers
from deliverypools.core.received import own_received
from deliverypools.core.records import DECIDING_PASSES
from deliverypools.lab import story
from deliverypools.lab.lab import Lab
from deliverypools.lab.namespace import LabUnavailableError
from deliverypools.lab.receiver import ReceivedMessage
from deliverypools.lab.waiting import wait_until

_HOSTNAME = "mx.example.org"
_ARRIVAL_SECONDS = 30
_NONE = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table."""

    message: str
    pool: str
    rule: str
    reasons: str
    source_address: str
    wrong: str
    """What is not as it should be, "" if all is well."""


def add_to(commands: Subparsers) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "demo",
        help="start a private Postfix with everything attached and show what leaves by which address",
        description="Start a private Postfix with the milter, the policy service, a DNS server and a receiving server,"
        " in a network namespace of its own; send real messages through it; show for each the pool, the rule, the"
        " reasons and the source address that the receiving server saw, and check them. Never touches the machine's"
        " own Postfix. Needs root, and the packages postfix and iproute2.",
        epilog="Exit status: 0 if every row is right, 1 if not.",
    )
    parser.add_argument(
        "files", nargs="*", type=Path, metavar="MESSAGE.eml", help="send these too, from a client in trusted_networks"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a row")
    parser.add_argument(
        "--keep", action="store_true", help="leave everything running until Ctrl-C, and the files after"
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    for path in options.files:
        try:
            path.read_bytes()
        except OSError as error:
            print(f"delivery-pools demo: {path}: {error.strerror}", file=sys.stderr)
            return FAILED
    # The end of the context stops everything; a signal that ends us at once would leave a Postfix running.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    say = _silent if options.json else _say
    say("Starting a private Postfix, the milter, the policy service, DNS and a receiving server ...")
    try:
        with Lab(site=story.site(), settings=story.settings(), keep=options.keep) as lab:
            if not lab.network.isolated:
                say(f"No network namespace ({lab.network.reason_not_isolated}): loopback addresses instead.")
            say(f"Sending through {_HOSTNAME} ({lab.directory}) ...")
            story.prepare(lab)
            rows = [row for scene in story.scenes(options.files) for row in _play(scene, lab)]
            _print(rows, as_json=options.json)
            wrong = [row for row in rows if row.wrong]
            sources = {row.source_address for row in rows if row.source_address not in (story.LOCAL, _NONE)}
            say(f"{len(rows) - len(wrong)} of {len(rows)} rows right, {len(sources)} source addresses.")
            if options.keep:
                _hold(lab)
    except LabUnavailableError as error:
        print(f"delivery-pools demo: {error}", file=sys.stderr)
        return FAILED
    return FAILED if wrong else OK


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _play(scene: story.Scene, lab: Lab) -> list[Row]:
    try:
        result = scene.send(lab, scene.title)
    except (smtplib.SMTPException, OSError, UnicodeError) as error:
        return [_failed_row(scene, f"could not be sent: {error}")]
    if result is not None and not result.accepted:
        return [_failed_row(scene, f"refused by our own Postfix: {result.code} {result.text}")]
    return [
        _local_row(scene, lab, copy) if copy.pool == story.LOCAL else _row(scene, lab, copy) for copy in scene.copies
    ]


def _failed_row(scene: story.Scene, wrong: str) -> Row:
    return Row(message=scene.title, pool=_NONE, rule=_NONE, reasons="", source_address=_NONE, wrong=wrong)


def _local_row(scene: story.Scene, lab: Lab, copy: story.Copy) -> Row:
    mailbox = copy.recipient.partition("@")[0]
    wrong = ""
    try:
        wait_until(lambda: bool(lab.mailbox(mailbox)), timeout_seconds=_ARRIVAL_SECONDS, what=f"mailbox {mailbox}")
    except TimeoutError as error:
        wrong = str(error)
    if any("X-Delivery-Pool" in message for message in lab.mailbox(mailbox)):
        wrong = "carries a tag"
    title = f"{scene.title}: local copy"
    return Row(message=title, pool=story.LOCAL, rule=_NONE, reasons="", source_address=story.LOCAL, wrong=wrong)


def _row(scene: story.Scene, lab: Lab, copy: story.Copy) -> Row:
    def is_it(message: ReceivedMessage) -> bool:
        return copy.recipient in message.recipients and (not copy.is_ndr or not message.envelope_sender)

    try:
        message = lab.wait_for(is_it, timeout_seconds=_ARRIVAL_SECONDS)[0]
    except TimeoutError:
        return _failed_row(scene, f"did not arrive in {_ARRIVAL_SECONDS} s")
    decision = _decision(message, lab)
    pool, rule = decision.get("pool", "?"), decision.get("rule", "?")
    wrong = ""
    if lab.pool_of(message) != pool:
        wrong = f"left by an address of {lab.pool_of(message)}"
    elif copy.pool is not None and (pool, rule) != (copy.pool, copy.rule):
        wrong = f"expected {copy.pool} by {copy.rule}"
    elif b"\nX-Delivery-Pool" in message.data.partition(b"\r\n\r\n")[0]:
        wrong = "carried our headers on the wire"
    reasons = decision.get("reasons", "")
    return Row(
        message=scene.title, pool=pool, rule=rule, reasons=reasons, source_address=message.source_address, wrong=wrong
    )


def _decision(message: ReceivedMessage, lab: Lab) -> dict[str, str]:
    """Return what the milter logged about a message, by the queue id that the listener put into its Received field."""
    received = next(own_received(parse_headers(message.data), _HOSTNAME), None)
    for line in lab.milter.log().splitlines():
        if received and any(f" {received.queue_id}: pass={name} " in line for name in DECIDING_PASSES):
            return dict(pair.split("=", 1) for pair in shlex.split(line.partition(": pass")[2]) if "=" in pair)
    return {}


def _print(rows: list[Row], *, as_json: bool) -> None:
    if as_json:
        for row in rows:
            print(json.dumps(asdict(row)))
        return
    table = [("message", "pool", "rule", "source address", "reasons")]
    table += [(row.message, row.pool, row.rule, row.source_address, row.reasons) for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    wrong = ["", *(row.wrong for row in rows)]
    for cells, problem in zip(table, wrong, strict=True):
        padded = "  ".join(cell.ljust(width) for cell, width in zip(cells[:-1], widths, strict=False))
        print(f"{padded}  {cells[-1]}".rstrip())
        if problem:
            print(f"    WRONG: {problem}")


def _hold(lab: Lab) -> None:
    _say(f"Running; files in {lab.directory}; Postfix: postfix -c {lab.postfix.config_directory} ...; Ctrl-C ends it.")
    try:
        signal.pause()
    except KeyboardInterrupt:
        print("Stopped; the files are kept.")


def _say(text: str) -> None:
    print(text, flush=True)


def _silent(_text: str) -> None:
    pass
