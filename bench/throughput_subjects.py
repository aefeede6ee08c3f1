"""What `make bench` measures: private Postfixes, alike but for what is attached to them."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from cpu_meter import CpuMeter, differences
from deliverypools.core.records import FAST_PASS
from deliverypools.lab.lab import Lab
from deliverypools.lab.site import NO_PROFILE, Site
from smtp_load import Order, Sent, recipients_of
from smtp_receiver import PORT, Sink
from throughput_peers import Peer

BARE: Final = "bare Postfix"
EXPRESS, FAST, HOP = "express", "fast path", "hop"
WITH_POLICY: Final = " + policy"

PASSWORD: Final = "secret"  # noqa: S105  (of users of a lab)
USERS: Final = tuple(f"user{number}@example.org" for number in range(50))
UNREACHED: Final = 100_000_000
"""A limit that is counted for, and never reached."""
SETTINGS: Final[Mapping[str, Any]] = {
    "limits": {"messages_per_minute": UNREACHED, "recipients_per_day": UNREACHED, "recipients_per_message": 0}
}
_OWN_ADDRESS, _POOL_NORMAL, _RECEIVER = "192.0.2.1", "192.0.2.10", "198.51.100.29"
_WITHOUT_POLICY: Final = {"smtpd_sender_restrictions": "", "smtpd_end_of_data_restrictions": ""}
_SUBMISSION: Final = 587
_FAST_PASS: Final = f" pass={FAST_PASS} "
_TUNING: Final = {
    # No look-up of a destination's servers: what is measured is this machine, not the lab's DNS server.
    "relayhost": f"[{_RECEIVER}]:{PORT}",
    # What the lab sets so that tests need not wait is set back to Postfix's defaults.
    "queue_run_delay": "300s",
    "minimal_backoff_time": "300s",
    "maximal_backoff_time": "4000s",
    "transport_retry_time": "60s",
}
_FOLDER: Final = Path(__file__).resolve().parent
_ARRIVAL_SECONDS: Final = 300.0
_BATCH: Final = 50
"""Recipients that Postfix puts into one transaction (default_destination_recipient_limit)."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one load has shown."""

    sent: Sent
    delivered_at: float
    cpu_seconds: Mapping[str, float]
    megabytes: Mapping[str, float]

    @property
    def accepted_per_second(self) -> float:
        """Messages a second until the last one was accepted."""
        return self.sent.accepted / (self.sent.ended - self.sent.began)

    @property
    def delivered_per_second(self) -> float:
        """Messages a second until the last one had arrived."""
        return self.sent.accepted / (self.delivered_at - self.sent.began)

    def cpu_milliseconds(self) -> dict[str, float]:
        """Return the processor time of each component, per message."""
        return {name: seconds * 1000 / self.sent.accepted for name, seconds in self.cpu_seconds.items()}


@dataclass
class Subject:
    """One Postfix, with what is attached to it."""

    name: str
    lab: Lab
    sink: Sink
    meter: CpuMeter
    source: str
    """The address by which all mail has to leave."""
    is_fast: bool = False
    peer: Peer | None = None
    problems: list[str] = field(default_factory=list)
    _runs: int = 0
    _fast: int = 0
    """Messages that had been decided in the first pass before the load."""

    def load(self, *, messages: int, **order: Any) -> Run:
        """Send messages and wait until they have arrived; what is not as it should be goes to `problems`."""
        self._runs += 1
        self._fast = self.lab.milter.log().count(_FAST_PASS) if self.is_fast else 0
        wanted = _order(messages=messages, prefix=f"r{self._runs}", **order)
        known, before = self.sink.count, self.meter.seconds()
        sent = self._sent(wanted)
        if sent.refused:
            self.problems.append(f"{self.name}: refused: {dict(sent.refused.most_common(3))}")
        if not sent.accepted:
            raise RuntimeError(f"{self.name}: nothing was accepted: {dict(sent.refused)}\n{self.lab.logs()}")
        try:
            transactions = sent.accepted * -(-wanted.recipients // _BATCH)
            delivered_at = self.sink.wait_for(known + transactions, _ARRIVAL_SECONDS)
            self.lab.wait_until_queue_is_empty(_ARRIVAL_SECONDS)
        except TimeoutError as error:
            raise RuntimeError(f"{self.name}: {error}\n{self.lab.logs()}") from error
        used = differences(before, self.meter.seconds())
        run = Run(sent=sent, delivered_at=delivered_at, cpu_seconds=used, megabytes=self.meter.megabytes())
        self._check(wanted, sent)
        return run

    def send(self, **order: Any) -> Sent:
        """Send messages; see `Order`, whose defaults here are a user's."""
        return self._sent(_order(**order))

    def _sent(self, order: Order) -> Sent:
        command = [sys.executable, str(_FOLDER / "smtp_load.py"), json.dumps(vars(order))]
        with self.lab.network.inside(), subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            self.meter.watch("client", [process.pid])
            output, _ = process.communicate()
        if process.returncode:
            raise RuntimeError(f"{self.name}: the client failed, exit {process.returncode}")
        result = json.loads(output)
        return Sent(**result | {"refused": Counter(result["refused"])})

    def _check(self, order: Order, sent: Sent) -> None:
        if not self.sink.keeps_messages or sent.accepted != order.messages:
            return
        expected = [
            recipient
            for number in range(order.messages)
            for recipient in recipients_of(order.prefix, number, order.recipients, order.domain)
        ]
        self.problems += [f"{self.name}: {what}" for what in self.sink.arrived().problems(expected, self.source)]
        fast = self.lab.milter.log().count(_FAST_PASS) - self._fast if self.is_fast else order.messages
        if fast < order.messages:
            self.problems.append(f"{self.name}: only {fast} of {order.messages} messages skipped the hop")
        if self.peer and not self.peer.has_worked(self.lab, self.sink):
            self.problems.append(f"{self.name}: it has not done its work: nothing signed, or nothing counted")


def _certificate(folder: Path) -> str:
    """Make a key (ECDSA, P-256: what Let's Encrypt issues by default) and a certificate; return the file of both."""
    file = folder / "server.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -subj /CN=bench.example.org"
    made = subprocess.run([*command.split(), "-keyout", str(file)], check=True, capture_output=True, text=True)
    file.write_text(file.read_text() + made.stdout)
    return str(file)


def _order(**order: Any) -> Order:
    usual: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": _SUBMISSION,
        "users": USERS,
        "password": PASSWORD,
        "starttls": order.get("port", _SUBMISSION) == _SUBMISSION,
    }
    return Order(**usual | order)


