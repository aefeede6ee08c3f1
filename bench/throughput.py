"""Measures how much mail goes through Postfix with Delivery Pools, beside bare Postfix and other milters: `make bench`.

    make bench ARGS="--rounds 5 --messages 1000"

Private Postfixes stand side by side, each in a network namespace of its own, alike but for what is attached to them.
In each round every one of them gets the same load in turn: users submit messages over so many sessions at once, as
fast as it goes; then one session sends at a fifth of the speed of bare Postfix, for the time until a message is
accepted. All mail goes on to an smtp-sink(1) at an address (no look-ups of destinations). Printed are messages a
second until the last one was accepted and until the last one had arrived, processor time by component, latency and
memory: medians with ranges, and ratios to bare Postfix in the same round. The exit status is 1 where a message got
lost, arrived twice or by a wrong address, carried a header of ours, or where a peer did not do its work.

`--scaling` measures how the cost grows instead.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import throughput_scaling
from throughput_peers import DKIM, IDLE, IDLE_BOTH, RATE_LIMIT, RSPAMD
from throughput_report import Figures, as_json, closing_line, machine, table
from throughput_subjects import EXPRESS, HOP, Builder, Subject, end_in_order

_PACED_SHARE = 0.2
_WARM_UP_MESSAGES = 200


def main() -> int:
    """Measure in turns and print; the exit status says whether all mail arrived as it should."""
    options = _options()
    end_in_order()
    # On a disk, as a mail server's queue and state are: in memory, fsync costs nothing.
    tempfile.tempdir = os.environ.get("TMPDIR", "/var/tmp")  # noqa: S108
    began = time.monotonic()
    print(", ".join(f"{name} {text}" for name, text in machine().items()), flush=True)
    if options.scaling:
        return throughput_scaling.run(quick=options.quick, only=options.only)
    with Builder() as builder:
        subjects = _subjects(builder, options.only)
        _tell(began, f"{len(subjects)} servers are ready; processor time by {subjects[0].meter.source}")
        figures = [Figures(subject.name) for subject in subjects]
        rate = 0.0
        for subject in subjects:
            warmed = subject.load(messages=_WARM_UP_MESSAGES, sessions=options.sessions)
            rate = rate or warmed.delivered_per_second * _PACED_SHARE
        _tell(began, f"warm; latency is measured at {rate:.0f} messages a second")
        for number in range(options.rounds):
            # Whoever is first in a round is first in no other one.
            first = number % len(subjects)
            for at in (*range(first, len(subjects)), *range(first)):
                _measure(subjects[at], figures[at], options, rate)
            _tell(began, f"round {number + 1} of {options.rounds}: {closing_line(figures)}")
        problems = [problem for subject in subjects for problem in subject.problems]
    print("\n".join(["", *table(figures), ""]))
    if options.json:
        options.json.write_text(json.dumps(as_json(figures, {**vars(options), "json": None, "rate": rate}), indent=1))
    print("\n".join(problems), file=sys.stderr)
    print(closing_line(figures))
    return 1 if problems else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count, after a warm-up")
    parser.add_argument("--messages", type=int, default=1000, help="messages of each load")
    parser.add_argument("--paced", type=int, default=200, help="messages of each paced load, for the latency")
    parser.add_argument("--sessions", type=int, default=8, help="SMTP sessions at once")
    parser.add_argument("--messages-a-session", type=int, default=1, help="messages before a client connects anew")
    parser.add_argument("--size", type=int, default=5800, help="octets of a message")
    parser.add_argument("--plain", action="store_true", help="users submit without TLS")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="bare Postfix and these only, by parts of names")
    parser.add_argument("--quick", action="store_true", help="two short rounds, in less than three minutes")
    parser.add_argument("--scaling", action="store_true", help="how the cost grows with size, recipients and so on")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures of all rounds to a file")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.messages, options.paced = 2, 300, 100
    return options


def _subjects(builder: Builder, only: Sequence[str] | None) -> list[Subject]:
    """Make bare Postfix, and what else is wanted."""
    makers: dict[str, Callable[[], Subject]] = {
        "express": partial(builder.ours, EXPRESS, policy=False),
        "express + policy": partial(builder.ours, EXPRESS, policy=True),
        "fast path": partial(builder.ours, HOP, policy=False, fast=True),
        "fast path + policy": partial(builder.ours, HOP, policy=True, fast=True),
        "hop": partial(builder.ours, HOP, policy=False),
        "hop + policy": partial(builder.ours, HOP, policy=True),
        **{peer.name: partial(builder.bare, peer) for peer in (RSPAMD, DKIM, RATE_LIMIT, IDLE, IDLE_BOTH)},
    }
    wanted = [make for name, make in makers.items() if not only or any(part in name for part in only)]
    return [builder.bare(), *(make() for make in wanted)]


def _measure(subject: Subject, figures: Figures, options: argparse.Namespace, rate: float) -> None:
    busy = subject.load(
        messages=options.messages,
        sessions=options.sessions,
        messages_a_session=options.messages_a_session,
        size=options.size,
        starttls=not options.plain,
    )
    paced = subject.load(messages=options.paced, rate=rate, size=options.size, starttls=not options.plain)
    figures.add(busy, paced)


def _tell(began: float, text: str) -> None:
    print(f"{time.monotonic() - began:5.0f} s  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
