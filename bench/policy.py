"""Measures the policy service beside Debian's policyd-rate-limit: `make bench-policy`.

Three daemons get the same requests in turn, over 50 connections, each request about a message of its own of one of
1,000 accounts: `delivery-pools policy` with SQLite, the same with a private redis-server, and policyd-rate-limit with
its SQLite. All count messages per minute and recipients per day, with limits that are never reached. policyd-rate-limit
counts at RCPT and at no other stage, so its requests say RCPT; ours say END-OF-MESSAGE, where ours counts. At the end
each store is asked what was counted: a daemon that has not counted every message makes the run fail.

Everything lies in a temporary folder (in TMPDIR, else /var/tmp) and listens on sockets in it. That folder has to be on
a disk, as a mail server's state is: in memory, where fsync costs nothing, policyd-rate-limit is ten times as fast.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from deliverypools.adapters.key_file import rotate_keys
from deliverypools.adapters.state import open_state
from deliverypools.core.accounts import Account
from deliverypools.core.facts import Ingress
from deliverypools.core.limits import recipients_window
from deliverypools.core.settings import Settings, parse_settings
from deliverypools.core.tallies import DAY
from deliverypools.lab.waiting import wait_until
from load import ACCOUNTS, CONNECTIONS

RATE: Final = 1000
HIGH: Final = 100_000_000
READY_SECONDS: Final = 20.0
MESSAGES_OF_A_RUN: Final = 10_000_000
"""Numbers of messages are that far apart from run to run: none is counted twice."""
SERVICE: Final = "policyd-rate-limit"
_FOLDER: Final = Path(__file__).resolve().parent


@dataclass
class Subject:
    """A daemon to be measured."""

    name: str
    socket: Path
    stage: str
    counted: Callable[[], int]
    closed: list[dict[str, Any]] = field(default_factory=list)
    paced: list[dict[str, Any]] = field(default_factory=list)

    @property
    def requests_per_second(self) -> list[float]:
        """Return the speed in each round."""
        return [run["answers"] / run["elapsed_seconds"] for run in self.closed]

    def percentiles(self, share: float) -> list[float]:
        """Return a percentile of the latencies in each paced round, in milliseconds."""
        return [_percentile(run["latencies"], share) for run in self.paced]


def main() -> int:
    """Measure, print the table; exit 1 if a daemon did not do its work."""
    options = _options()
    place = os.environ.get("TMPDIR", "/var/tmp")  # noqa: S108  (on a disk, and the folder in it is ours alone)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-policy-", dir=place)))
        subjects = [
            stack.enter_context(_ours(folder, "sqlite", f"sqlite:///{folder}/sqlite/state.db")),
            stack.enter_context(_ours_with_redis(folder)),
            stack.enter_context(_theirs(folder)),
        ]
        for number in range(options.rounds):
            # Whoever comes first has the coldest machine: that goes round.
            for subject in subjects[number % 3 :] + subjects[: number % 3]:
                _measure(subject, number, options.seconds)
        problems = [problem for subject in subjects for problem in _problems(subject)]
    print(_table(subjects, options))
    for problem in problems:
        print(problem, file=sys.stderr)
    ours, _, theirs = subjects
    ratio = statistics.median(ours.requests_per_second) / statistics.median(theirs.requests_per_second)
    print(
        f"policy: {ratio:.1f}x {SERVICE}, p99 {statistics.median(ours.percentiles(0.99)):.2f} ms at {RATE} requests/s"
    )
    return 1 if problems else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each daemon is measured")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each measurement")
    parser.add_argument("--quick", action="store_true", help="one short round: to see whether it works")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 1.0
    return options


def _measure(subject: Subject, number: int, seconds: float) -> None:
    print(f"round {number + 1}: {subject.name}", file=sys.stderr, flush=True)
    order = {"socket": str(subject.socket), "stage": subject.stage, "seconds": seconds}
    first = 2 * number * MESSAGES_OF_A_RUN
    subject.closed.append(_load(order | {"first": first, "rate": 0}))
    subject.paced.append(_load(order | {"first": first + MESSAGES_OF_A_RUN, "rate": RATE}))


def _load(order: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(_FOLDER / "load.py"), json.dumps(order)], check=False, capture_output=True, text=True
    )
    if done.returncode:
        log = "\n".join(path.read_text(errors="replace")[-2000:] for path in Path(order["socket"]).parent.glob("*.log"))
        raise SystemExit(f"{done.stderr}\nthe daemon's log:\n{log}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _problems(subject: Subject) -> Iterator[str]:
    """Yield what makes a measurement worthless."""
    runs = subject.closed + subject.paced
    actions = {action.lower() for run in runs for action in run["actions"]}
    if actions != {"action=dunno"}:
        yield f"{subject.name}: answers other than action=dunno: {sorted(actions)}"
    answered = sum(run["answers"] for run in runs)
    unanswered = sum(run["unanswered"] for run in runs)
    counted = subject.counted()
    # A request whose answer nobody waited for any more may have been counted.
    if not answered <= counted <= answered + unanswered:
        yield f"{subject.name}: {answered} answers, but {counted} messages counted"


# ---- the daemons


@contextmanager
def _ours(folder: Path, name: str, state: str) -> Iterator[Subject]:
    own = folder / name
    own.mkdir(exist_ok=True)
    path, config = own / "policy.sock", own / "delivery-pools.toml"
    config.write_text(_settings_text(path, state), encoding="utf-8")
    settings = parse_settings(config.read_text(encoding="utf-8"), str(config))
    rotate_keys(settings.ticket_key_file)
    command = [sys.executable, "-m", "deliverypools", "policy", "--config", str(config)]
    with _running(command, own):
        _wait_for(path)
        yield Subject(f"delivery-pools, {name}", path, "END-OF-MESSAGE", lambda: _counted_by_us(settings))


@contextmanager
def _ours_with_redis(folder: Path) -> Iterator[Subject]:
    own = folder / "redis"
    own.mkdir()
    port = _free_port()
    command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", str(own), "--save", ""]
    with _running(command, own):
        wait_until(lambda: _accepts(port), timeout_seconds=READY_SECONDS, what="redis-server answers")
        with _ours(folder, "redis", f"redis://127.0.0.1:{port}/0") as subject:
            yield subject


@contextmanager
def _theirs(folder: Path) -> Iterator[Subject]:
    own = folder / SERVICE
    own.mkdir()
    path, database, config = own / "policy.sock", own / "db.sqlite3", own / "policyd-rate-limit.yaml"
    config.write_text(
        json.dumps(  # which is YAML too
            {
                "debug": False,
                # As root it changes to these; the folder is ours.
                "user": _name_of(os.getuid(), "/etc/passwd"),
                "group": _name_of(os.getgid(), "/etc/group"),
                "pidfile": str(own / "pid"),
                "backend": 0,
                "sqlite_config": {"database": str(database)},
                "SOCKET": str(path),
                "limits": [[HIGH, 60], [HIGH, DAY]],
                "limit_by_sasl": True,
            }
        ),
        encoding="utf-8",
    )
    with _running([SERVICE, "--file", str(config)], own):
        _wait_for(path)
        yield Subject(f"{SERVICE}, sqlite", path, "RCPT", lambda: _counted_by_them(database))


@contextmanager
def _running(command: Sequence[str], folder: Path) -> Iterator[None]:
    """Run a daemon, its log in a file of the folder."""
    program = shutil.which(command[0]) or command[0]
    with (folder / f"{Path(program).name}.log").open("wb") as log:
        process = subprocess.Popen([program, *command[1:]], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT if program.endswith(SERVICE) else signal.SIGTERM)
            try:
                process.wait(READY_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _settings_text(path: Path, state: str) -> str:
    pools = "".join(
        f'[pools.{name}]\naddresses = ["192.0.2.{number}"]\nhelo = "{name}.example.org"\n'
        for name, number in (("normal", 10), ("high-risk", 20), ("relay", 30))
    )
    return (
        f'accepted_domains = ["example.org"]\nstate = "{state}"\nticket_key_file = "{path.parent}/ticket.keys"\n'
        f'{pools}[alerts]\nspool = "{path.parent}/spool"\n'
        f'[policy]\nsocket = "unix:{path}"\n[metrics]\nlisten = "off"\n'
        f"[limits]\nrecipients_per_day = {HIGH}\nmessages_per_minute = {HIGH}\n"
    )


def _counted_by_us(settings: Settings) -> int:
    state = open_state(settings, time.time)
    accounts = [Account(Ingress.SUBMISSION, f"user{number}@example.org") for number in range(ACCOUNTS)]
    try:
        return sum(state.used([recipients_window(account, DAY) for account in accounts]))
    finally:
        state.close()


def _counted_by_them(database: Path) -> int:
    connection = sqlite3.connect(database)
    try:
        (rows,) = connection.execute("SELECT COUNT(*) FROM mail_count").fetchone()
        return int(rows)
    finally:
        connection.close()


def _wait_for(path: Path) -> None:
    def answers() -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            return probe.connect_ex(str(path)) == 0

    wait_until(answers, timeout_seconds=READY_SECONDS, what=f"{path} answers")


def _accepts(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _name_of(number: int, path: str) -> str:
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        name, _, numeric_id, *_ = line.split(":")
        if numeric_id == str(number):
            return name
    raise LookupError(f"{path}: no name for {number}")


# ---- the table


def _table(subjects: Sequence[Subject], options: argparse.Namespace) -> str:
    rounds = f"{options.rounds} x {options.seconds:g} s: median (lowest to highest)"
    lines = [
        f"{CONNECTIONS} connections, {ACCOUNTS} accounts, {rounds}",
        "",
        f"{'':<28}{'as fast as answers come':<28}{f'at {RATE} requests/s, from when they were due':<28}",
        f"{'':<28}{'requests/s':<28}{'p50 ms':<28}{'p99 ms':<28}{'worst ms'}",
    ]
    for subject in subjects:
        latencies = "".join(f"{_spread(subject.percentiles(share), 2):<28}" for share in (0.5, 0.99, 1.0))
        lines.append(
            f"{subject.name:<28}{_spread(subject.requests_per_second, 0):<28}{latencies}{_note(subject)}".rstrip()
        )
    return "\n".join([*lines, ""])


def _spread(values: Sequence[float], digits: int) -> str:
    middle, low, high = (f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({low} to {high})" if len(values) > 1 else middle


def _note(subject: Subject) -> str:
    """Say where a daemon did not keep up: its latencies then only tell how long we sent."""
    slowest = min(run["answers"] / run["elapsed_seconds"] for run in subject.paced)
    due = sum(run["answers"] + run["unanswered"] for run in subject.paced)
    answered = sum(run["answers"] for run in subject.paced)
    # The connections are opened, and the last answers read, outside the time in which requests are due.
    has_kept_up = answered == due and statistics.median(subject.percentiles(0.5)) < _KEPT_UP_MS
    return "" if has_kept_up else f"did not keep up: {slowest:.0f} requests/s, {due - answered} never answered"


_KEPT_UP_MS: Final = 100.0
"""Half of the answers take less, unless requests pile up."""


def _percentile(latencies: Sequence[float], share: float) -> float:
    ordered = sorted(latencies)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


if __name__ == "__main__":
    sys.exit(main())
