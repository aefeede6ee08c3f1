"""Sending and finding mail in a lab, in the words of the tests."""

from __future__ import annotations

import itertools
import re
from email.utils import formatdate
from mailbox import MaildirMessage
from typing import Any, ClassVar

from deliverypools.lab.lab import OUTSIDE_CLIENT, TRUSTED_CLIENT, Lab
from deliverypools.lab.receiver import ReceivedMessage
from deliverypools.lab.signing import signed
from deliverypools.lab.waiting import wait_until

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


def fresh_subject() -> str:
    """Return a subject that no other message has."""
    return f"message {next(_numbers)}"


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
    return decision_about(lab, arrived(lab, recipient))


def decision_about(lab: Lab, message: ReceivedMessage) -> str:
    """Return the milter's log line about a message that reached somebody outside."""
    queue_id = (message.header("Received") or "").partition(" id ")[2].split()[0].rstrip(";")
    return next(line for line in lab.milter.log().splitlines() if re.search(rf" {queue_id}: pass=(egress|fast) ", line))


def arrived_with(lab: Lab, subject: str, recipient: str = "") -> ReceivedMessage:
    """Return the message with that subject that reached somebody outside (or that recipient)."""
    return lab.wait_for(
        lambda message: message.header("Subject") == subject and (not recipient or recipient in message.recipients),
        timeout_seconds=30,
    )[0]


def left_with(lab: Lab, subject: str) -> list[ReceivedMessage]:
    """Return the messages with that subject that have left so far."""
    return [message for message in lab.messages if message.header("Subject") == subject]


def notice_to(lab: Lab, recipient: str) -> ReceivedMessage:
    """Return the non-delivery notice that reached a recipient outside."""
    return lab.wait_for(
        lambda message: recipient in message.recipients and not message.envelope_sender, timeout_seconds=30
    )[0]


def said_in(notice: MaildirMessage | ReceivedMessage) -> str:
    """Return a notice in one line: Postfix folds what it quotes."""
    data = notice.data if isinstance(notice, ReceivedMessage) else notice.as_bytes()
    return " ".join(data.decode(errors="replace").split())


def forward(lab: Lab, mailbox: str, sender: str, **headers: str | None) -> str:
    """Send a message from outside to a mailbox in example.org; return its subject.

    What comes from signed.example, or a domain below it, is signed; spf.example needs no signature.
    """
    subject = fresh_subject()
    data = mail(sender or "mailer-daemon@example.com", Subject=subject, **headers)
    domain = sender.rpartition("@")[2]
    if domain.endswith("signed.example"):
        data = signed(data, domain)
    from_outside(lab, f"{mailbox}@example.org", data, sender=sender)
    return subject


def delivered(lab: Lab, mailbox: str, subject: str) -> MaildirMessage:
    """Return the message with that subject in a local mailbox, as soon as it is there."""
    wait_until(lambda: bool(_in_mailbox(lab, mailbox, subject)), timeout_seconds=30, what=f"{subject} in {mailbox}")
    return _in_mailbox(lab, mailbox, subject)[0]


def return_paths(lab: Lab, mailbox: str, subject: str) -> list[str]:
    """Return the Return-Path of each copy of a message in a local mailbox."""
    return [str(message["Return-Path"]) for message in _in_mailbox(lab, mailbox, subject)]


def _in_mailbox(lab: Lab, mailbox: str, subject: str) -> list[MaildirMessage]:
    return [message for message in lab.mailbox(mailbox) if message["Subject"] == subject]


def is_rewritten(envelope_sender: str, original: str) -> bool:
    """Tell whether an envelope sender is that of `original` rewritten by SRS, once."""
    local_part, _, domain = original.rpartition("@")
    form = rf"SRS0=[A-Za-z0-9+/]{{4}}=[A-Z2-7]{{2}}={re.escape(domain)}={re.escape(local_part)}@srs\.example\.org"
    return re.fullmatch(form, envelope_sender) is not None
