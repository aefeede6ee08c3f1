"""Measures what a flood of non-delivery reports for one forged domain does to the mail of others.

    python bench/ndr_flood.py [--ndrs 10000] [--rate 60] [--seed N]

A private Postfix with everything attached, in a namespace of its own. Many servers outside deliver NDRs about mail that
we never sent; before and meanwhile users submit mail, and mail comes in for them. Printed are the latencies of that
mail, from the first SMTP command to the arrival at its destination, and the alerts that were mailed.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from email.utils import formatdate

from deliverypools.lab.lab import Lab, SendResult
from deliverypools.lab.waiting import wait_until

_CLIENT_NETWORK = "198.18.0.0/15"
_SENDERS = 8
_PROBE_EVERY_SECONDS = 0.5
_QUIET_SECONDS = 20.0
_SURGE_SECONDS = 120.0
_LATER_SECONDS = 7200.0
"""The decision log of this Postfix begins now; an hour is left for clocks that differ."""
_ALICE = ("alice@example.org", "secret")
_numbers = itertools.count(1)


def main() -> int:
    """Run; the exit status is 1 where an NDR was refused or the alert is missing."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--ndrs", type=int, default=10_000, help="how many arrive (default: 10000)")
    parser.add_argument("--rate", type=float, default=60.0, help="how many a second, at most (default: 60)")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="of clients and recipients")  # noqa: S311
    options = parser.parse_args()
    chance = random.Random(options.seed)  # noqa: S311
    print(f"seed {options.seed}")
    with Lab(settings={"alerts": {"mail_to": ["postmaster@example.org"]}, "limits": {"messages_per_minute": 0}}) as lab:
        with lab.network.inside():
            subprocess.run(["ip", "route", "add", "local", _CLIENT_NETWORK, "dev", "lo"], check=True)
        return _flooded(lab, chance, options.ndrs, options.rate)


def _flooded(lab: Lab, chance: random.Random, ndrs: int, rate: float) -> int:
    probe = _Probe(lab)
    probe.send(_ALICE, "warm-up@example.com")
    until = time.monotonic() + _QUIET_SECONDS
    quiet = probe.measure(lambda: time.monotonic() < until)
    flood = _Flood(lab, chance, ndrs, rate)
    flood.start()
    busy = probe.measure(lambda: flood.is_running)
    seconds = flood.seconds
    print(f"{flood.accepted} of {ndrs} NDRs accepted in {seconds:.0f} s ({ndrs / seconds:.0f}/s), {_CLIENT_NETWORK}")
    for name, found in (("before", quiet), ("meanwhile", busy)):
        for way, latencies in found.items():
            print(f"{name:>10} {way:<10} {_summary(latencies)}")
    lab.wait_until_queue_is_empty(600)
    wait_until(lambda: bool(_alerts(lab)), timeout_seconds=_SURGE_SECONDS, what="an alert")
    lab.wait_until_queue_is_empty(60)
    for subject, count in Counter(_alerts(lab)).items():
        print(f"alert x {count}: {subject}")
    verdicts = Counter(str(message["X-Delivery-Pool-DSN"]).partition(";")[0] for message in lab.mailbox("alice"))
    print(f"X-Delivery-Pool-DSN: {dict(verdicts)}")
    return 0 if flood.accepted == ndrs and len(_alerts(lab)) == 1 else 1


def _summary(latencies: list[float]) -> str:
    if not latencies:
        return "no message"
    ordered = sorted(latencies)
    p95 = ordered[int(len(ordered) * 0.95)]
    return f"{len(ordered)} messages, p50 {statistics.median(ordered):.2f} s, p95 {p95:.2f} s, most {ordered[-1]:.2f} s"


def _alerts(lab: Lab) -> list[str]:
    subjects = [str(message["Subject"]) for message in lab.mailbox("postmaster")]
    return [subject for subject in subjects if "delivery-pools" in subject]


