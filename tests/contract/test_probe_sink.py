"""The receiving end of `check --live`: any program of this machine may connect to it, and none can hold it up."""

from __future__ import annotations

import asyncio
import smtplib
import socket
import ssl

import pytest

from deliverypools.adapters import probe_sink
from deliverypools.adapters.probe_sink import ProbeSink
from deliverypools.core.host_check.live import LOOPBACK

MAIL = b"Subject: probe\r\nX-Delivery-Pool: normal\r\n\r\nbody: x\r\n..dot\r\n"


def visited(client, family=4, **door):
    """Let a client talk to a sink; return what was seen at its port."""

    async def run():
        async with ProbeSink() as sink:
            port = await sink.open_door(family, **door)
            await asyncio.to_thread(client, LOOPBACK[family], port)
            return sink.seen(port)

    return asyncio.run(asyncio.wait_for(run(), 30))


def send(host, port):
    with smtplib.SMTP(host, port, local_hostname="mail.example.org", timeout=10) as smtp:
        smtp.sendmail("", ["x@delivery-pools-probe.invalid"], MAIL)


@pytest.mark.parametrize("family", [4, 6])
def test_a_message(family):
    seen = visited(send, family)
    assert (seen.source, seen.helo) == (LOOPBACK[family], "mail.example.org")
    assert seen.header == b"Subject: probe\nX-Delivery-Pool: normal\n"


def trusting():
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.mark.parametrize("family", [4, 6])
def test_tls_from_the_first_byte(family):
    """As a transport speaks with smtp_tls_wrappermode: its first bytes are there before the session begins."""

    def client(host, port):
        for _ in range(20):
            with smtplib.SMTP_SSL(host, port, "mail.example.org", timeout=10, context=trusting()) as smtp:
                smtp.ehlo()
                assert not smtp.has_extn("starttls")
                smtp.sendmail("", ["x@delivery-pools-probe.invalid"], MAIL)

    seen = visited(client, family, tls_at_once=True)
    assert (seen.source, seen.helo) == (LOOPBACK[family], "mail.example.org")
    assert seen.header == b"Subject: probe\nX-Delivery-Pool: normal\n"


@pytest.mark.parametrize("data", [b"", b"EHLO x\r\n", b"\x16\x03\x01\x02\x00"])
def test_no_tls_where_it_is_expected(data):
    def client(host, port):
        with socket.create_connection((host, port), 10) as connection:
            connection.settimeout(10)
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass

    assert visited(client, tls_at_once=True) is None


def test_a_message_over_tls():
    def client(host, port):
        with smtplib.SMTP(host, port, local_hostname="mail.example.org", timeout=10) as smtp:
            smtp.starttls(context=trusting())
            smtp.ehlo()
            assert not smtp.has_extn("starttls")
            smtp.sendmail("", ["x@delivery-pools-probe.invalid"], MAIL)

    assert visited(client).header is not None


def test_a_client_that_gives_up_after_its_greeting():
    def client(host, port):
        smtplib.SMTP(host, port, local_hostname="mail.example.org", timeout=10).ehlo()

    seen = visited(client)
    assert (seen.source, seen.header) == ("127.0.0.1", None)


def test_nobody_comes():
    assert visited(lambda host, port: None) is None


def test_a_stranger_who_comes_first_is_what_was_seen():
    """The port is this probe's alone: whoever else comes is not taken for the transport."""

    def client(host, port):
        with smtplib.SMTP(host, port, "stranger.example", 10, source_address=("127.0.0.9", 0)) as smtp:
            smtp.ehlo()
        send(host, port)

    seen = visited(client)
    assert (seen.source, seen.header) == ("127.0.0.9", None)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n" * 300,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"EHLO " + b"a" * 100_000 + b"\r\n",
        b"EHLO x\r\nDATA\r\n" + b"a" * 100_000,
        b"EHLO \xff\x00\r\n",
        b"STARTTLS\r\nnonsense\r\n",
        b"DATA\r\n" + b"X-A: b\r\n" * 200_000,
    ],
    ids=["nothing", "empty lines", "HTTP", "TLS", "long name", "long line", "odd bytes", "no TLS", "much header"],
)
def test_no_smtp_client(data):
    def client(host, port):
        with socket.create_connection((host, port), 10) as connection:
            connection.settimeout(10)
            try:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass
            except OSError:
                pass  # it was shown the door
        send(host, port)

    seen = visited(client)
    assert seen is not None
    assert len(seen.header or b"") < 100_000


def test_silent_clients_do_not_keep_others_out_for_long(monkeypatch):
    monkeypatch.setattr(probe_sink, "_SESSION_SECONDS", 0.3)

    def client(host, port):
        silent = [socket.create_connection((host, port), 10) for _ in range(20)]
        for connection in silent:
            connection.settimeout(10)
            while connection.recv(4096):
                pass
            connection.close()
        send(host, port)

    assert visited(client).header is not None


def test_the_sink_ends_while_clients_hold_on():
    connections = []

    def client(host, port):
        connections.append(socket.create_connection((host, port), 10))

    assert visited(client) is None
    for connection in connections:
        connection.settimeout(10)
        while connection.recv(4096):
            pass
        connection.close()
