"""Look-ups of SRS addresses and the judgement at RCPT, by the real daemon over its real sockets."""

import signal
import socket
import stat
import time
from pathlib import Path

import pytest

from deliverypools.core.srs import SenderRewriter
from deliverypools.lab.waiting import wait_until

SECRET = b"the secret of this site"
OURS = "srs.example.org"
DAY = 86400
ORIGINAL = "alice@example.net"
NOT_FOUND = b"9:NOTFOUND ,"


def srs(secret=SECRET, days_ago=0):
    return SenderRewriter([secret], OURS, lambda: time.time() - days_ago * DAY).forward(ORIGINAL)


def netstring(text):
    return b"%d:%b," % (len(text.encode()), text.encode())


class Client:
    """One connection to either socket."""

    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(10)
        self._socket.connect(str(path))

    def send(self, data):
        self._socket.sendall(data)

    def read(self, length):
        data = b""
        while len(data) < length:
            if not (chunk := self._socket.recv(length - len(data))):
                raise ConnectionResetError
            data += chunk
        return data

    def look_up(self, key, name="srs"):
        self.send(netstring(f"{name} {key}"))
        digits = b""
        while (byte := self.read(1)) != b":":
            digits += byte
        return self.read(int(digits) + 1)[:-1].decode()

    def judge(self, recipient, **changes):
        """Return what the policy service says to a recipient of outside mail."""
        values = {
            "request": "smtpd_access_policy",
            "protocol_state": "RCPT",
            "client_address": "198.51.100.7",
            "sender": "",
            "recipient": recipient,
            "instance": "1.2.3",
            "sasl_username": "",
        } | changes
        self.send("".join(f"{name}={value}\n" for name, value in values.items()).encode() + b"\n")
        answer = b""
        while not answer.endswith(b"\n\n"):
            answer += self.read(1)
        return answer.decode().removeprefix("action=").strip()

    def is_closed(self):
        try:
            return self._socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def close(self):
        self._socket.close()


@pytest.fixture
def srs_site(make_site, tmp_path):
    secrets = tmp_path / "srs.secrets"
    secrets.write_bytes(SECRET + b"\n")
    secrets.chmod(0o600)
    return make_site(
        forwarding={"srs_domain": OURS, "srs_secret_file": str(secrets)},
        socketmap={"socket": f"unix:{tmp_path}/socketmap.sock"},
    )


@pytest.fixture
def daemon(srs_site, start):
    return start("policy", srs_site)


@pytest.fixture
def connect(tmp_path):
    clients = []

    def connect(name="socketmap"):
        clients.append(Client(tmp_path / f"{name}.sock"))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


