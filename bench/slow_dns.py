"""Shows what a slow DNS server does to mail that does not need it: `make bench-slow-dns`.

    make bench-slow-dns ARGS="--connections 1000 --seconds 2"

A private Postfix with Delivery Pools, once with the fast path and once without. Its name server answers after two
seconds for some domains. Over a thousand connections mail comes in from these domains, and trusted clients send on mail
of theirs; a user of an accepted domain submits meanwhile, and before: alone, and beside the same mail with DNS that
answers at once. Printed are how long that user waits until a message is accepted, how long Postfix then takes to
deliver it, how long the others wait, how many messages are undecided, and the longest callback of the milter. The exit
status is 1 where a message got lost, came twice or left by a wrong address.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deliverypools.adapters.metrics import measure
from deliverypools.adapters.metrics.definitions import END_OF_MESSAGE
from deliverypools.adapters.metrics.exchange import Gatherer
from deliverypools.lab.dns_failures import Slow
from deliverypools.lab.lab import OUTSIDE_CLIENT, Lab
from deliverypools.lab.waiting import wait_until
from smtp_load import Sent
from smtp_receiver import Arrived
from throughput_report import percentile
from throughput_subjects import HOP, Builder, Subject, end_in_order

_RATE: Final = 20.0
"""Messages a second of the user who does not need the slow server."""
_BEFORE: Final = 200
"""Messages of that user before the others begin."""
_SLOW: Final = "slow.example"
_DOMAINS: Final = 200
_AT_ONCE, _LATE = "at-once", "late"
_OUTSIDE_SHARE: Final = 0.7
"""Of the connections are from outside; the others are of trusted clients."""
_MESSAGES_A_CONNECTION: Final = 2
_MAILBOX: Final = "bob"
_POOL_RELAY: Final = "192.0.2.30"
_QUEUE_SECONDS: Final = 300.0
_SETTLING_SECONDS: Final = 30.0
_MAIN: Final = {
    "default_process_limit": "1500",
    "smtpd_client_connection_count_limit": "0",
    # What could not be decided is tried again while this runs.
    "queue_run_delay": "5s",
    "minimal_backoff_time": "5s",
    "maximal_backoff_time": "10s",
}
_DELIVERED: Final = re.compile(r" to=<(?P<recipient>[^>]+)>,.* delay=(?P<delay>[\d.]+), .*status=sent")


@dataclass
class Crowd:
    """Clients whose mail needs the slow server; `run` in a thread."""

    subject: Subject
    order: dict[str, Any]
    sent: Sent | None = None

    def run(self) -> None:
        """Send everything."""
        self.sent = self.subject.send(**self.order)


def main() -> int:
    """Measure and print; the exit status says whether all mail arrived as it should."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--connections", type=int, default=1000, help="how many need the slow server, at once")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long that takes to answer")
    options = parser.parse_args()
    end_in_order()
    problems: list[str] = []
    for fast in (True, False):
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-slow-dns-"))) / "metrics"
            builder = stack.enter_context(Builder(main=_MAIN))
            metrics = {"metrics": {"listen": "127.0.0.1:9641", "directory": str(folder)}}
            subject = builder.ours(HOP, policy=True, fast=fast, settings=metrics)
            folder.parent.chmod(0o755)
            problems += _measured(subject, Gatherer(folder), options.connections, options.seconds)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def _measured(subject: Subject, gatherer: Gatherer, connections: int, seconds: float) -> Iterator[str]:
    lab = subject.lab
    # Domains of their own in each part: of a domain that was seen once, the last known answer is remembered.
    for domain in (*_domains(_AT_ONCE), *_domains(_LATE)):
        lab.dns.set(domain, {"MX": ["10 mx.example.com."], "A": ["198.51.100.25"]})
    print(f"{subject.name}, a user of an accepted domain:", flush=True)
    quiet = subject.load(messages=_BEFORE, rate=_RATE)
    print(f"  alone:{_told(quiet.sent.latencies)}; delivered:{_told(_delays(lab, 'r1.'))}", flush=True)
    counts = Counter[str]()
    for name, failure in ((_AT_ONCE, None), (_LATE, Slow(seconds))):
        # The same mail with a server that answers at once: what is added then is not the DNS.
        lab.dns.fail(_SLOW, failure)
        what = f"while {connections} connections need DNS that answers " + (
            f"after {seconds:g} s" if failure else "at once"
        )
        print(f"  {what}:")
        yield from _crowded(subject, connections, name, counts)
        print(f"    {_waiting(lab)} messages are undecided; longest callback so far {_longest(gatherer)}", flush=True)
    # What is undecided, because the answers come too late, is decided when they come in time.
    lab.dns.fail(_SLOW, None)
    lab.wait_until_queue_is_empty(_QUEUE_SECONDS)
    yield from (f"{subject.name}: {what}" for what in _lost(subject, counts))


