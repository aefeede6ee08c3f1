"""The policy service over its real socket: dialogs in pieces, garbage, many at once, and its end."""

import contextlib
import multiprocessing
import resource
import signal
import sqlite3
import threading
from pathlib import Path

import pytest
from mail import Mail, connected
from policy_client import ANSWER, OF_ALICE, Client, request

from deliverypools.core.facts import Ingress
from deliverypools.lab.waiting import wait_until


@pytest.mark.parametrize("chunk_bytes", [1, 7, 4096])
def test_a_request_may_come_in_pieces(policy, chunk_bytes):
    data = request(sasl_username="alice")
    with Client(policy.socket_path) as client:
        for start in range(0, len(data), chunk_bytes):
            client.send(data[start : start + chunk_bytes])
        assert client.read(len(ANSWER)) == ANSWER
    assert policy.site.recipients_counted("alice") == 3


def test_several_requests_may_come_at_once(policy):
    data = b"".join(request(sasl_username="alice", queue_id=f"4PIPE{number:05d}z") for number in range(10))
    with Client(policy.socket_path) as client:
        client.send(data + data[:40])
        assert client.read(10 * len(ANSWER)) == ANSWER * 10
        client.send(data[40:])
        assert client.read(10 * len(ANSWER)) == ANSWER * 10
    assert policy.site.recipients_counted("alice") == 30


def test_only_end_of_message_is_counted(policy):
    with Client(policy.socket_path) as client:
        for state in ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "VRFY", ""):
            assert client.ask(sasl_username="alice", protocol_state=state) == ANSWER
    assert policy.site.recipients_counted("alice") == 0


@pytest.mark.parametrize(
    ("changes", "account", "recipients"),
    [
        ({"sasl_username": "Alice"}, "alice", 3),
        ({"client_address": "127.0.0.1"}, "alice@example.org", 3),
        ({"client_address": "127.0.0.1", "sender": "eve@example.net"}, "127.0.0.1", 3),
        ({"client_address": "198.51.100.7"}, "alice@example.org", 0),
        ({"sasl_username": "alice", "recipient_count": "0"}, "alice", 0),
        ({"sasl_username": "alice", "recipient_count": "-1"}, "alice", 0),
        ({"sasl_username": "alice", "recipient_count": "\u0663"}, "alice", 0),
        ({"sasl_username": "alice", "recipient_count": "9" * 30}, "alice", 0),
        ({"sasl_username": "alice", "queue_id": ""}, "alice", 0),
        ({"sasl_username": "\u00e4lice"}, "\u00e4lice", 3),
    ],
)
def test_the_responsible_account_is_counted(policy, changes, account, recipients):
    with Client(policy.socket_path) as client:
        assert client.ask(**changes) == ANSWER
    ingress = Ingress.SUBMISSION if "sasl_username" in changes else Ingress.TRUSTED
    assert policy.site.recipients_counted(account, ingress) == recipients


def test_a_message_asked_about_twice_is_counted_once(policy):
    for _ in range(3):
        with Client(policy.socket_path) as client:
            assert client.ask(sasl_username="alice") == ANSWER
    assert policy.site.recipients_counted("alice") == 3


def test_beyond_the_limit_the_answer_is_the_same_and_the_ticket_tells(make_site, start):
    site = make_site(limits={"recipients_per_day": 5})
    policy, milter = start("policy", site), start("milter", site)
    with Client(policy.socket_path) as client:
        assert client.ask(sasl_username="alice", recipient_count="6", queue_id="4LIMIT0001z") == ANSWER
    policy.wait_for_log("4LIMIT0001z: over limit: alice: 0 recipients in 24 hours and 6 more, the limit is 5")
    mail = Mail(recipients=(b"<bob@example.net>",) * 6)
    with connected(milter.socket_path, "SUBMISSION") as client:
        outcome = mail.through(client, sasl_username="alice", queue_id="4LIMIT0001z")
    assert site.ticket(outcome).origin.over_limit.evidence.startswith("alice: 0 recipients")
    assert site.recipients_counted("alice") == 6
    with connected(milter.socket_path, "EGRESS") as client:
        assert mail.after(outcome).through(client).added_values("X-Delivery-Pool") == ["high-risk"]


@pytest.mark.parametrize("garbage", [b"nonsense\n\n", b"\n\n", b"GET / HTTP/1.1\r\n\n\n", b"\x16\x03\x01" * 30_000])
def test_garbage_closes_that_connection_only(policy, garbage):
    with Client(policy.socket_path) as good, Client(policy.socket_path) as bad:
        bad.send(garbage)
        assert bad.is_closed()
        assert good.ask(sasl_username="alice") == ANSWER
    policy.wait_for_log("connection closed: ")


def test_values_that_are_not_utf_8_are_taken(policy):
    with Client(policy.socket_path) as client:
        client.send(request(sasl_username="alice").replace(b"sender=alice", b"sender=\xff\xfe"))
        assert client.read(len(ANSWER)) == ANSWER
    assert policy.site.recipients_counted("alice") == 3


def test_a_hundred_connections_at_once(policy):
    answers = []
    barrier = threading.Barrier(100)

    def ask(number):
        with Client(policy.socket_path) as client:
            barrier.wait()
            answers.extend(client.ask(sasl_username="alice", queue_id=f"4M{number:03d}{turn}z") for turn in range(5))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [ANSWER] * 500
    assert policy.site.recipients_counted("alice") == 1500