class _Probe:
    """Mail of others: submitted by a user, and from outside for another one."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def measure(self, goes_on: Callable[[], bool]) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {"submitted": [], "inbound": []}
        while goes_on():
            begun = time.monotonic()
            found["submitted"].append(self.send(_ALICE, f"probe{next(_numbers)}@example.com"))
            found["inbound"].append(self.receive())
            time.sleep(max(0.0, begun + _PROBE_EVERY_SECONDS - time.monotonic()))
        return found

    def send(self, auth: tuple[str, str], recipient: str) -> float:
        begun = time.monotonic()
        data = _mail(auth[0], f"<{next(_numbers)}@probe.example.org>")
        _accepted(self._lab.send(auth[0], recipient, data, port=587, auth=auth))
        self._lab.wait_for(lambda message: recipient in message.recipients, timeout_seconds=120)
        return time.monotonic() - begun

    def receive(self) -> float:
        begun = time.monotonic()
        message_id = f"<{next(_numbers)}@probe.example.com>"
        _accepted(self._lab.send("erin@spf.example", "bob@example.org", _mail("erin@spf.example", message_id)))
        wait_until(
            lambda: any(message["Message-ID"] == message_id for message in self._lab.mailbox("bob")[-5:]),
            timeout_seconds=120,
            what="the message in the mailbox",
        )
        return time.monotonic() - begun


class _Flood:
    """NDRs from many servers, over connections of their own."""

    def __init__(self, lab: Lab, chance: random.Random, ndrs: int, rate: float) -> None:
        self._lab = lab
        self._jobs: Iterator[tuple[str, bytes]] = iter([_ndr(chance) for _ in range(ndrs)])
        self._lock = threading.Lock()
        self._pause = _SENDERS / rate
        self._threads = [threading.Thread(target=self._run) for _ in range(_SENDERS)]
        self.accepted = 0
        self._begun = self._ended = 0.0

    def start(self) -> None:
        self._begun = time.monotonic()
        for thread in self._threads:
            thread.start()

    @property
    def is_running(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    @property
    def seconds(self) -> float:
        return self._ended - self._begun

    def _run(self) -> None:
        while True:
            begun = time.monotonic()
            with self._lock:
                job = next(self._jobs, None)
            if job is None:
                return
            client_address, data = job
            accepted = self._lab.send("", "alice@example.org", data, client_address=client_address).accepted
            with self._lock:
                self.accepted += accepted
                self._ended = time.monotonic()
            time.sleep(max(0.0, begun + self._pause - time.monotonic()))


def _accepted(result: SendResult) -> None:
    if not result.accepted:
        raise SystemExit(f"mail of others was refused: {result}")


def _mail(sender: str, message_id: str, later_seconds: float = 0.0) -> bytes:
    date = formatdate(time.time() + later_seconds)
    return (
        f"From: {sender}\r\nTo: somebody@example.com\r\nDate: {date}\r\nMessage-ID: {message_id}\r\n"
        "Subject: hello\r\n\r\nhello\r\n"
    ).encode()


def _ndr(chance: random.Random) -> tuple[str, bytes]:
    """Return a client and the report it brings, about a message that somebody else sent in alice's name."""
    client = f"198.{chance.randint(18, 19)}.{chance.randrange(256)}.{chance.randint(1, 254)}"
    host = f"mx{chance.randrange(500)}.example"
    code, text = chance.choice(
        [("5.1.1", "no such user"), ("5.7.1", "refused as spam"), ("5.2.2", "mailbox full"), ("5.1.1", "unknown user")]
    )
    number = chance.randrange(2**40)
    recipient = f"user{chance.randrange(10**6)}@{host}"
    returned = (
        f"Received: from [203.0.113.{chance.randrange(256)}] by {host} (Postfix) with SMTP id 4X{number:012x};\r\n"
        f"\t{formatdate()}\r\n"
    ).encode() + _mail("alice@example.org", f"<{number:x}@spam.example>", _LATER_SECONDS)
    head = (
        f"From: MAILER-DAEMON@{host}\r\nTo: alice@example.org\r\nDate: {formatdate()}\r\n"
        f"Message-ID: <ndr.{number:x}@{host}>\r\nSubject: Undelivered Mail Returned to Sender\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="=_b"\r\n\r\n'
        "--=_b\r\nContent-Type: text/plain\r\n\r\nThe message could not be delivered.\r\n\r\n"
        f"--=_b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; {host}\r\n\r\n"
        f"Final-Recipient: rfc822; {recipient}\r\nAction: failed\r\nStatus: {code}\r\n"
        f"Diagnostic-Code: smtp; 550 {code} {text}\r\n\r\n--=_b\r\nContent-Type: message/rfc822\r\n\r\n"
    )
    return client, head.encode() + returned + b"\r\n--=_b--\r\n"


if __name__ == "__main__":
    sys.exit(main())
