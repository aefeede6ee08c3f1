"""Measures what metrics cost a message: `make bench-metrics`.

A private Postfix with Delivery Pools gets messages, with metrics on. From the metrics themselves it is known how often
something was counted for a message, and how long Postfix waited for the milter; what one count costs is measured here.
Printed is the share of the milter's time at the end of a message, and of a request of the policy service, that goes
into counting. Root is needed, for Postfix.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import timeit
from email.utils import formatdate
from pathlib import Path
from typing import Final

from deliverypools.adapters.metrics import measure
from deliverypools.adapters.metrics.definitions import (
    DECISIONS,
    END_OF_MESSAGE,
    METRICS,
    POLICY_ANSWERS,
    POLICY_SECONDS,
    STATE_SECONDS,
    Kind,
    Metric,
)
from deliverypools.adapters.metrics.exchange import Gathered, Gatherer
from deliverypools.core.headers import Headers
from deliverypools.core.received import own_received
from deliverypools.core.settings import Settings, built_in_defaults
from deliverypools.lab.lab import Lab, transaction
from deliverypools.lab.waiting import wait_until

_ALICE: Final = ("alice@example.org", "secret")
_TIMES: Final = 200_000
_REPEATS: Final = 5
_PASSES: Final = ("first", "egress")
_WITHOUT_STATE: Final = (POLICY_ANSWERS, POLICY_SECONDS)
_RECEIVED: Final = (
    "from client.example (client.example [203.0.113.9])\n\tby mx.example.org (Postfix) with ESMTPSA id 4XYZQ00001z\n"
    "\tfor <bob@example.com>; Sat, 21 Nov 2026 10:00:00 +0000 (UTC)"
)


def main() -> int:
    """Measure and print; the exit status is 1 where metrics take more than the share that is allowed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--messages", type=int, default=500, help="messages through both passes (default: 500)")
    parser.add_argument("--most-percent", type=float, default=3.0, help="share that is allowed (default: 3)")
    options = parser.parse_args()
    count, age = _cost_of_a_count(), _cost_of_an_age()
    print(f"one count: {count * 1e6:.2f} us; the age of a message: {age * 1e6:.1f} us")
    gathered = _measured(options.messages)
    messages = _times(gathered, END_OF_MESSAGE) / len(_PASSES)
    counts = sum(_times(gathered, metric) for metric in METRICS if metric not in _WITHOUT_STATE)
    waited = _sum(gathered, END_OF_MESSAGE)
    spent = counts * count + messages * age
    shares = {"milter": spent / waited}
    print(f"milter: {counts / messages:.1f} counts and {waited / messages * 1000:.2f} ms a message, in both passes")
    requests = _times(gathered, POLICY_SECONDS)
    # A request is counted twice (how long, what answer), and each of its calls of the state once.
    calls = _times(gathered, STATE_SECONDS) / requests
    shares["policy service"] = (2 + calls) * count * requests / _sum(gathered, POLICY_SECONDS)
    for name, share in shares.items():
        print(f"{name}: {share:.2%} of the time that Postfix waits")
    return 1 if max(shares.values()) * 100 > options.most_percent else 0


def _cost_of_a_count() -> float:
    """Return how many seconds a count takes: the mean of a counter with three labels, and of a histogram."""
    with tempfile.TemporaryDirectory() as folder:
        settings: Settings = built_in_defaults()
        settings = settings.model_copy(
            update={"metrics": settings.metrics.model_copy(update={"directory": f"{folder}/metrics"})}
        )
        measure.start(settings, "bench", has_thread=False)

        def count() -> None:
            measure.add(DECISIONS, "egress", "normal", "default")
            measure.observe(STATE_SECONDS, 0.003, "record")

        seconds = min(timeit.repeat(count, number=_TIMES, repeat=_REPEATS)) / _TIMES / 2
        measure.stop()
    return seconds


def _cost_of_an_age() -> float:
    """Return how many seconds it takes to learn from its Received field how old a message is."""
    headers = Headers((("Received", _RECEIVED), ("Subject", "x")))
    times = _TIMES // 10
    return min(timeit.repeat(lambda: next(own_received(headers, "mx.example.org")), number=times, repeat=5)) / times


def _measured(messages: int) -> Gathered:
    with tempfile.TemporaryDirectory() as folder:
        metrics = {"listen": "127.0.0.1:19641", "directory": f"{folder}/metrics"}
        with Lab(settings={"limits": {"messages_per_minute": 0}, "metrics": metrics}) as lab:
            Path(folder).chmod(0o755)
            with lab.session(port=587, auth=_ALICE) as smtp:
                for number in range(messages):
                    transaction(smtp, _ALICE[0], f"bob{number}@example.com", _message(number))
            lab.wait_for(lambda _message: True, count=messages, timeout_seconds=300)
            gatherer = Gatherer(Path(folder) / "metrics")
            began = time.monotonic()
            wait_until(
                lambda: _times(gatherer.gather(), DECISIONS) >= messages and time.monotonic() - began > 2 * _written(),
                timeout_seconds=30,
                what="all was counted",
            )
            return gatherer.gather()


def _written() -> float:
    return measure.PUBLISH_SECONDS


def _message(number: int) -> bytes:
    return (
        f"From: Alice <{_ALICE[0]}>\r\nTo: bob{number}@example.com\r\nDate: {formatdate()}\r\n"
        f"Message-ID: <{number}@bench.example.org>\r\nSubject: number {number}\r\n\r\n" + "A line of text.\r\n" * 100
    ).encode()


def _times(gathered: Gathered, metric: Metric) -> float:
    """Return how often something was counted for a metric."""
    numbers = [many for (one, _), many in gathered.numbers.items() if one is metric]
    return sum(sum(many[:-1]) if metric.kind is Kind.HISTOGRAM else many[0] for many in numbers)


def _sum(gathered: Gathered, metric: Metric) -> float:
    return sum(many[-1] for (one, _), many in gathered.numbers.items() if one is metric)


if __name__ == "__main__":
    sys.exit(main())
