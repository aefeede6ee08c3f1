"""Connections to scanners: kept and replaced, over HTTP and TLS; what a client makes of odd ones."""

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from scanner_kinds import (
    CLAMD,
    ENVELOPE,
    LARGE,
    LATE,
    MESSAGE,
    RSPAMD,
    RSPAMD_BODY,
    RSPAMD_HEAD,
    SOON,
    after_request,
    answer_questions,
    ask,
    http_answer,
    in_time,
)
from scripted_server import ScriptedServer

from deliverypools.adapters.scanning import connections
from deliverypools.adapters.scanning.rspamd_client import RspamdClient
from deliverypools.adapters.scanning.unavailable import ScannerUnavailable
from deliverypools.core.scanning.answers import ScanVerdict


class TestKeptConnections:
    """rspamd over HTTP/1.1, and clamd in a session."""

    @pytest.fixture(params=[RSPAMD, CLAMD], ids=repr)
    def kind(self, request):
        return request.param

    def test_are_used_again(self, kind):
        with ScriptedServer(lambda c: answer_questions(kind, c, 100)) as server:
            client = kind.client(server)
            for _ in range(5):
                assert client.ask(MESSAGE, ENVELOPE, in_time()).verdict is ScanVerdict.SPAM
            client.close()
            assert server.connections == 1

    def test_that_were_not_used_for_long_are_replaced(self, kind, monkeypatch):
        monkeypatch.setattr(connections, "_MOST_IDLE_SECONDS", 0.0)
        with ScriptedServer(lambda c: answer_questions(kind, c, 100)) as server:
            client = kind.client(server)
            for _ in range(2):
                assert client.ask(MESSAGE, ENVELOPE, in_time()).verdict is ScanVerdict.SPAM
            client.close()
            assert server.connections == 2

    def test_that_have_ended_meanwhile_are_replaced(self, kind):
        has_ended = threading.Event()

        def script(conversation):
            answer_questions(kind, conversation, 1)
            conversation.connection.shutdown(socket.SHUT_RDWR)
            has_ended.set()

        with ScriptedServer(script) as server:
            client = kind.client(server)
            for _ in range(2):
                assert client.ask(MESSAGE, ENVELOPE, in_time()).verdict is ScanVerdict.SPAM
                assert has_ended.wait(LATE)
                has_ended.clear()
            client.close()
            assert server.connections == 2

    def test_that_end_during_a_question_are_replaced_once(self, kind):
        def script(conversation):
            answer_questions(kind, conversation, 1)
            conversation.hear_all_of(kind.end_of_request)

        with ScriptedServer(script) as server:
            client = kind.client(server)
            for _ in range(3):
                assert client.ask(MESSAGE, ENVELOPE, in_time()).verdict is ScanVerdict.SPAM
            client.close()
            assert server.connections == 3

    def test_of_a_scanner_that_is_gone_are_no_answer(self, kind):
        with ScriptedServer(lambda c: answer_questions(kind, c, 1)) as server:
            client = kind.client(server)
            client.ask(MESSAGE, ENVELOPE, in_time())
        with pytest.raises(ScannerUnavailable, match="connection refused"):
            client.ask(MESSAGE, ENVELOPE, in_time())

    def test_that_hang_are_not_tried_again(self, kind):
        def script(conversation):
            answer_questions(kind, conversation, 1)
            conversation.say_nothing()

        with ScriptedServer(script) as server:
            client = kind.client(server)
            client.ask(MESSAGE, ENVELOPE, in_time())
            with pytest.raises(ScannerUnavailable, match="no answer in"):
                client.ask(MESSAGE, ENVELOPE, in_time(SOON))
            assert server.connections == 1
            client.close()

    def test_what_was_said_unasked_answers_no_question(self, kind):
        may_say, has_said = threading.Event(), threading.Event()
        stray = (
            kind.answer.replace(b"1: ", b"2: ").replace(b"Lab.Test FOUND", b"OK").replace(b"add header", b"no action")
        )

        def script(conversation):
            answer_questions(kind, conversation, 1)
            if conversation.number == 1:
                may_say.wait(LATE)
                conversation.say(stray)
                has_said.set()
                conversation.say_nothing()

        with ScriptedServer(script) as server:
            client = kind.client(server)
            client.ask(MESSAGE, ENVELOPE, in_time())
            may_say.set()
            assert has_said.wait(LATE)
            assert client.ask(MESSAGE, ENVELOPE, in_time()).verdict is ScanVerdict.SPAM
            client.close()
            assert server.connections == 2

    def test_an_answer_to_another_question_is_none(self):
        with (
            ScriptedServer(after_request(CLAMD, lambda c: c.say(b"7: stream: OK\0"))) as server,
            pytest.raises(ScannerUnavailable, match="question 7 of a session, not to 1"),
        ):
            ask(CLAMD, server)


