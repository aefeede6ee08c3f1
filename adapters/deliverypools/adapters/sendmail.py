"""Our own mail: alerts and copies, handed to Postfix's sendmail(1) with the null envelope sender.

With a null sender nothing comes back, neither a bounce nor an automatic reply, so that no loop can begin.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import default
from typing import Final

from deliverypools.adapters.message_file import parse_headers
from deliverypools.adapters.seal import TicketSealer
from deliverypools.core import ticket
from deliverypools.core.facts import printable
from deliverypools.core.settings import Settings

POLICY: Final = default.clone(linesep="\n", cte_type="7bit")
"""What sendmail(1) expects: lines that end with LF."""
_LONGEST_LINE: Final = 900
"""RFC 5322 allows 998."""
_LONG_LINES: Final = POLICY.clone(max_line_length=_LONGEST_LINE)
"""Folded before its first word, a Subject is missed by filters; encoded words (RFC 2047) must be folded."""
_SENDMAIL_SECONDS: Final = 60.0
_MOST_OUTPUT_BYTES: Final = 4096
_KILLED_SECONDS: Final = 5.0


class SendmailError(Exception):
    """A message was not accepted; the text says why."""


def new_message(
    subject: str, recipients: Sequence[str], *, message_id: str, settings: Settings, now: float
) -> EmailMessage:
    """Return a message of ours without a body; `message_id` is any text that names it, the same each time it is sent.

    `subject` is as `core.alert_text.field_text` makes it.
    """
    domain = settings.accepted_domains[0] if settings.accepted_domains else "localhost"
    digest = hashlib.blake2b(message_id.encode(errors="backslashreplace"), digest_size=16).hexdigest()
    message = EmailMessage(_LONG_LINES if subject.isascii() else POLICY)
    message["From"] = Address("Delivery Pools", "delivery-pools", domain)
    message["To"] = _addresses(recipients) or "undisclosed-recipients:;"
    message["Subject"] = subject
    message["Date"] = datetime.fromtimestamp(now, UTC)
    message["Message-ID"] = f"<{digest}@{domain}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody shall answer it
    return message


def set_text(message: EmailMessage, text: str) -> None:
    """Make a text the body, as it is where mail allows that: an administrator may read the source of it."""
    if text.isascii() and max(map(len, text.splitlines()), default=0) < _LONGEST_LINE:
        message.set_content(text, cte="7bit")
    else:
        message.set_content(text)


def _addresses(recipients: Sequence[str]) -> tuple[Address, ...]:
    """Return those addresses that a header field can show; the envelope has all of them."""
    shown = []
    for recipient in recipients:
        with contextlib.suppress(ValueError, IndexError, MessageError):
            if recipient.isascii():
                shown.append(Address(addr_spec=recipient))
    return tuple(shown)


def send(message: bytes, recipients: Sequence[str], sendmail: str, sealer: TicketSealer) -> None:
    """Hand a message to sendmail(1), with the mark by which the milter knows it for ours.

    Without the mark it would go through the limits of sendmail(1) users: nobody would hear that they are exceeded, and
    a copy that is suspicious itself would be copied again, without end.

    Raises:
        SendmailError: it was not accepted; it may have been if sendmail took longer than a minute.
    """
    # -i: a line with a dot ends nothing. "<>" is the null sender. Behind "--" an address is no option.
    command = [sendmail, "-i", "-f", "<>", "--", *recipients]
    message_id = (parse_headers(message).first("Message-ID") or "").strip()
    content = f"{ticket.HEADER}: {sealer.mark_notice(message_id)}\n".encode() + message
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd="/",
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise SendmailError(f"{sendmail}: {error}") from error
    with process:
        try:
            _, output = process.communicate(content, timeout=_SENDMAIL_SECONDS)
        except subprocess.TimeoutExpired:
            _kill(process)
            raise SendmailError(f"no answer in {_SENDMAIL_SECONDS:.0f} s") from None
    if process.returncode:
        said = printable(output[:_MOST_OUTPUT_BYTES].decode(errors="replace").strip(), 400)
        raise SendmailError(f"exit status {process.returncode}: {said}")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End sendmail with its postdrop, which holds our end of the pipe open."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=_KILLED_SECONDS)