def _crowded(subject: Subject, connections: int, name: str, counts: Counter[str]) -> Iterator[str]:
    """Let the user send while the crowd does; print what both waited, and yield what was refused."""
    outside = int(connections * _OUTSIDE_SHARE)
    crowds = {
        "from outside": Crowd(subject, _order("bob+in", name, "example.org", outside, OUTSIDE_CLIENT)),
        "sent on": Crowd(subject, _order("sent-on", name, "example.com", connections - outside, "127.0.0.1")),
    }
    threads = [threading.Thread(target=crowd.run) for crowd in crowds.values()]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    user = Sent()
    while any(thread.is_alive() for thread in threads):
        piece = subject.send(messages=int(_RATE), rate=_RATE, prefix=f"user-{name}-{user.accepted}")
        user.latencies += piece.latencies
        user.accepted += piece.accepted
        user.refused += piece.refused
    seconds = time.monotonic() - began
    print(f"    the user:{_told(user.latencies)}; delivered:{_told(_delays(subject.lab, f'user-{name}'))}")
    for title, sent in {"the user": user, **{one: crowd.sent or Sent() for one, crowd in crowds.items()}}.items():
        counts[title] += sent.accepted
        if title != "the user":
            print(f"    {title}:{_told(sent.latencies)}; {sent.accepted} messages in {seconds:.0f} s")
        if sent.refused:
            yield f"{subject.name}, DNS {name}, {title}: refused: {dict(sent.refused)}"


def _domains(name: str) -> list[str]:
    return [f"d{number}.{name}.{_SLOW}" for number in range(_DOMAINS)]


def _order(prefix: str, name: str, domain: str, sessions: int, source: str) -> dict[str, Any]:
    return {
        "prefix": f"{prefix}-{name}",
        "domain": domain,
        "senders": [f"somebody@{sender}" for sender in _domains(name)],
        "users": (),
        "host": "192.0.2.1" if source == OUTSIDE_CLIENT else "127.0.0.1",
        "port": 25,
        "source": source,
        "sessions": sessions,
        "messages": sessions * _MESSAGES_A_CONNECTION,
        "messages_a_session": _MESSAGES_A_CONNECTION,
    }


def _told(milliseconds: Sequence[float]) -> str:
    p50, p99 = (percentile(milliseconds, share) for share in (0.5, 0.99))
    return f" p50 {p50:.1f} ms, p99 {p99:.0f} ms, most {max(milliseconds, default=0.0):.0f} ms"


def _delays(lab: Lab, prefix: str) -> list[float]:
    """Return how long Postfix had each message of some recipients, in both passes together, in milliseconds."""
    delays: dict[str, float] = {}
    for found in _DELIVERED.finditer(lab.postfix.log()):
        if found["recipient"].startswith(prefix):
            delays[found["recipient"]] = delays.get(found["recipient"], 0.0) + float(found["delay"]) * 1000
    return list(delays.values())


def _waiting(lab: Lab) -> int:
    """Return how many messages are still in the queue when nothing but undecided mail should be."""
    with contextlib.suppress(TimeoutError):
        lab.wait_until_queue_is_empty(_SETTLING_SECONDS)
    return lab.postfix.queue_size()


def _longest(gatherer: Gatherer) -> str:
    """Return within which time the milter has answered every end of a message."""
    wait_until(lambda: bool(_counts(gatherer)), timeout_seconds=2 * measure.PUBLISH_SECONDS, what="metrics")
    highest = max(index for counts in _counts(gatherer) for index, count in enumerate(counts[:-1]) if count)
    bounds = (*END_OF_MESSAGE.buckets, float("inf"))
    return f"within {bounds[highest]:g} s"


def _counts(gatherer: Gatherer) -> list[Sequence[float]]:
    return [counts for (metric, _), counts in gatherer.gather().numbers.items() if metric is END_OF_MESSAGE]


def _lost(subject: Subject, sent: Mapping[str, int]) -> Iterator[str]:
    """Yield what is wrong with what has arrived."""
    arrived: Arrived = subject.sink.arrived()
    wanted = {subject.source: sent["the user"], _POOL_RELAY: sent["sent on"]}
    if dict(arrived.sources) != wanted:
        yield f"{dict(arrived.sources)} arrived, not {wanted}"
    if doubled := [one for one, count in arrived.recipients.items() if count > 1]:
        yield f"{len(doubled)} arrived twice"
    if (kept := len(subject.lab.mailbox(_MAILBOX))) != sent["from outside"]:
        yield f"{kept} of {sent['from outside']} messages from outside are in the mailbox"


if __name__ == "__main__":
    sys.exit(main())