class Builder:
    """Makes subjects; a context manager that takes them down."""

    def __init__(self, *, main: Mapping[str, str] | None = None, keeps_messages: bool = True) -> None:
        """`main` are parameters of main.cf that all have."""
        self._stack = contextlib.ExitStack()
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-certificate-")))
        tls = {"smtpd_tls_security_level": "may", "smtpd_tls_chain_files": _certificate(folder)}
        self._main = {**tls, **(main or {})}
        self._keeps = keeps_messages

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def bare(self, peer: Peer | None = None) -> Subject:
        """Return a Postfix without ours: alone, or with a peer attached."""
        main = peer.main if peer else {}
        lab = self._lab(NO_PROFILE, main=main, milter_command=(), policy_command=())
        subject = self._subject(peer.name if peer else BARE, lab, _OWN_ADDRESS)
        subject.peer = peer
        for daemon in peer.daemons(lab) if peer else ():
            self._stack.callback(daemon.stop)
            daemon.start()
            subject.meter.watch(daemon.name, [daemon.pid])
        return subject

    def ours(
        self, profile: str, *, policy: bool, fast: bool = False, settings: Mapping[str, Any] | None = None
    ) -> Subject:
        """Return a Postfix with Delivery Pools: in one pass (express), with the hop, or with the fast path."""
        name = (FAST if fast else profile) + (WITH_POLICY if policy else "")
        lab = self._lab(
            profile,
            adapted={} if policy else _WITHOUT_POLICY,
            settings={**SETTINGS, "fast_path": "auto" if fast else "off", **(settings or {})},
            policy_command=None if policy else (),
        )
        subject = self._subject(name, lab, _POOL_NORMAL, is_fast=fast)
        for daemon in lab.daemons.values():
            subject.meter.watch(daemon.name, [daemon.pid])
        if fast:
            open_fast_path(lab)
        return subject

    def _lab(
        self,
        profile: str,
        *,
        main: Mapping[str, str] | None = None,
        adapted: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Lab:
        site = Site(
            main={**_TUNING, **self._main, **(main or {})},
            adapted=adapted or {},
            users=dict.fromkeys(USERS, PASSWORD),
        )
        lab = self._stack.enter_context(Lab(profile, site=site, **options))
        if not lab.network.isolated:
            raise SystemExit(f"the bench needs a network namespace: {lab.network.reason_not_isolated}")
        return lab

    def _subject(self, name: str, lab: Lab, source: str, *, is_fast: bool = False) -> Subject:
        sink = self._stack.enter_context(Sink(lab.network, _RECEIVER, keeps_messages=self._keeps))
        meter = self._stack.enter_context(CpuMeter())
        master = int((lab.postfix.queue_directory / "pid" / "master.pid").read_text())
        meter.watch("postfix", [master])
        meter.watch("sink", [sink.process])
        return Subject(name, lab, sink, meter, source, is_fast=is_fast)


def end_in_order() -> None:
    """Let SIGTERM end this program as Ctrl-C does: what it has started is ended too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def open_fast_path(lab: Lab) -> None:
    """Prove the conditions of the fast path, as `postfix install` does.

    Raises:
        RuntimeError: they do not hold; the message says why.
    """
    command = [sys.executable, "-m", "deliverypools", "postfix", "fast-path", "--config", str(lab.settings_file)]
    with lab.network.inside():
        told = subprocess.run(
            [*command, "--config-directory", str(lab.postfix.config_directory)],
            capture_output=True,
            text=True,
            check=False,
        )
    if told.returncode:
        raise RuntimeError(f"no fast path: {told.stdout}{told.stderr}")