class TestHttp:
    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.0 200 OK\r\n\r\n" + RSPAMD_BODY,
            b"HTTP/1.1 100 Continue\r\n\r\n" + http_answer(RSPAMD_BODY),
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n"
            % (len(RSPAMD_BODY), RSPAMD_BODY),
        ],
        ids=["to the end", "after a continue", "in chunks"],
    )
    def test_forms_of_an_answer(self, answer):
        with ScriptedServer(after_request(RSPAMD, lambda c: c.say(answer))) as server:
            assert ask(RSPAMD, server).score == 7.5

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999999\r\n\r\n" + RSPAMD_BODY[:-1],
            b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n" + RSPAMD_BODY[:-1],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n" + RSPAMD_BODY,
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n" + RSPAMD_BODY[:-1],
            b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n" + RSPAMD_BODY,
            b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n" + RSPAMD_BODY,
            b"HTTP/1.1 100 Continue\r\n\r\n" * 50_000,
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
            http_answer(RSPAMD_BODY, b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: %d\r\n\r\n"),
            http_answer(RSPAMD_BODY, b"HTTP/1.1 206 Partial Content\r\nContent-Length: %d\r\n\r\n"),
        ],
        ids=[
            *("huge length", "negative length", "negative chunk", "huge chunk", "many fields", "long field"),
            *("many continues", "redirect", "bad gateway", "partial"),
        ],
    )
    def test_forms_of_nonsense(self, answer):
        with (
            ScriptedServer(after_request(RSPAMD, lambda c: c.say(answer))) as server,
            pytest.raises(ScannerUnavailable, match="nonsense"),
        ):
            ask(RSPAMD, server)

    def test_nonsense_ends_the_connection(self):
        has_ended = threading.Event()

        def script(conversation):
            try:
                conversation.say_for_ever(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)
            except OSError:
                has_ended.set()

        with ScriptedServer(script) as server:
            # As long as the error is kept, so is what the library had of the answer.
            with pytest.raises(ScannerUnavailable, match="too much of it") as raised:
                ask(RSPAMD, server)
            assert has_ended.wait(LATE)
            assert raised.value

    def test_the_request(self):
        heard = []

        def script(conversation):
            heard.append(conversation.heard(RSPAMD.end_of_request))
            conversation.say(http_answer(RSPAMD_BODY))

        with ScriptedServer(script) as server:
            client = RspamdClient(f"http://us%40er:p%3Aw@{server.address}/b%20h/\N{SNOWMAN}/", "outbound")
            client.ask(MESSAGE, ENVELOPE, in_time())
            client.close()
        head, _, _ = heard[0].partition(b"\r\n\r\n")
        request, *fields = head.decode().split("\r\n")
        assert request == "POST /b%20h/%E2%98%83/checkv2 HTTP/1.1"
        assert sorted(fields) == sorted(
            [
                f"Host: {server.address}",
                "From: <alice@example.org>",
                "Rcpt: <bob@example.net>",
                "User: alice",
                "Settings-ID: outbound",
                f"Content-Length: {len(MESSAGE)}",
                "Authorization: Basic dXNAZXI6cDp3",
            ]
        )


class TestTls:
    @pytest.fixture
    def certificate(self, tmp_path):
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "rspamd.example")])
        now = datetime.now(UTC)
        signed = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
            .sign(key, hashes.SHA256())
        )
        path = tmp_path / "server.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + signed.public_bytes(serialization.Encoding.PEM)
        )
        return path

    @pytest.fixture
    def tls(self, certificate):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        return context

    @pytest.fixture
    def client(self, certificate, monkeypatch):
        """Trust the server's certificate, as an administrator makes a whole machine trust one."""
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        clients = []

        def client_of(server):
            clients.append(RspamdClient(f"https://{server.address}", None))
            return clients[-1]

        yield client_of
        for one in clients:
            one.close()

    def test_an_answer_and_a_kept_connection(self, tls, client):
        with ScriptedServer(lambda c: answer_questions(RSPAMD, c, 3), tls=tls) as server:
            asking = client(server)
            for content in (MESSAGE, LARGE, MESSAGE):
                assert asking.ask(content, ENVELOPE, in_time()).score == 7.5
            asking.close()
            assert server.connections == 1

    def test_a_kept_connection_that_ends_during_a_question(self, tls, client):
        def script(conversation):
            answer_questions(RSPAMD, conversation, 1)
            conversation.connection.recv(1000)

        with ScriptedServer(script, tls=tls) as server:
            asking = client(server)
            for content in (MESSAGE, LARGE, MESSAGE):
                assert asking.ask(content, ENVELOPE, in_time()).score == 7.5
            asking.close()
            assert server.connections == 3

    def test_ten_megabytes(self, tls, client):
        script = after_request(RSPAMD, lambda c: c.say(RSPAMD_HEAD % 10_000_000 + b"x" * 10_000_000))
        with ScriptedServer(script, tls=tls) as server, pytest.raises(ScannerUnavailable, match="nonsense"):
            client(server).ask(MESSAGE, ENVELOPE, in_time())

    def test_it_hangs(self, tls, client):
        with ScriptedServer(lambda c: c.say_nothing(), tls=tls) as server:
            for content in (MESSAGE, LARGE):
                with pytest.raises(ScannerUnavailable, match="no answer in"):
                    client(server).ask(content, ENVELOPE, in_time(SOON))

    def test_it_trickles(self, tls, client):
        script = after_request(RSPAMD, lambda c: c.say_for_ever(b"H"))
        with ScriptedServer(script, tls=tls) as server, pytest.raises(ScannerUnavailable, match="no answer in"):
            client(server).ask(MESSAGE, ENVELOPE, in_time(SOON))

    def test_it_hangs_before_tls(self, client):
        with (
            ScriptedServer(lambda c: c.say_nothing()) as server,
            pytest.raises(ScannerUnavailable, match="no answer in"),
        ):
            client(server).ask(MESSAGE, ENVELOPE, in_time(SOON))

    def test_it_speaks_no_tls(self, client):
        with (
            ScriptedServer(lambda c: c.say(b"220 mail.example.org ESMTP\r\n")) as server,
            pytest.raises(ScannerUnavailable, match="TLS: WRONG_VERSION_NUMBER"),
        ):
            client(server).ask(MESSAGE, ENVELOPE, in_time())

    def test_nobody_vouches_for_it(self, tls):
        with (
            ScriptedServer(lambda c: c.say_nothing(), tls=tls) as server,
            pytest.raises(ScannerUnavailable, match="TLS: CERTIFICATE_VERIFY_FAILED"),
        ):
            RspamdClient(f"https://{server.address}", None).ask(MESSAGE, ENVELOPE, in_time())