def test_a_state_that_fails_is_answered_and_counted_by_the_milter(make_site, start):
    site = make_site()
    (site.folder / "state.db").mkdir()
    policy = start("policy", site)
    with Client(policy.socket_path) as client:
        assert client.ask(sasl_username="alice") == ANSWER
        policy.wait_for_log("answered DUNNO, not counted: ")
        (site.folder / "state.db").rmdir()
        assert client.ask(sasl_username="alice") == ANSWER
    assert site.recipients_counted("alice") == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_sigterm_ends_it_though_connections_are_open(policy, number):
    with Client(policy.socket_path) as client:
        assert client.ask() == ANSWER
        client.send(b"request=smtpd_")
        policy.signal(number)
        assert policy.wait() == 0
        assert client.is_closed()
    assert policy.log.rstrip().endswith("stopped")


def test_sighup_takes_good_settings_and_keeps_the_old_ones_for_broken_ones(policy):
    policy.site.config.write_text("nonsense\n", encoding="utf-8")
    policy.signal(signal.SIGHUP)
    policy.wait_for_log("the settings were not reloaded: those read before stay in force")
    with Client(policy.socket_path) as client:
        assert client.ask(sasl_username="alice", queue_id="4HUP000001z", recipient_count="7") == ANSWER
        policy.site.write(limits={"recipients_per_day": 5})
        policy.signal(signal.SIGHUP)
        policy.wait_for_log("settings reloaded")
        assert client.ask(sasl_username="alice", queue_id="4HUP000002z") == ANSWER
    policy.wait_for_log("4HUP000002z: over limit: alice: 7 recipients in 24 hours and 3 more, the limit is 5")


def test_a_second_service_on_the_same_socket_refuses_to_start(policy, launch):
    second = launch("policy", policy.site)
    assert second.wait() == 1
    assert f"{policy.socket_path}: another delivery-pools server has this socket; stop it first" in second.log
    with Client(policy.socket_path) as client:
        assert client.ask() == ANSWER


def test_it_is_back_after_kill_9(policy, start):
    policy.process.kill()
    policy.wait()
    with Client(start("policy", policy.site).socket_path) as client:
        assert client.ask(sasl_username="alice") == ANSWER


def test_another_socket_needs_a_restart_and_is_not_touched_at_the_end(policy):
    other = policy.site.folder / "other.sock"
    other.write_text("of somebody else")
    old = policy.socket_path
    policy.site.write(policy={"socket": f"unix:{other}"})
    policy.signal(signal.SIGHUP)
    policy.wait_for_log("policy.socket changed: that needs a restart")
    policy.signal(signal.SIGTERM)
    assert policy.wait() == 0
    assert (other.exists(), Path(old).exists()) == (True, False)


# ---- a state that is down


def hold_lock(path, is_held, may_end):
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    is_held.set()
    may_end.wait(60)
    connection.execute("ROLLBACK")


def test_a_state_that_another_process_holds_is_answered_in_time_and_used_again_afterwards(policy):
    context = multiprocessing.get_context("spawn")
    is_held, may_end = context.Event(), context.Event()
    with Client(policy.socket_path) as client, contextlib.ExitStack() as stack:
        assert client.ask(**OF_ALICE, queue_id="4BEFORE") == ANSWER
        holder = context.Process(target=hold_lock, args=(str(policy.site.folder / "state.db"), is_held, may_end))
        holder.start()
        stack.callback(holder.join)
        stack.callback(may_end.set)
        assert is_held.wait(20)
        waiting = [stack.enter_context(Client(policy.socket_path)) for _ in range(30)]
        for number, one in enumerate(waiting):
            one.send(request(**OF_ALICE, queue_id=f"4LOCKED{number:02d}"))
        # Nobody charged, nothing to wait for.
        assert client.ask() == ANSWER
        # Each within the time-out of the client, 10 s, though they come after one another.
        assert [one.answer() for one in waiting] == [ANSWER] * 30
        may_end.set()
        holder.join()
        assert policy.site.recipients_counted("alice@example.org") == 3
        assert client.ask(**OF_ALICE, queue_id="4AFTER") == ANSWER
    assert policy.site.recipients_counted("alice@example.org") == 6
    assert policy.log.count("answered DUNNO, not counted: ") == 1


# ---- too many connections


def is_served(path):
    with Client(path) as client:
        try:
            return client.ask(**OF_ALICE, protocol_state="RCPT") == ANSWER
        except OSError:
            return False


@pytest.mark.parametrize(("most_files", "connections"), [(300, 400), (0, 10_000)])
def test_a_flood_of_idle_connections_locks_nobody_out(make_site, start, most_files, connections):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    connections = min(connections, hard - 500)
    site = make_site()
    site.most_files = most_files
    policy = start("policy", site)
    with contextlib.ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        busy = stack.enter_context(Client(policy.socket_path))
        flood = [stack.enter_context(Client(policy.socket_path)) for _ in range(connections)]
        wait_until(lambda: is_served(policy.socket_path), timeout_seconds=20, what="a genuine client is served")
        # Half a request makes nobody a genuine client.
        for one in flood:
            with contextlib.suppress(OSError):
                one.send(b"request=")
        wait_until(lambda: is_served(policy.socket_path), timeout_seconds=20, what="a genuine client is served")
        assert busy.is_closed()
        wait_until(lambda: open_files(policy) < 5_300, timeout_seconds=20, what="no descriptor is lost")
    wait_until(lambda: open_files(policy) < 50, timeout_seconds=20, what="all connections are gone")
    assert is_served(policy.socket_path)
    assert policy.log.count("the one idle longest was closed") == 1
    assert "Traceback" not in policy.log


def open_files(daemon):
    return len(list(Path(f"/proc/{daemon.process.pid}/fd").iterdir()))
