"""The policy service over its real socket: dialogs in pieces, garbage, many at once, and its end."""

import signal
import socket
import threading
from pathlib import Path

import pytest
from mail import Mail, connected

from deliverypools.core.facts import Ingress

MAIL = Mail()


def request(**changes):
    """One request, as smtpd(8) writes it."""
    values = {
        "request": "smtpd_access_policy",
        "protocol_state": "END-OF-MESSAGE",
        "protocol_name": "ESMTP",
        "client_address": "198.51.100.7",
        "sender": "alice@example.org",
        "recipient": "",
        "recipient_count": "3",
        "queue_id": "4POLICY001z",
        "instance": "1.2.3",
        "sasl_username": "",
    } | changes
    return "".join(f"{name}={value}\n" for name, value in values.items()).encode() + b"\n"


ANSWER = b"action=DUNNO\n\n"


class Client:
    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(10)
        self._socket.connect(path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    def send(self, data):
        self._socket.sendall(data)

    def read(self, length):
        data = b""
        while len(data) < length and (chunk := self._socket.recv(length - len(data))):
            data += chunk
        return data

    def ask(self, **changes):
        self.send(request(**changes))
        return self.read(len(ANSWER))

    def is_closed(self):
        try:
            return self._socket.recv(1) == b""
        except ConnectionResetError:
            return True


@pytest.fixture
def policy(make_site, start):
    return start("policy", make_site())


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
        policy.wait_for_log("4POLICY001z: not counted: ")
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
