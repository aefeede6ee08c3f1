"""The lab's scanners are the real ones: what the other tests rely on, asked in each one's own protocol."""

import http.client
import json
import socket
import struct

import pytest

from deliverypools.lab.dns_server import DnsServer
from deliverypools.lab.namespace import LabUnavailableError
from deliverypools.lab.scanners import EICAR, GTUBE, SIGNATURE, ClamdServer, RspamdServer, SpamdServer
from deliverypools.lab.waiting import wait_until

SERVERS = (RspamdServer, SpamdServer, ClamdServer)


@pytest.fixture(scope="module", params=SERVERS)
def server(request):
    with request.param() as server:
        yield server


@pytest.fixture(scope="module")
def rspamd():
    with RspamdServer() as server:
        yield server


@pytest.fixture(scope="module")
def spamd():
    with SpamdServer() as server:
        yield server


@pytest.fixture(scope="module")
def clamd():
    with ClamdServer() as server:
        yield server


def message(body="see you on Friday", **headers):
    fields = {
        "From": "alice@example.org",
        "To": "bob@example.com",
        "Subject": "lunch",
        "Date": "Sat, 21 Nov 2026 10:00:00 +0000",
        "Message-ID": "<lunch@example.org>",
    }
    return "".join(f"{name}: {value}\r\n" for name, value in (fields | headers).items()).encode() + (
        f"\r\n{body}\r\n".encode()
    )


def asked(address, question):
    """Everything that a server answers until it closes."""
    host, _, port = address.rpartition(":")
    connection = socket.socket(socket.AF_UNIX) if host == "unix" else socket.create_connection((host, int(port)), 10)
    with connection:
        connection.settimeout(10)
        if host == "unix":
            connection.connect(port)
        connection.sendall(question)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def checked_by_rspamd(server, content, **headers):
    connection = http.client.HTTPConnection(server.address, timeout=10)
    connection.request("POST", "/checkv2", content, headers)
    return json.loads(connection.getresponse().read())


def checked_by_spamd(address, content):
    return asked(address, b"SYMBOLS SPAMC/1.5\r\nContent-length: %d\r\n\r\n%b" % (len(content), content))


def checked_by_clamd(address, content):
    return asked(address, b"zINSTREAM\0" + struct.pack("!I", len(content)) + content + struct.pack("!I", 0))


def test_rspamd_rejects_the_test_pattern_and_lets_ordinary_mail_pass(rspamd):
    assert checked_by_rspamd(rspamd, message(GTUBE))["action"] == "reject"
    assert checked_by_rspamd(rspamd, message())["action"] == "no action"


def test_rspamd_says_what_it_found_in_its_log_by_message_id(rspamd):
    checked_by_rspamd(rspamd, message(GTUBE, **{"Message-ID": "<logged@example.org>"}))
    line = next(line for line in rspamd.log().splitlines() if "id: <logged@example.org>, " in line)
    assert "(default: S (reject): " in line


def test_rspamd_follows_its_overrides_and_asks_the_name_server_that_it_is_given():
    zones = {"spf.example": {"TXT": ['"v=spf1 ip4:203.0.113.1 -all"']}}
    dns_server = DnsServer(zones)
    dns_server.start("127.0.0.1", 0)
    overrides = {"force_actions.conf": 'rules { ours { action = "soft reject"; expression = "R_SPF_ALLOW"; } }'}
    with RspamdServer(nameserver="{}:{}".format(*dns_server.address), overrides=overrides) as server:
        envelope = {"From": "erin@spf.example", "IP": "203.0.113.1", "Helo": "mx.spf.example"}
        answer = checked_by_rspamd(server, message(From="erin@spf.example"), **envelope)
    dns_server.stop()
    assert "R_SPF_ALLOW" in answer["symbols"]
    assert answer["action"] == "soft reject"


def test_rspamd_asks_nobody_on_the_internet():
    dns_server = DnsServer({})
    dns_server.start("127.0.0.1", 0)
    with RspamdServer(nameserver="{}:{}".format(*dns_server.address)) as server:
        checked_by_rspamd(server, message("http://www.example.com/", From="erin@example.com"), IP="203.0.113.1")
    dns_server.stop()
    assert [name for name, _ in dns_server.asked if "example" not in name and not name.endswith("in-addr.arpa")] == []


@pytest.mark.parametrize("transport", ["address", "unix_address"])
def test_spamd_finds_the_test_pattern_and_nothing_in_ordinary_mail(spamd, transport):
    address = getattr(spamd, transport)
    assert b"Spam: True" in checked_by_spamd(address, message(GTUBE))
    assert b"Spam: False" in checked_by_spamd(address, message())


def test_spamd_says_what_it_found_in_its_log_by_message_id(spamd):
    checked_by_spamd(spamd.address, message(GTUBE, **{"Message-ID": "<logged@example.org>"}))
    wait_until(lambda: "mid=<logged@example.org>" in spamd.log(), timeout_seconds=10, what="spamd's log")
    line = next(line for line in spamd.log().splitlines() if "mid=<logged@example.org>" in line)
    assert "result: Y " in line


def test_spamd_follows_its_configuration():
    with SpamdServer(local_cf=["header OURS Subject =~ /lunch/", "score OURS 7.5"], max_children=1) as server:
        assert b"OURS" in checked_by_spamd(server.address, message())
        assert len(server.workers) == 1


@pytest.mark.parametrize("transport", ["address", "unix_address"])
def test_clamd_finds_its_one_signature_and_nothing_in_ordinary_mail(clamd, transport):
    address = getattr(clamd, transport)
    assert checked_by_clamd(address, message(EICAR)) == f"stream: {SIGNATURE} FOUND\0".encode()
    assert checked_by_clamd(address, message()) == b"stream: OK\0"


def test_clamd_takes_no_more_than_it_is_told():
    with ClamdServer(stream_max_length="1K") as server:
        assert b"size limit exceeded" in checked_by_clamd(server.address, message("x" * 2000))


def test_server_comes_back_where_it_was(server):
    address = server.address
    server.stop()
    assert not server.is_answering()
    server.start()
    assert server.address == address
    assert server.is_answering()


def test_paused_server_takes_connections_and_says_nothing(server):
    server.pause()
    with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
        connection.settimeout(0.3)
        connection.sendall(b"PING SPAMC/1.5\r\n\r\n")
        with pytest.raises(TimeoutError):
            connection.recv(1)
    server.resume()
    wait_until(server.is_answering, timeout_seconds=10, what="an answer")


def test_paused_server_can_be_stopped(server):
    server.pause()
    server.stop()
    server.start()


def test_nothing_is_left_behind():
    with ClamdServer() as server:
        folder = server.folder
    assert not folder.exists()
    with pytest.raises(RuntimeError):
        server.pid  # noqa: B018
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), 10)


def test_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(ClamdServer, "program", tmp_path / "clamd")
    with pytest.raises(LabUnavailableError, match="clamav-daemon"):
        ClamdServer()
