"""How fast the policy service answers when its SQLite database knows many accounts: a part of `make bench`.

One service each for 1 to 1,000,000 accounts, all of which have sent today; they get requests in turn, at the same rate,
about accounts all over the database.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from deliverypools.adapters.key_file import rotate_keys
from deliverypools.adapters.state import open_state
from deliverypools.core.accounts import Account
from deliverypools.core.facts import Ingress
from deliverypools.core.limits import EXTERNAL, recipients_window, stream
from deliverypools.core.settings import Settings, parse_settings
from deliverypools.core.tallies import DAY, bucket_seconds
from deliverypools.lab.daemons import Daemon
from deliverypools.lab.settings_file import lab_settings, merged, render_toml, write_srs_secret_file
from throughput_report import percentile, spread
from throughput_subjects import SETTINGS

_ACCOUNTS: Final = (1, 1000, 100_000, 1_000_000)
_QUICK_ACCOUNTS: Final = 100_000
_RATE: Final = 400
"""Requests a second: a busy server, which is not at its limit."""
_ROUNDS: Final = 5
_SECONDS: Final = 4.0
_BUCKETS: Final = 4
"""Times of this day at which each account has sent."""
_DATABASE: Final = "state.db"
_CHUNK: Final = 1 << 20
_MOST_MESSAGES: Final = 10_000_000


def measured(quick: bool) -> Iterator[str]:  # noqa: FBT001
    """Measure in turns, and yield the lines of a table."""
    numbers = [number for number in _ACCOUNTS if not quick or number <= _QUICK_ACCOUNTS]
    latencies: dict[int, list[list[float]]] = {number: [] for number in numbers}
    with contextlib.ExitStack() as stack:
        sockets = {number: stack.enter_context(_service(number)) for number in numbers}
        for at in range(_ROUNDS + 1):
            for number, socket in sockets.items():
                _bring_into_memory(socket.parent.parent / _DATABASE)
                latencies[number].append(_asked(socket, number, at))
    yield f"{'accounts':<14}{'policy p50, ms':<34}{'p99, ms':<34}{'p99, of that of 1,000'}"
    for number in numbers:
        rounds = latencies[number][1:]
        p99 = [percentile(one, 0.99) for one in rounds]
        ratios = [
            mine / percentile(theirs, 0.99) for mine, theirs in zip(p99, latencies[_ACCOUNTS[1]][1:], strict=True)
        ]
        p50 = [statistics.median(one) for one in rounds]
        yield f"{number:<14,}{spread(p50, 2):<34}{spread(p99, 2):<34}{spread(ratios, 2)}"


@contextlib.contextmanager
def _service(accounts: int) -> Iterator[Path]:
    """Run a policy service whose database knows so many accounts; the value is its socket."""
    with tempfile.TemporaryDirectory(prefix="bench-accounts-") as name:
        folder = Path(name)
        config = folder / "delivery-pools.toml"
        (folder / "delivery-pools").mkdir()
        table: dict[str, Any] = lab_settings(
            directory=folder, queue_directory=folder, profile="hop", nameserver="127.0.0.1", isolated=True
        )
        config.write_text(render_toml(merged(table, SETTINGS)))
        write_srs_secret_file(folder / "srs.secrets")
        settings = parse_settings(config.read_text(), str(config))
        rotate_keys(settings.ticket_key_file)
        _fill(settings, folder / _DATABASE, accounts)
        socket = folder / "delivery-pools" / "policy.sock"
        command = [sys.executable, "-m", "deliverypools", "policy", "--config", str(config)]
        daemon = Daemon("policy", command, socket_path=socket, log_file=folder / "policy.log", network=None)
        daemon.start()
        try:
            yield socket
        finally:
            daemon.stop()


def _bring_into_memory(database: Path) -> None:
    """Read a file, as a server that has run for a day has: virtual machines lose what they have not used just now."""
    with database.open("rb") as file:
        while file.read(_CHUNK):
            pass


def _fill(settings: Settings, database: Path, accounts: int) -> None:
    """Let each account have sent some messages earlier today."""
    state = open_state(settings, time.time)
    window = recipients_window(_account(accounts - 1), DAY)
    state.used([window])  # which makes the database
    now, bucket = time.time(), bucket_seconds(DAY)
    rows = (
        (stream(_account(number), EXTERNAL), int(now / bucket) - 1 - back, 1, now + DAY)
        for number in range(accounts)
        for back in range(_BUCKETS)
    )
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.executemany("INSERT INTO counters VALUES (?, ?, ?, ?)", rows)
    (used,) = state.used([window])
    state.close()
    if used != _BUCKETS:
        raise RuntimeError(f"the database does not know the accounts: {used} recipients instead of {_BUCKETS}")


def _account(number: int) -> Account:
    return Account(Ingress.SUBMISSION, f"user{number}@example.org")


def _asked(socket: Path, accounts: int, round_number: int) -> list[float]:
    order = {
        "socket": str(socket),
        "stage": "END-OF-MESSAGE",
        "first": round_number * _MOST_MESSAGES,
        "seconds": _SECONDS,
        "rate": _RATE,
        "accounts": accounts,
    }
    load = Path(__file__).resolve().parent / "load.py"
    done = subprocess.run([sys.executable, str(load), json.dumps(order)], check=True, capture_output=True, text=True)
    result = json.loads(done.stdout)
    if result["unanswered"] or {action.lower() for action in result["actions"]} != {"action=dunno"}:
        raise RuntimeError(f"{accounts} accounts: {result['unanswered']} without an answer, {result['actions']}")
    latencies: list[float] = result["latencies"]
    return latencies
