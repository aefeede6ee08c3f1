"""Probes of `check --live`: through the running Postfix, by the transport they ask for, to a port of this machine."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest
from mailing import fresh, running

from deliverypools.adapters.key_file import read_keys
from deliverypools.adapters.seal import TicketSealer
from deliverypools.core.probe import DOMAIN, HEADER, Probe
from deliverypools.lab.lab import Lab
from deliverypools.lab.settings_file import TICKET_FILE

_numbers = itertools.count(1)


@pytest.fixture(scope="module", params=["hop", "express"])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    with running(profile=request.param) as lab:
        yield lab


def probe_message(lab: Lab, tag: str, family: int, port: int, sealer: TicketSealer | None = None) -> bytes:
    message_id = f"<probe{next(_numbers)}@mx.example.org>"
    sealer = sealer or TicketSealer(read_keys(str(Path(lab.directory) / TICKET_FILE)))
    value = sealer.seal_probe(Probe(transport_tag=tag, family=family, port=port, message_id=message_id))
    return (
        f"From: <postmaster@example.org>\nTo: <probe@{DOMAIN}>\nDate: {formatdate()}\nMessage-ID: {message_id}\n"
        f"{HEADER}: {value}\nSubject: probe\n\nA probe.\n"
    ).encode()


def listening(lab: Lab, address: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with lab.network.inside():
        sink = socket.socket(family, socket.SOCK_STREAM)
    sink.bind((address, 0))
    sink.listen()
    sink.settimeout(20)
    return sink


def take_mail(connection: socket.socket) -> bytes:
    """Speak as much SMTP as it takes to get one message; return it."""
    data = b""
    with connection, connection.makefile("rb") as lines:
        connection.sendall(b"220 sink\r\n")
        for line in lines:
            if line.startswith(b"DATA"):
                connection.sendall(b"354 go on\r\n")
                data = b"".join(itertools.takewhile(lambda line: line != b".\r\n", lines))
            connection.sendall(b"250 ok\r\n")
            if line.startswith(b"QUIT"):
                break
    return data


@pytest.mark.parametrize(
    ("tag", "family", "source"),
    [
        ("normal", 4, "192.0.2.10"),
        ("high-risk", 4, "192.0.2.20"),
        ("relay", 4, "192.0.2.30"),
        ("normal", 6, "2001:db8::10"),
        ("high-risk", 6, "2001:db8::20"),
        ("relay", 6, "2001:db8::30"),
    ],
)
def test_a_probe_leaves_by_what_it_asks_for(lab: Lab, tag: str, family: int, source: str):
    with listening(lab, "127.0.0.1" if family == 4 else "::1") as sink:
        lab.sendmail(
            "postmaster@example.org", [f"probe@{DOMAIN}"], probe_message(lab, tag, family, sink.getsockname()[1])
        )
        connection, peer = sink.accept()
        data = take_mail(connection)
    assert peer[0] == source
    assert b"Subject: probe" in data
    assert b"X-Delivery-Pool:" not in data
    assert b"X-Delivery-Pool-Ticket:" not in data
    lab.wait_until_queue_is_empty()


def test_mail_to_anybody_else_is_no_probe(lab: Lab):
    recipient = fresh()
    with listening(lab, "127.0.0.1") as sink:
        message = probe_message(lab, "relay", 4, sink.getsockname()[1])
        lab.sendmail("alice@example.org", [recipient], message)
        assert lab.wait_for(lambda found: recipient in found.recipients)[0].source_address == "192.0.2.10"


def test_a_probe_of_other_keys_goes_nowhere(lab: Lab):
    other = TicketSealer([b"A" * 43 + b"="])
    with listening(lab, "127.0.0.1") as sink:
        message = probe_message(lab, "relay", 4, sink.getsockname()[1], other)
        lab.sendmail("postmaster@example.org", [f"probe@{DOMAIN}"], message)
        lab.postfix.wait_for_log(rf"to=<probe@{DOMAIN}>.*pool-normal|pool-normal/smtp.*to=<probe@{DOMAIN}>")
        sink.settimeout(0)
        with pytest.raises(BlockingIOError):
            sink.accept()
