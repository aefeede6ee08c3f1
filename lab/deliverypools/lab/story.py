"""The demo's mail: each message, how it enters, and by which pool and rule each copy of it has to leave."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate
from pathlib import Path
from typing import Final

from deliverypools.adapters.message_file import read_headers
from deliverypools.core.addresses import domain_of
from deliverypools.core.sender import header_sender
from deliverypools.lab.lab import OUTSIDE_CLIENT, TRUSTED_CLIENT, Lab, SendResult
from deliverypools.lab.postfix import Site
from deliverypools.lab.receiver import REFUSE
from deliverypools.lab.world import default_zones

LOCAL: Final = "local"
"""In the place of a pool: the copy stays here, in a mailbox."""
RECIPIENTS_PER_DAY: Final = 10
FORWARDING_USER: Final = "games"
"""A system user of every Debian, whose ~/.forward the lab keeps in its own directory."""

_ALICE = ("alice@example.org", "secret")
_BOB = ("bob@example.org", "secret")


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One copy of a message, known by its recipient (and by the null sender, if it is an NDR)."""

    recipient: str
    pool: str | None
    """None: whatever the milter decides; the address must fit that."""
    rule: str | None = None
    is_ndr: bool = False


Send = Callable[[Lab, str], SendResult | None]
"""Sends the message of that title through a lab; None where no server answers (sendmail)."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One message of the demo."""

    title: str
    send: Send
    copies: Sequence[Copy]


def site() -> Site:
    """Return the server of the demo: alice and bob have mailboxes, other addresses forward to the outside."""
    return Site(
        virtual={
            "sales@example.org": "sales-forwarded@example.net",
            "press@example.org": "press-forwarded@example.net",
            "old-office@example.org": "refused@elsewhere.example",
        },
        forwards={FORWARDING_USER: "home-forwarded@example.net\n"},
    )


def settings() -> Mapping[str, object]:
    """Return what the demo sets: a limit that bob exceeds."""
    return {"limits": {"recipients_per_day": RECIPIENTS_PER_DAY}}


def prepare(lab: Lab) -> None:
    """Make the receiving server refuse one recipient."""
    lab.receiver.answer("refused@elsewhere.example", REFUSE)


def scenes(files: Sequence[Path]) -> list[Scene]:
    """Return the story, and a scene for each message file that is given."""
    return [*_STORY, *(_file_scene(number, path) for number, path in enumerate(files, start=1))]


def _message(subject: str, sender: str, to: str, **headers: str) -> bytes:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, to, subject
    message["Date"], message["Message-ID"] = formatdate(), f"<{subject.replace(' ', '-').lower()}@demo.example.org>"
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    message.set_content(f"{subject}\n")
    return message.as_bytes()


def _submitted(recipients: Sequence[str], auth: tuple[str, str] = _ALICE, **headers: str) -> Send:
    def send(lab: Lab, title: str) -> SendResult:
        return lab.send(auth[0], recipients, _message(title, auth[0], recipients[0], **headers), port=587, auth=auth)

    return send


def _from(client: str, sender: str, recipient: str, data: bytes | None = None) -> Send:
    def send(lab: Lab, title: str) -> SendResult:
        return lab.send(sender, recipient, data or _message(title, sender, recipient), client_address=client)

    return send


def _by_sendmail(sender: str, recipient: str) -> Send:
    def send(lab: Lab, title: str) -> None:
        lab.sendmail(sender, [recipient], _message(title, sender, recipient))

    return send


_DSN = b"""\
From: Mail Delivery System <mailer-daemon@example.org>
To: carol@example.com
Subject: Delivery Status Notification (Failure)
Date: Sat, 21 Nov 2026 10:00:00 +0000
Message-ID: <dsn@demo.example.org>
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="=_b"

--=_b
Content-Type: text/plain; charset=us-ascii

Your message could not be delivered to full@example.org: mailbox full.

--=_b
Content-Type: message/delivery-status

Reporting-MTA: dns; exchange.example.org

Final-Recipient: rfc822; full@example.org
Action: failed
Status: 5.2.2

--=_b
Content-Type: text/rfc822-headers

From: carol@example.com
Subject: hello

--=_b--
"""

_STORY: Final = (
    Scene(
        "Ordinary mail",
        _submitted(["customer@example.com"]),
        [Copy(recipient="customer@example.com", pool="normal", rule="default")],
    ),
    Scene(
        "Spam",
        _submitted(["victim@example.com"], X_Spam_Flag="YES"),
        [Copy(recipient="victim@example.com", pool="high-risk", rule="spam")],
    ),
    Scene(
        "A DSN of a server behind us",
        _from(TRUSTED_CLIENT, "", "carol@example.com", _DSN),
        [Copy(recipient="carol@example.com", pool="high-risk", rule="delivery_status_notification")],
    ),
    Scene(
        "Refused on the way out: an NDR",
        _from(OUTSIDE_CLIENT, "dave@other.example", "old-office@example.org"),
        [Copy(recipient="dave@other.example", pool="high-risk", rule="delivery_status_notification", is_ndr=True)],
    ),
    Scene(
        "Sender domain without MX and A",
        _from(TRUSTED_CLIENT, "alice@bare.example", "partner@example.com"),
        [Copy(recipient="partner@example.com", pool="high-risk", rule="sender_domain_without_mx_or_a")],
    ),
    Scene(
        "Over the limit",
        _submitted([f"reader-{number}@example.net" for number in range(RECIPIENTS_PER_DAY + 1)], _BOB),
        [Copy(recipient="reader-0@example.net", pool="high-risk", rule="over_limit")],
    ),
    Scene(
        "Outside, alias, outside",
        _from(OUTSIDE_CLIENT, "erin@example.com", "sales@example.org"),
        [Copy(recipient="sales-forwarded@example.net", pool="relay", rule="forwarded")],
    ),
    Scene(
        "The same, sender authenticated",
        _from(OUTSIDE_CLIENT, "frank@spf.example", "press@example.org"),
        [Copy(recipient="press-forwarded@example.net", pool="relay", rule="forwarded")],
    ),
    Scene(
        "Outside, ~/.forward, outside",
        _from(OUTSIDE_CLIENT, "erin@example.com", f"{FORWARDING_USER}@example.org"),
        [Copy(recipient="home-forwarded@example.net", pool="relay", rule="forwarded")],
    ),
    Scene(
        "One message, local and external",
        _submitted(["bob@example.org", "friend@example.com"]),
        [
            Copy(recipient="bob@example.org", pool=LOCAL),
            Copy(recipient="friend@example.com", pool="normal", rule="default"),
        ],
    ),
    Scene(
        "sendmail(1)",
        _by_sendmail("alice@example.org", "cron@example.com"),
        [Copy(recipient="cron@example.com", pool="normal", rule="default")],
    ),
)


def _file_scene(number: int, path: Path) -> Scene:
    """Return a scene that sends a message file from a client of ours, whatever its sender says."""
    sender = header_sender(read_headers(str(path))) or ""
    recipient = f"file-{number}@example.com"

    def send(lab: Lab, _title: str) -> SendResult:
        domain = domain_of(sender)
        if domain and domain not in default_zones():
            # The lab's DNS knows its own world only; a domain it has never heard of is to count as an ordinary one.
            lab.dns.set(domain, {"MX": ["10 mx.example.com."]})
        return lab.send(
            sender, recipient, path.read_bytes(), client_address=TRUSTED_CLIENT, smtputf8=not sender.isascii()
        )

    return Scene(str(path), send, [Copy(recipient=recipient, pool=None)])
