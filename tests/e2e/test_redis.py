"""The state on a Redis server, as several Postfix hosts share it; and that server gone, in the middle of a run."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mailing import ALICE, HIGH_RISK, NORMAL, arrived, fresh, mail, submit

from deliverypools.adapters.state import open_state
from deliverypools.core.accounts import Account
from deliverypools.core.facts import Ingress
from deliverypools.core.limits import recipients_window
from deliverypools.core.settings import parse_settings
from deliverypools.core.tallies import DAY
from deliverypools.lab.lab import Lab, transaction
from deliverypools.lab.waiting import wait_until

PORT = 6390
LIMIT = 40


class RedisServer:
    """A real redis-server among the lab's addresses; what it was told survives its end."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._lab = lab
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = ("--port", str(PORT), "--bind", "127.0.0.1", "--dir", str(self._folder), "--save", "")
        with self._lab.network.inside():
            self._process = subprocess.Popen(
                ["redis-server", *options, "--appendonly", "yes", "--appendfsync", "always"],
                stdout=subprocess.DEVNULL,
            )
            wait_until(_answers, timeout_seconds=20, what="redis-server")

    def send_signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self._process = None


def _answers() -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", PORT), 1) as probe:
        probe.sendall(b"PING\r\n")
        return probe.recv(7) == b"+PONG\r\n"
    return False


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(
        settings={
            "state": f"redis://127.0.0.1:{PORT}/0",
            "limits": {"recipients_per_day": LIMIT, "messages_per_minute": 0},
        }
    )


@pytest.fixture
def redis(lab: Lab, tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(lab, tmp_path)
    server.start()
    yield server
    server.stop()


def pools(lab: Lab, recipients: list[str]) -> Counter[bool]:
    """Return how many left by normal (True), and how many by high-risk (False)."""
    addresses = [arrived(lab, recipient, seconds=90).source_address for recipient in recipients]
    assert set(addresses) <= NORMAL | HIGH_RISK
    return Counter(address in NORMAL for address in addresses)


def counted(lab: Lab) -> int:
    settings = parse_settings(lab.settings_file.read_text(), "lab")
    with lab.network.inside():
        state = open_state(settings, time.time)
        try:
            return state.used([recipients_window(Account(Ingress.SUBMISSION, ALICE[0]), DAY)])[0]
        finally:
            state.close()


@pytest.mark.usefixtures("redis")
def test_exactly_n_pass_from_ten_sessions_at_once(lab: Lab):
    recipients = [fresh() for _ in range(LIMIT + 20)]

    def session(own: list[str]) -> None:
        with lab.session(port=587, auth=ALICE) as smtp:
            for recipient in own:
                assert transaction(smtp, ALICE[0], [recipient], mail()).accepted

    threads = [threading.Thread(target=session, args=(recipients[i::10],)) for i in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pools(lab, recipients) == {True: LIMIT, False: 20}


def test_server_stopped_in_the_middle_and_started_again(lab: Lab, redis: RedisServer):
    before, during, after = ([fresh() for _ in range(20)] for _ in range(3))
    for recipient in before:
        submit(lab, recipient)
    assert pools(lab, before) == {True: 20}
    redis.stop()
    for recipient in during:
        # Accepted, marked, and counted later.
        submit(lab, recipient)
    lab.postfix.wait_for_log(r"Not yet decided by which address")
    assert not [message for message in lab.messages if set(message.recipients) & set(during)]
    redis.start()
    assert pools(lab, during) == {True: 20}
    for recipient in after:
        submit(lab, recipient)
    assert pools(lab, after) == {False: 20}
    assert counted(lab) == 60
    lab.wait_until_queue_is_empty(30)
    arrivals = Counter(recipient for message in lab.messages for recipient in message.recipients)
    assert arrivals == Counter(dict.fromkeys([*before, *during, *after], 1))
