"""Measures `delivery-pools audit` on a long mail log: `make bench-audit`.

A log of 20,000 messages through the hop, with a row of the decision log for each, is written again and again into the
command's standard input until it has the size that is asked for. Shown are time, speed, and the memory that the
command has used at most. An audit that does not count every message, or finds anything, makes the run fail.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from deliverypools.adapters.sqlite_state import SQLiteState
from deliverypools.core.records import EGRESS_PASS, DecisionRecord
from deliverypools.core.tallies import DAY

MESSAGES: Final = 20_000
POOLS: Final = ("normal", "high-risk", "relay")
_MEGABYTE: Final = 1_000_000
_DIGITS: Final = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxy"
_SETTINGS: Final = """\
accepted_domains = ["example.org"]
state = "sqlite:///{folder}/state.db"
pools.normal = {{addresses = ["192.0.2.10"], helo = "mail.example.org"}}
pools.high-risk = {{addresses = ["192.0.2.20"], helo = "mail-high-risk.example.org"}}
pools.relay = {{addresses = ["192.0.2.30"], helo = "mail-relay.example.org"}}
"""


def queue_id(number: int) -> str:
    """Return a long queue id."""
    text = ""
    for _ in range(10):
        number, digit = divmod(number, len(_DIGITS))
        text = _DIGITS[digit] + text
    return f"4{text}zJs3M"


def message_lines(number: int, when: str) -> Iterator[str]:
    """Yield what Postfix logs of a message that takes the hop."""
    first, second, pool = queue_id(2 * number), queue_id(2 * number + 1), POOLS[number % len(POOLS)]
    client = "client=unknown[203.0.113.1], sasl_method=PLAIN, sasl_username=alice@example.org"
    sender, to = "from=<alice@example.org>", f"to=<user{number}@example.com>"
    delays = "delay=0.26, delays=0.1/0.03/0.03/0.1, dsn=2.0.0"
    tag = f"milter-header-filter: header X-Delivery-Pool: {pool} from unknown[127.0.0.1]"
    for program, text in (
        ("postfix/submission/smtpd", f"{first}: {client}"),
        ("postfix/cleanup", f"{first}: message-id=<{number}@example.org>"),
        ("postfix/qmgr", f"{first}: {sender}, size=366, nrcpt=1 (queue active)"),
        ("postfix/egress-in/smtpd", f"{second}: client=unknown[127.0.0.1], orig_queue_id={first}"),
        ("postfix/egress-in/cleanup", f"{second}: message-id=<{number}@example.org>"),
        ("postfix/egress-in/cleanup", f"{second}: {tag}; {sender} {to} proto=ESMTP helo=<x>: pool-{pool}:"),
        ("postfix/qmgr", f"{second}: {sender}, size=1326, nrcpt=1 (queue active)"),
        (
            "postfix/egress/smtp",
            f"{first}: {to}, relay=127.0.0.1[127.0.0.1]:10027, {delays}, status=sent (250 2.0.0 Ok)",
        ),
        ("postfix/qmgr", f"{first}: removed"),
        (
            f"postfix/pool-{pool}/smtp",
            f"{second}: {to}, relay=mx.example.com[198.51.100.25]:25, {delays}, status=sent (250 2.0.0 Ok)",
        ),
        ("postfix/qmgr", f"{second}: removed"),
    ):
        yield f"{when} mx {program}[27567]: {text}\n"


def write_decisions(folder: Path, now: float) -> None:
    """Write the decision log of all messages."""
    state = SQLiteState(str(folder / "state.db"), time.time)
    for number in range(MESSAGES):
        record = DecisionRecord(
            queue_id=queue_id(2 * number + 1),
            host="mx.example.org",
            pass_name=EGRESS_PASS,
            at=now,
            ingress="submission",
            account="alice@example.org",
            pool=POOLS[number % len(POOLS)],
            rule="default",
            reasons="no other rule matched",
            envelope_sender="alice@example.org",
            recipients=1,
            client_address="203.0.113.1",
            subject="",
            message_id=f"<{number}@example.org>",
        )
        state.record(record, 14 * DAY)
    state.close()


def audit(folder: Path, part: bytes, parts: int) -> dict[str, Any]:
    """Audit a log that has a part so many times; return the command's report."""
    command = [sys.executable, "-m", "deliverypools", "audit", "--json", "--config", str(folder / "pools.toml"), "-"]
    with (
        (folder / "report.json").open("w+b") as report,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=report) as process,
    ):
        if process.stdin is None:
            raise RuntimeError("no pipe")
        with process.stdin as log:
            for _ in range(parts):
                log.write(part)
        process.wait()
        report.seek(0)
        answer: dict[str, Any] = json.load(report)
    return answer


def main() -> int:
    """Measure, and print the figures."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--megabytes", type=int, default=1000, help="size of the log (default: %(default)s)")
    megabytes: int = options.parse_args().megabytes
    now = time.time()
    when = datetime.fromtimestamp(now, UTC).isoformat(timespec="microseconds")
    part = "".join(line for number in range(MESSAGES) for line in message_lines(number, when)).encode()
    parts = max(1, round(megabytes * _MEGABYTE / len(part)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pools.toml").write_text(_SETTINGS.format(folder=folder))
        write_decisions(folder, now)
        begin = time.monotonic()
        report = audit(folder, part, parts)
        seconds = time.monotonic() - begin
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    size = parts * len(part) / _MEGABYTE
    messages = sum(pool["messages"] for pool in report["pools"].values())
    print(
        f"{size:.0f} MB, {report['counts']['lines']} lines, {messages} messages: {seconds:.0f} s,"
        f" {size / seconds:.1f} MB/s, at most {memory:.0f} MiB of memory"
    )
    is_right = not report["failures"] and not report["problem"] and messages == parts * MESSAGES
    print("every message was found right" if is_right else f"WRONG: {report['by_kind']} {report['problem']}")
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