@pytest.mark.usefixtures("daemon")
class TestLookUps:
    def test_an_address_of_ours_leads_back(self, connect):
        client = connect()
        assert client.look_up(srs()) == f"OK {ORIGINAL}"
        assert client.look_up(srs().lower()) == f"OK {ORIGINAL}"

    def test_quoted_and_unquoted_keys(self, connect):
        quoted = SenderRewriter([SECRET], OURS, time.time).forward('"john doe"@example.net')
        assert connect().look_up(quoted) == 'OK "john doe"@example.net'
        assert connect().look_up(quoted.replace('"', "")) == 'OK "john doe"@example.net'

    @pytest.mark.parametrize(
        "key",
        [
            pytest.param(srs(days_ago=22), id="expired"),
            pytest.param(srs().replace("alice", "bob"), id="tampered"),
            pytest.param(srs(secret=b"somebody else's secret"), id="of others"),
            pytest.param(f"SRS0=x@{OURS}", id="malformed"),
            pytest.param("alice@example.org", id="no SRS"),
            pytest.param(OURS, id="no address"),
            pytest.param(f"@{OURS}", id="the domain"),
            pytest.param("", id="nothing"),
        ],
    )
    def test_what_does_not_lead_back_is_not_found(self, connect, key):
        assert connect().look_up(key) == "NOTFOUND "

    def test_a_map_that_is_not_there_is_a_permanent_error(self, connect):
        assert connect().look_up(srs(), name="virtual") == "PERM there is no map virtual; ask for srs"

    @pytest.mark.parametrize("chunk_bytes", [1, 7, 4096])
    def test_dialogs_in_pieces(self, connect, chunk_bytes):
        client = connect()
        dialog = netstring(f"srs {srs()}") + netstring("srs x") + netstring(f"srs {srs()}")
        for start in range(0, len(dialog), chunk_bytes):
            client.send(dialog[start : start + chunk_bytes])
        found = netstring(f"OK {ORIGINAL}")
        expected = found + NOT_FOUND + found
        assert client.read(len(expected)) == expected

    def test_a_thousand_look_ups_at_once_are_answered_in_their_order(self, connect):
        client = connect()
        client.send(b"".join(netstring("srs x") + netstring(f"srs {srs()}") for _ in range(500)))
        expected = (NOT_FOUND + netstring(f"OK {ORIGINAL}")) * 500
        assert client.read(len(expected)) == expected

    @pytest.mark.parametrize(
        "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"request=smtpd_access_policy\n\n", b"999999:", b"3:srs,"]
    )
    def test_garbage_ends_the_connection_and_nothing_else(self, connect, daemon, garbage):
        kept = connect()
        client = connect()
        client.send(garbage)
        assert client.is_closed()
        daemon.wait_for_log("connection closed: ")
        assert kept.look_up(srs()) == f"OK {ORIGINAL}"


@pytest.mark.usefixtures("daemon")
class TestRecipients:
    def test_a_bounce_to_an_address_of_ours_is_let_in(self, connect):
        client = connect("policy")
        assert client.judge(srs()) == "DUNNO"
        assert client.judge(srs().lower()) == "DUNNO"

    @pytest.mark.parametrize(
        "client_values",
        [
            pytest.param({}, id="outside"),
            pytest.param({"client_address": "127.0.0.1"}, id="trusted"),
            pytest.param({"sasl_username": "alice@example.org"}, id="submission"),
        ],
    )
    def test_other_mail_is_refused_whoever_sends_it(self, connect, client_values):
        client = connect("policy")
        assert client.judge(srs(), sender="bob@example.com", **client_values) == (
            "550 5.7.1 SRS addresses take bounces only: mail to them needs the null sender"
        )
        assert client.judge(srs(days_ago=22), **client_values) == (
            "550 5.4.7 The SRS address of the recipient has expired: it took bounces for 21 days"
        )
        assert client.judge(srs().replace("alice", "bob"), **client_values) == (
            "550 5.7.7 The SRS address of the recipient was not made here, or was changed on its way"
        )

    def test_other_recipients_and_stages_are_not_judged(self, connect):
        client = connect("policy")
        assert client.judge("alice@example.org", sender="bob@example.com") == "DUNNO"
        assert client.judge(f"postmaster@{OURS}", sender="bob@example.com") == "DUNNO"
        assert client.judge("SRS0=abcd=TT=x.example=u@fwd.example", sender="bob@example.com") == "DUNNO"
        assert client.judge(srs(), sender="bob@example.com", protocol_state="DATA") == "DUNNO"


def test_recipients_are_judged_while_the_state_is_down(srs_site, start, connect, tmp_path):
    (tmp_path / "state.db").mkdir()
    start("policy", srs_site)
    client = connect("policy")
    assert client.judge(srs(), sender="bob@example.com", sasl_username="alice@example.org").startswith("550 5.7.1 SRS")


def test_the_socket_is_postfixs(daemon, tmp_path):
    mode = (tmp_path / "socketmap.sock").stat()
    assert stat.S_IMODE(mode.st_mode) == 0o660
    assert mode.st_gid == (tmp_path / "policy.sock").stat().st_gid
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0
    assert not (tmp_path / "socketmap.sock").exists()


