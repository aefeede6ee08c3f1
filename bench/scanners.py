"""Measures how much mail goes through Postfix with rspamd asked by us, and with rspamd as a milter of its own.

    make bench-scanners ARGS="--rounds 5 --messages 300"

Three private Postfixes with Delivery Pools stand side by side: no scanner; rspamd asked by our milter in the egress
pass; rspamd's proxy in milter mode (self-scan) in front of our milter, as rspamd's documentation attaches it. Both have
as many rspamd workers. In each round every one of them gets the same messages in turn, over so many sessions of an
authenticated user. Printed are messages a second, until the last one was accepted, and until the last one had arrived
at the receiving server; and the ratios of each round. The exit status is 1 where a message got lost, arrived twice, or
was not scanned.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Final

from deliverypools.lab.lab import Lab, transaction
from deliverypools.lab.scanners import RspamdServer
from deliverypools.lab.world import NAMESERVER

_ALICE: Final = ("alice@example.org", "secret")
_BODY_BYTES: Final = (1_000, 4_000, 4_000, 20_000)
"""What bodies hold, in turn."""
_ARRIVAL_SECONDS: Final = 300
_WORDS: Final = ("invoice", "meeting", "Thursday", "please", "find", "report", "regards", "quarter", "thanks", "order")
_WITHOUT_LIMITS: Final = {"limits": {"messages_per_minute": 0}}
_NOTHING, _ASKED, _AS_MILTER = "no scanner", "rspamd asked by us", "rspamd as a milter"


@dataclass
class Subject:
    """One way to attach rspamd, and what was measured."""

    name: str
    lab: Lab
    rspamd: RspamdServer | None
    accepted: list[float] = field(default_factory=list)
    """Messages a second, of each round."""
    delivered: list[float] = field(default_factory=list)

    @property
    def scanned(self) -> int:
        """How many messages rspamd has judged."""
        return self.rspamd.log().count("rspamd_task_write_log: id: ") if self.rspamd else 0


def main() -> int:
    """Measure in turns and print; the exit status says whether all mail arrived once, and was scanned."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count, after one that does not (default: 5)")
    parser.add_argument("--messages", type=int, default=300, help="messages a round (default: 300)")
    parser.add_argument("--sessions", type=int, default=8, help="SMTP sessions at once (default: 8)")
    parser.add_argument("--workers", type=int, default=2, help="processes of rspamd that scan (default: 2)")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="of the bodies")  # noqa: S311
    options = parser.parse_args()
    print(f"seed {options.seed}, {os.cpu_count()} processors")
    chance = random.Random(options.seed)  # noqa: S311
    with contextlib.ExitStack() as stack:
        subjects = [
            _attached(stack, name, options.workers, attach)
            for name, attach in ((_NOTHING, None), (_ASKED, _ask), (_AS_MILTER, _as_milter))
        ]
        for number in range(options.rounds + 1):
            messages = [_message(chance, f"{number}.{one}") for one in range(options.messages)]
            # Whoever is first in a round is first in no other one: what the machine does then is shared.
            for subject in (*subjects[number % 3 :], *subjects[: number % 3]):
                _measure(subject, messages, options.sessions)
        problems = [
            problem for subject in subjects for problem in _problems(subject, (options.rounds + 1) * options.messages)
        ]
    for subject in subjects:
        del subject.accepted[0], subject.delivered[0]
    print(_table(subjects))
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def _attached(
    stack: contextlib.ExitStack, name: str, workers: int, attach: Callable[[Lab, RspamdServer], None] | None
) -> Subject:
    lab = stack.enter_context(Lab(settings=_WITHOUT_LIMITS))
    if attach is None:
        return Subject(name, lab, None)
    rspamd = RspamdServer(
        network=lab.network, nameserver=lab.address(NAMESERVER), workers=workers, is_milter=attach is _as_milter
    )
    stack.enter_context(rspamd)
    attach(lab, rspamd)
    return Subject(name, lab, rspamd)


def _ask(lab: Lab, rspamd: RspamdServer) -> None:
    lab.write_settings({**_WITHOUT_LIMITS, "spam": {"rspamd": rspamd.url}})
    lab.restart_milter()


def _as_milter(lab: Lab, rspamd: RspamdServer) -> None:
    lab.postfix.set_main({"smtpd_milters": f"inet:127.0.0.1:{rspamd.milter_port}, $delivery_pools_milter"})


def _message(chance: random.Random, number: str) -> bytes:
    """Return a message that nobody has seen yet."""
    size = _BODY_BYTES[int(number.rpartition(".")[2]) % len(_BODY_BYTES)]
    words_a_line, bytes_a_line = 9, 70
    lines = [" ".join(chance.choices(_WORDS, k=words_a_line)) for _ in range(size // bytes_a_line)]
    return (
        f"From: Alice <{_ALICE[0]}>\r\nTo: Bob <r{number}@example.com>\r\nDate: {formatdate()}\r\n"
        f"Message-ID: <{number}@bench.example.org>\r\nSubject: {chance.choice(_WORDS)} {number}\r\n\r\n"
        + "".join(f"{line}\r\n" for line in lines)
    ).encode()


def _measure(subject: Subject, messages: Sequence[bytes], sessions: int) -> None:
    known = len(subject.lab.messages)
    begin = time.monotonic()
    with ThreadPoolExecutor(sessions) as pool:
        accepted = sum(
            pool.map(lambda share: _submit(subject.lab, share), [messages[n::sessions] for n in range(sessions)])
        )
    subject.accepted.append(accepted / (time.monotonic() - begin))
    subject.lab.wait_for(lambda _message: True, count=known + accepted, timeout_seconds=_ARRIVAL_SECONDS)
    subject.delivered.append(accepted / (time.monotonic() - begin))
    subject.lab.wait_until_queue_is_empty()


def _submit(lab: Lab, messages: Sequence[bytes]) -> int:
    """Send messages over one session; return how many were accepted."""
    with lab.session(port=587, auth=_ALICE) as smtp:
        return sum(
            transaction(smtp, _ALICE[0], data.partition(b"To: Bob <")[2].partition(b">")[0].decode(), data).accepted
            for data in messages
        )


def _problems(subject: Subject, sent: int) -> list[str]:
    arrived = [message.header("Message-ID") for message in subject.lab.messages]
    counts = {"arrived": len(set(arrived)), "arrivals": len(arrived)}
    if subject.rspamd:
        counts["scanned"] = subject.scanned
    return [f"{subject.name}: {sent} messages, {count} {what}" for what, count in counts.items() if count != sent]


def _table(subjects: Sequence[Subject]) -> str:
    lines = [f"{'messages a second: median (lowest to highest)':<48}{'accepted':<26}{'delivered':<26}"]
    lines += [f"  {one.name:<46}{_spread(one.accepted):<26}{_spread(one.delivered):<26}" for one in subjects]
    lines.append("ratios of each round")
    nothing, asked, milter = subjects
    for one, other in ((asked, milter), (asked, nothing), (milter, nothing)):
        accepted, delivered = (
            [mine / theirs for mine, theirs in zip(left, right, strict=True)]
            for left, right in ((one.accepted, other.accepted), (one.delivered, other.delivered))
        )
        lines.append(f"  {f'{one.name} / {other.name}':<46}{_spread(accepted, 2):<26}{_spread(delivered, 2):<26}")
    return "\n".join(line.rstrip() for line in lines)


def _spread(values: Sequence[float], digits: int = 0) -> str:
    middle, low, high = (f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({low} to {high})"


if __name__ == "__main__":
    sys.exit(main())
