"""Sending and finding mail in a lab, in the words of the tests."""

from __future__ import annotations

import itertools
from email.utils import formatdate
from typing import Any, ClassVar

from deliverypools.lab.lab import OUTSIDE_CLIENT, TRUSTED_CLIENT, Lab
from deliverypools.lab.receiver import ReceivedMessage

ALICE = ("alice@example.org", "secret")
BOB = ("bob@example.org", "secret")
NORMAL = {"192.0.2.10", "2001:db8::10"}
HIGH_RISK = {"192.0.2.20", "2001:db8::20"}
RELAY = {"192.0.2.30", "2001:db8::30"}

_numbers = itertools.count(1)


class running:  # noqa: N801  (reads as a verb: `with running(...) as lab`)
    """A lab while the context lasts; `labs` are all that run."""

    labs: ClassVar[list[Lab]] = []

    def __init__(self, **arguments: Any) -> None:
        self._lab = Lab(**arguments)

    def __enter__(self) -> Lab:
        self._lab.start()
        self.labs.append(self._lab)
        return self._lab

    def __exit__(self, *_: object) -> None:
        self.labs.remove(self._lab)
        self._lab.stop()


def fresh(domain: str = "example.com") -> str:
    """Return a recipient that no other test uses."""
    return f"r{next(_numbers)}@{domain}"


def mail(sender: str = "alice@example.org", body: str = "hello\n", **headers: str | None) -> bytes:
    """Return a message; header names with underscores for hyphens, a value of None leaves a header out."""
    fields: dict[str, str | None] = {
        "From": sender,
        "To": "somebody@example.com",
        "Date": formatdate(),
        "Message-ID": f"<{next(_numbers)}@test.example.org>",
        "Subject": "hello",
    } | {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value is not None)
    return f"{head}\r\n{body}".encode()


def arrived(lab: Lab, recipient: str, *, seconds: float = 30) -> ReceivedMessage:
    """Return the message that reached a recipient outside."""
    return lab.wait_for(lambda message: recipient in message.recipients, timeout_seconds=seconds)[0]


def submit(
    lab: Lab, recipients: str | list[str], data: bytes | None = None, auth: tuple[str, str] = ALICE
) -> str | None:
    """Send a message as an authenticated user; return its queue id."""
    result = lab.send(auth[0], recipients, data or mail(), port=587, auth=auth)
    assert result.accepted, result
    return result.queue_id


def from_outside(lab: Lab, recipient: str, data: bytes | None = None, sender: str = "erin@example.com") -> str | None:
    """Send a message as a stranger's server; return its queue id."""
    result = lab.send(
        sender, recipient, data or mail(sender=sender or "nobody@example.com"), client_address=OUTSIDE_CLIENT
    )
    assert result.accepted, result
    return result.queue_id


def from_trusted(lab: Lab, recipient: str, data: bytes | None = None, sender: str = "alice@example.org") -> str | None:
    """Send a message as a client in trusted_networks; return its queue id."""
    result = lab.send(
        sender, recipient, data or mail(sender=sender or "nobody@example.org"), client_address=TRUSTED_CLIENT
    )
    assert result.accepted, result
    return result.queue_id


def decision(lab: Lab, recipient: str) -> str:
    """Return the milter's log line about the message that reached a recipient."""
    received = arrived(lab, recipient).header("Received") or ""
    queue_id = received.partition(" id ")[2].split()[0].rstrip(";")
    return next(line for line in lab.milter.log().splitlines() if f" {queue_id}: pass=egress " in line)