def test_without_srs_there_is_no_socket(make_site, start, tmp_path):
    start("policy", make_site(socketmap={"socket": f"unix:{tmp_path}/socketmap.sock"}))
    assert not (tmp_path / "socketmap.sock").exists()


def test_a_socket_that_is_in_use_is_an_error(srs_site, daemon, launch, tmp_path):
    assert daemon.process.poll() is None
    srs_site.write(
        forwarding={"srs_domain": OURS, "srs_secret_file": str(tmp_path / "srs.secrets")},
        socketmap={"socket": f"unix:{tmp_path}/socketmap.sock"},
        policy={"socket": f"unix:{tmp_path}/other.sock"},
    )
    second = launch("policy", srs_site)
    assert second.wait() == 1
    assert "socketmap.sock: another delivery-pools server has this socket" in second.log


class TestReload:
    def test_new_secrets_are_taken(self, daemon, connect, tmp_path):
        policy, client = connect("policy"), connect()
        new = srs(secret=b"a secret that is newer")
        assert client.look_up(new) == "NOTFOUND "
        assert policy.judge(new).startswith("550 5.7.7 ")
        (tmp_path / "srs.secrets").write_bytes(b"a secret that is newer\n" + SECRET + b"\n")
        daemon.signal(signal.SIGHUP)
        daemon.wait_for_log("settings reloaded")
        assert client.look_up(new) == client.look_up(srs()) == f"OK {ORIGINAL}"
        assert policy.judge(new) == "DUNNO"

    def test_a_broken_file_changes_nothing_and_is_reported(self, daemon, connect, tmp_path):
        client = connect()
        (tmp_path / "srs.secrets").write_bytes(b"short\n")
        daemon.signal(signal.SIGHUP)
        daemon.wait_for_log("the settings were not reloaded")
        assert f"{tmp_path}/srs.secrets:1: not a secret" in daemon.log
        assert "short" not in daemon.log
        assert client.look_up(srs()) == f"OK {ORIGINAL}"

    def test_srs_that_is_set_up_later_needs_a_restart(self, make_site, start, tmp_path):
        site = make_site()
        daemon = start("policy", site)
        (tmp_path / "srs.secrets").write_bytes(SECRET + b"\n")
        site.write(forwarding={"srs_domain": OURS, "srs_secret_file": str(tmp_path / "srs.secrets")})
        daemon.signal(signal.SIGHUP)
        daemon.wait_for_log("forwarding.srs_domain is new: that needs a restart")

    def test_srs_that_is_taken_away_is_not_found(self, srs_site, daemon, connect, tmp_path):
        client = connect()
        srs_site.write(socketmap={"socket": f"unix:{tmp_path}/elsewhere.sock"})
        daemon.signal(signal.SIGHUP)
        daemon.wait_for_log("settings reloaded")
        assert client.look_up(srs()) == "NOTFOUND "
        assert connect("policy").judge(srs(), sender="bob@example.com") == "DUNNO"
        assert "socketmap.socket changed: that needs a restart" in daemon.log


def test_secrets_that_everybody_can_read_are_warned_of(srs_site, start, tmp_path):
    (tmp_path / "srs.secrets").chmod(0o644)
    daemon = start("policy", srs_site)
    assert f"{tmp_path}/srs.secrets: every user can read the keys, and so make SRS addresses" in daemon.log


def test_policy_and_look_ups_share_one_limit_of_connections(srs_site, start, connect, tmp_path):
    srs_site.most_files = 215
    daemon = start("policy", srs_site)
    idle = [connect()]

    def has_yielded():
        idle.append(connect())
        return "the one idle longest was closed" in daemon.log

    # An idle connection yields its place after a second.
    wait_until(has_yielded, timeout_seconds=20, what="an idle connection yields its place")
    assert idle[0].is_closed()
    wait_until(lambda: _is_served(connect), timeout_seconds=20, what="a new connection is served")
    assert Path(tmp_path / "socketmap.sock").exists()


def _is_served(connect):
    try:
        return connect("policy").judge("alice@example.org") == "DUNNO"
    except OSError:
        return False
