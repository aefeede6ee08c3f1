"""Mail of all kinds through the hop while milter, policy service, Postfix and state fail at random.

    python bench/soak.py [--messages 10000] [--seed N]

Each accepted message has to arrive exactly once for each recipient, by the address of its pool, and `delivery-pools
audit` has to find nothing wrong in the mail log. Duplicates that SMTP itself makes possible are counted: somebody lost
the connection, or was killed, after the final dot of a message and before the reply was noted.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import stat
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deliverypools.cli.main import main as delivery_pools
from deliverypools.lab.lab import Lab
from deliverypools.lab.receiver import ACCEPT, DEFER, REFUSE
from deliverypools.lab.waiting import wait_until
from soak_chaos import Chaos
from soak_mail import DEFERRING, REFUSED, SITE, Clients, Reckoning, Task, reckon, since, tasks

_CLIENTS = 6
_SETTINGS = {
    "limits": {"messages_per_minute": 0, "recipients_per_day": 0},
    "dns": {"timeout_seconds": 2.0, "servfail_cache_seconds": 0.5},
}
_TELL_EVERY_SECONDS = 15.0
_QUEUE_SECONDS = 600.0
_SHOWN = 20


@dataclass(frozen=True)
class Soaked:
    """What one run has shown."""

    reckoning: Reckoning
    audit: dict[str, Any]
    sent: list[Task]
    troubles: Counter[str]
    seconds: float

    @property
    def is_right(self) -> bool:
        """Whether nothing is wrong."""
        return not self.reckoning.wrongs and not self.audit["failures"] and not self.audit["problem"]

    def lines(self) -> list[str]:
        """Return it for people; the last line is the summary."""
        found, attempts = self.reckoning, Counter(taken.value for task in self.sent for taken in task.attempts)
        findings = [
            "audit: {kind} {queue_id} to {recipient}: {transport}, decided {decided}".format(**finding)
            for finding in self.audit["findings"]
        ]
        wrongly_taken = len(found.uncalled) + len(found.refused)
        duplicates = (
            f"SMTP's own duplicates: {found.doubled_by_clients} of clients that lost the reply, "
            f"{found.doubled_by_kills} of Postfix killed before it noted one"
        )
        summary = (
            f"{len(self.sent)} messages, {sum(self.troubles.values())} troubles, {self.seconds:.0f} s: "
            f"{found.arrived} copies arrived, {len(found.lost)} lost, {len(found.doubled)} doubled, "
            f"{len(found.misled)} by a wrong address, {wrongly_taken} wrongly taken or refused, "
            f"{len(found.marked)} with our headers; audit: {self.audit['failures']} failures {self.audit['problem']}"
        )
        return [
            *(f"{count:6} x {trouble}" for trouble, count in sorted(self.troubles.items())),
            *(f"{count:6} attempts: {what}" for what, count in sorted(attempts.items())),
            *found.wrongs[:_SHOWN],
            *findings[:_SHOWN],
            duplicates,
            summary,
        ]


def soak(messages: int, seed: int, *, clients: int = _CLIENTS, troubles: int = 0, tell: bool = False) -> Soaked:
    """Run once; the same seed makes the same messages, and the same troubles in the same order.

    `troubles` are the least to make: when all mail is sent, much of it still waits in the queue.
    """
    sent = tasks(messages, random.Random(seed))  # noqa: S311
    zones = {DEFERRING: {"MX": ["10 mx.example.net."]}}
    with Lab(site=SITE, settings=_SETTINGS, zones=zones) as lab:
        lab.receiver.answer(DEFERRING, DEFER)
        lab.receiver.answer(REFUSED, REFUSE)
        begun = time.monotonic()
        senders, chaos = Clients(lab, sent, clients), Chaos(lab, random.Random(seed))  # noqa: S311
        try:
            while senders.are_busy or (chaos.goes_on and chaos.done.total() < troubles):
                senders.wait(_TELL_EVERY_SECONDS)
                chaos.wait_for_one()
                if tell:
                    print(f"{since(begun)}: {senders.accepted} accepted, {len(lab.messages)} have arrived", flush=True)
        finally:
            chaos.stop()
            senders.wait()
        lab.receiver.answer(DEFERRING, ACCEPT)
        wait_until(lambda: _is_empty(lab), timeout_seconds=_QUEUE_SECONDS, what="an empty queue")
        reckoning, audit = reckon(lab, sent, chaos.postfix_ended), _audited(lab)
        return Soaked(reckoning, audit, sent, chaos.done, time.monotonic() - begun)


def _is_empty(lab: Lab) -> bool:
    """Tell whether nothing waits any more, and let Postfix try again what does."""
    lab.postfix.flush()
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: not _waiting(lab), timeout_seconds=5, what="an empty queue")
    # A message between two queues can be missed by one look.
    return not _waiting(lab) and not _waiting(lab)


def _waiting(lab: Lab) -> int:
    """Return how many messages are in the queue, without the halves that killed processes have left behind.

    A queue file that is complete, and so accepted, has its owner's execute bit (MAIL_QUEUE_STAT_READY of Postfix).
    """
    count = 0
    for queue in ("maildrop", "incoming", "active", "deferred", "hold"):
        for folder, _, names in os.walk(lab.postfix.queue_directory / queue):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    count += bool((Path(folder) / name).stat().st_mode & stat.S_IXUSR)
    return count


def _audited(lab: Lab) -> dict[str, Any]:
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        delivery_pools(["audit", "--json", "--config", str(lab.settings_file), str(lab.postfix.log_file)])
    report: dict[str, Any] = json.loads(output.getvalue())
    return report


def main() -> int:
    """Run; the exit status is 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=10_000, help="how many are sent (default: 10000)")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="of mail and troubles")  # noqa: S311
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    soaked = soak(options.messages, options.seed, tell=True)
    print("\n".join(soaked.lines()))
    return 0 if soaked.is_right else 1


if __name__ == "__main__":
    sys.exit(main())
