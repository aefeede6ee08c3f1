"""Limits are exact: with a limit of N the first N recipients leave by normal and the next do not, whatever happens."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mailing import ALICE, HIGH_RISK, NORMAL, arrived, decision, fresh, mail, submit

from deliverypools.lab.lab import Lab, transaction
from deliverypools.lab.postfix import Site
from deliverypools.lab.waiting import wait_until

LIMIT = 100
SESSIONS = 20
LIMITS = {"limits": {"recipients_per_day": LIMIT, "messages_per_minute": 0}}


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(settings=LIMITS)


def send_at_once(lab: Lab, recipients: list[str]) -> list[threading.Thread]:
    """Send one message to each recipient, over 20 sessions at once."""

    def session(own: list[str]) -> None:
        with lab.session(port=587, auth=ALICE) as smtp:
            for recipient in own:
                assert transaction(smtp, ALICE[0], [recipient], mail()).accepted

    threads = [threading.Thread(target=session, args=(recipients[i::SESSIONS],)) for i in range(SESSIONS)]
    for thread in threads:
        thread.start()
    return threads


def pools(lab: Lab, recipients: list[str]) -> Counter[bool]:
    """Return how many left by normal (True), and how many by high-risk (False)."""
    addresses = [arrived(lab, recipient, seconds=60).source_address for recipient in recipients]
    assert set(addresses) <= NORMAL | HIGH_RISK
    return Counter(address in NORMAL for address in addresses)


def test_20_sessions_at_once(lab: Lab):
    recipients = [fresh() for _ in range(LIMIT + 60)]
    for thread in send_at_once(lab, recipients):
        thread.join()
    assert pools(lab, recipients) == {True: LIMIT, False: 60}


def test_20_sessions_at_once_with_the_policy_service_restarted_in_the_middle(lab: Lab):
    recipients = [fresh() for _ in range(LIMIT + 60)]
    threads = send_at_once(lab, recipients)
    wait_until(lambda: len(lab.messages) > LIMIT // 3, timeout_seconds=60, what="a third of the limit")
    lab.policy.kill()
    lab.policy.start()
    for thread in threads:
        thread.join()
    assert pools(lab, recipients) == {True: LIMIT, False: 60}


def test_message_of_30_at_90_of_100_leaves_by_high_risk_as_a_whole(lab: Lab):
    submit(lab, [fresh() for _ in range(90)])
    thirty = [fresh() for _ in range(30)]
    submit(lab, thirty)
    assert {arrived(lab, recipient).source_address for recipient in thirty} <= HIGH_RISK
    assert "90 recipients in 24 hours and 30 more, the limit is 100" in decision(lab, thirty[0])


def test_the_count_survives_kill_9_of_everything(lab: Lab):
    submit(lab, [fresh() for _ in range(LIMIT)])
    lab.policy.kill()
    lab.kill_milter()
    lab.policy.start()
    lab.milter.start()
    recipient = fresh()
    submit(lab, recipient)
    assert arrived(lab, recipient).source_address in HIGH_RISK


@pytest.fixture
def lab_with_refusing_milter(make_lab: Callable[..., Lab]) -> Iterator[Lab]:
    """A site whose own milter, in front of ours as the README says, refuses some messages at their end."""
    lab = make_lab(
        site=Site(adapted={"smtpd_milters": "inet:127.0.0.1:8899, $delivery_pools_milter"}),
        settings={"limits": {"recipients_per_day": 10, "messages_per_minute": 0}},
    )
    with lab.network.inside():
        milter = subprocess.Popen([sys.executable, Path(__file__).parent / "refusing_milter.py", "inet:8899@127.0.0.1"])
    try:
        wait_until(lambda: listens(lab, 8899), timeout_seconds=20, what="the refusing milter")
        yield lab
    finally:
        milter.send_signal(signal.SIGKILL)
        milter.wait()


def listens(lab: Lab, port: int) -> bool:
    with lab.network.inside():
        table = Path("/proc/thread-self/net/tcp").read_text(encoding="ascii")
    return any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A" for line in table.splitlines()[1:])


def test_messages_that_another_milter_refuses_are_not_charged(lab_with_refusing_milter: Lab):
    lab = lab_with_refusing_milter
    for _ in range(3):
        result = lab.send(ALICE[0], [fresh() for _ in range(9)], mail(X_Refuse_Me="yes"), port=587, auth=ALICE)
        assert (result.accepted, result.code) == (False, 550)
    ten = [fresh() for _ in range(10)]
    for recipient in ten:
        submit(lab, recipient)
    assert pools(lab, ten) == {True: 10}
