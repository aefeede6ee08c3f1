"""Alerts as people and programs read them: a mail, and the JSON of a webhook.

Names of accounts and subjects are whatever somebody wrote: here they become one printable line each, and a command that
holds a name can be pasted into a shell.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.errors import MessageError
from email.header import decode_header, make_header
from typing import Any, Final, NamedTuple

from deliverypools.core.alerts import Alert, Event
from deliverypools.core.facts import Ingress, printable
from deliverypools.core.records import DecisionRecord
from deliverypools.core.restrictions import iso_time, utc_text

SUBJECT_PREFIX: Final = "[delivery-pools]"
_MOST_SUBJECTS: Final = 5
_MOST_CLIENT_ADDRESSES: Final = 10
_LONGEST_ACCOUNT_IN_SUBJECT: Final = 80
_LONGEST_WORD: Final = 1000
_CANNOT_BE_WRITTEN: Final = "ACCOUNT"
_PLAIN_WORD = re.compile(r"[A-Za-z0-9@+=:,./_][A-Za-z0-9@+=:,./_-]*")
_PLAIN_BYTES: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@._-")
_WAYS: Final = {
    Ingress.SUBMISSION: "over SMTP, authenticated",
    Ingress.TRUSTED: "over SMTP, from a trusted network",
    Ingress.OUTSIDE: "from outside, forwarded by its mailbox",
    Ingress.LOCAL: "by sendmail(1)",
    Ingress.BOUNCE: "made by this Postfix",
}


@dataclass(frozen=True, slots=True)
class Samples:
    """What an account has sent lately, and from where."""

    subjects: tuple[str, ...] = ()
    client_addresses: tuple[str, ...] = ()


class Command(NamedTuple):
    """A command line for the administrator."""

    key: str
    """Its name in the JSON."""
    purpose: str
    line: str


def samples_of(records: Iterable[DecisionRecord], ingress: Ingress | None) -> Samples:
    """Return the latest subjects and client addresses, each once, of records that are in order, newest first.

    A message is on record once for each pass, and what came in another way is not what the alert is about. None: any.
    """
    subjects: dict[str, None] = {}
    addresses: dict[str, None] = {}
    for record in records:
        if ingress is not None and record.ingress not in ("", ingress):
            continue
        if record.subject and len(subjects) < _MOST_SUBJECTS:
            subjects[readable(record.subject)] = None
        if record.client_address and len(addresses) < _MOST_CLIENT_ADDRESSES:
            addresses[printable(record.client_address)] = None
    return Samples(tuple(subjects), tuple(addresses))


def readable(subject: str) -> str:
    """Return a Subject as a reader would see it (RFC 2047), one printable line; what cannot be decoded stays."""
    try:
        decoded = str(make_header(decode_header(printable(subject, 400))))
    except (MessageError, LookupError, ValueError):
        decoded = subject
    return field_text(decoded)


def field_text(text: str, most: int = 200) -> str:
    """Return a text fit for a header field of ours: one printable line.

    What looks like an encoded word is broken up: Python's library would decode it, and write the line ends that it
    holds as they are (CVE-2024-6923).
    """
    return printable(text, most).replace("=?", "= ?")


def subject_line(headline: str) -> str:
    """Return the Subject of a mail that tells administrators something."""
    return f"{SUBJECT_PREFIX} {field_text(headline, 400)}"


def subject_of(alert: Alert) -> str:
    """Return the Subject of the mail."""
    return subject_line(headline(alert))


def headline(alert: Alert) -> str:
    """Return the alert in one short line."""
    account = printable(alert.account, _LONGEST_ACCOUNT_IN_SUBJECT)
    who = f"tenant {printable(alert.tenant, _LONGEST_ACCOUNT_IN_SUBJECT)}" if alert.tenant else account
    match alert.event:
        case Event.ACCOUNT_RESTRICTED:
            return f"{account} may not send any more, {_until(alert)}"
        case Event.SUSPICIOUS:
            return f"{who} looks compromised ({printable(alert.limit)})"
        case Event.LIMIT_EXCEEDED:
            return f"{who} is over its limit ({printable(alert.limit)})"


def body_of(alert: Alert, samples: Samples) -> str:
    """Return the text of the mail."""
    rows = {
        "evidence": printable(alert.evidence, 600),
        **({"tenant": printable(alert.tenant, 400)} if alert.tenant else {}),
        "account": printable(alert.account, 400) + (" (whose message it was)" if alert.tenant else ""),
        "sent": f"{_WAYS[alert.ingress]} ({alert.ingress})",
        "limit": f"{printable(alert.limit)}, at most {alert.most}",
        "used": f"{alert.used} before this message, {alert.cost} by this message",
        "policy": printable(alert.policy) or "(none: a service limit)",
        "action": printable(alert.action) + (f" ({printable(alert.note)})" if alert.note else ""),
        **({"lasts": _until(alert)} if alert.event is Event.ACCOUNT_RESTRICTED else {}),
        "time": iso_time(alert.at),
    }
    whose = "that account's" if alert.tenant else "its"
    parts = [
        f"{headline(alert)}.\n",
        "".join(f"  {name + ':':<10}{value}\n" for name, value in rows.items()),
        listed(f"Subjects of {whose} latest messages", samples.subjects),
        listed("Client addresses they came from", samples.client_addresses),
        *(f"{command.purpose}:\n  {command.line}\n" for command in commands_for(alert)),
        f"This is told once a day (UTC) for each {'tenant' if alert.tenant else 'account'} and limit.\n",
    ]
    return "\n".join(part for part in parts if part)


def webhook_of(alert: Alert, samples: Samples) -> dict[str, Any]:
    """Return the JSON object of the webhook. `id` is the same where an alert is sent twice."""
    return {
        "id": printable(alert.once, 1200),
        "text": headline(alert),
        "event": alert.event.value,
        "account": printable(alert.account, 1000),
        "tenant": printable(alert.tenant, 1000),
        "ingress": alert.ingress.value,
        "limit": printable(alert.limit),
        "most": alert.most,
        "used": alert.used,
        "cost": alert.cost,
        "policy": printable(alert.policy),
        "action": printable(alert.action),
        "note": printable(alert.note),
        "until": None if alert.until is None else iso_time(alert.until),
        "evidence": printable(alert.evidence, 600),
        "time": iso_time(alert.at),
        "subjects": list(samples.subjects),
        "client_addresses": list(samples.client_addresses),
        "commands": {command.key: command.line for command in commands_for(alert)},
    }


def commands_for(alert: Alert) -> Sequence[Command]:
    """Return the commands that an administrator may want now."""
    if alert.event is Event.ACCOUNT_RESTRICTED:
        return (
            Command("release", "To let it send again", _command("restricted release", alert.account)),
            Command(
                "release_and_requeue",
                "To let it send again, and have its mail that still waits decided again (needs root)",
                _command("restricted release", alert.account, "--requeue"),
            ),
            Command(
                "requeue",
                "To send its mail that still waits back through the hop, so that it is decided again (needs root; done"
                "\nby itself where delivery-pools-requeue.path is enabled)",
                _command("restricted requeue", alert.account),
            ),
        )
    if alert.tenant:
        return (Command("usage", "To see what that account has sent", _command("usage", alert.account)),)
    return (
        Command("usage", "To see what it has sent", _command("usage", alert.account)),
        Command("restrict", "To forbid it to send", _command("restricted add", alert.account)),
    )


def shell_word(text: str) -> str:
    r"""Return a text as one word of a shell's command line; a name that no command line can hold as `ACCOUNT`.

    What cannot be shown is written as bash reads it, `$'\x1b'`: nothing in a mail may act on the terminal it is shown
    in, or be another character than it looks.
    """
    if not text or len(text) > _LONGEST_WORD or "\0" in text:
        return _CANNOT_BE_WRITTEN
    if _PLAIN_WORD.fullmatch(text):
        return text
    if text.isprintable():
        return "'" + text.replace("'", "'\"'\"'") + "'"
    try:
        content = text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return _CANNOT_BE_WRITTEN
    return "$'" + "".join(chr(byte) if byte in _PLAIN_BYTES else f"\\x{byte:02x}" for byte in content) + "'"


def _command(name: str, account: str, option: str = "") -> str:
    word = shell_word(account)
    if account.startswith("-"):
        # Else it would be taken for an option.
        return " ".join(part for part in ("delivery-pools", name, option, "--", word) if part)
    return " ".join(part for part in ("delivery-pools", name, word, option) if part)


def _until(alert: Alert) -> str:
    return "until an administrator releases it" if alert.until is None else f"until {utc_text(alert.until)}"


def listed(title: str, values: Sequence[str]) -> str:
    """Return a list with its title, for the text of a mail; "" where it is empty."""
    return f"{title}:\n" + "".join(f"  {value}\n" for value in values) if values else ""
