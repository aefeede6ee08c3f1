"""Copies of suspicious mail: new messages that wait in a spool folder until the dispatcher has sent them.

A copy is never one more recipient of the message itself: its non-delivery notice would go to the suspect, and tell.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import secrets
import tempfile
import time
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from typing import IO, Final, NamedTuple

from deliverypools.adapters.message_spool import COPY_HEADER, Content, MessageSpool
from deliverypools.adapters.sendmail import POLICY, new_message, set_text
from deliverypools.core.alert_text import SUBJECT_PREFIX, field_text, readable
from deliverypools.core.facts import printable
from deliverypools.core.records import DecisionRecord
from deliverypools.core.settings import Settings

FOLDER: Final = "copies"
MOST_COPIES: Final = 10_000
MOST_SPOOL_BYTES: Final = 1_000_000_000
MOST_MESSAGE_BYTES: Final = 10_000_000
"""With what is around it, it fits into Postfix's message_size_limit, as that is by default."""
_CHUNK_BYTES: Final = 64 * 1024
_ABANDONED_SECONDS: Final = 3600.0
_CUT = b"\n[cut here by Delivery Pools: the message is longer]\n"
_SUFFIX = ".eml"


class SpoolFullError(OSError):
    """So many copies wait already that this one was not kept."""


def keep(gathered: MessageSpool, record: DecisionRecord, *, name: str, settings: Settings) -> Path:
    """Put the copy of a message into the spool; return its file. `record` is the decision about it.

    `name` tells decisions apart.

    Raises:
        SpoolFullError: too many copies wait already.
        OSError: it cannot be written. No copy is kept then; the mail itself must not wait for that.
    """
    folder = Path(settings.alerts.spool) / FOLDER
    folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    content = gathered.finish()
    _check_room(folder)
    head = new_message(
        f"{SUBJECT_PREFIX} Copy of suspicious mail: {readable(record.subject)}",
        settings.default_policy.bcc_suspicious_mail,
        message_id=f"copy/{name}/{record.at}",
        settings=settings,
        now=record.at,
    )
    head[COPY_HEADER] = field_text(record.rule, 60)
    digest = hashlib.blake2b(name.encode(errors="backslashreplace"), digest_size=8).hexdigest()
    path = folder / f"{max(int(record.at), 0):011d}.{digest}{_SUFFIX}"
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".")
    try:
        with os.fdopen(descriptor, "wb") as file:
            is_cut = gathered.size_bytes > MOST_MESSAGE_BYTES
            _write_copy(file, head, _note(record, is_cut=is_cut), content, is_cut=is_cut)
        os.replace(temporary, path)  # noqa: PTH105
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)  # noqa: PTH108
        raise
    return path


def _check_room(folder: Path) -> None:
    count, size_bytes = 0, 0
    with os.scandir(folder) as entries:
        for entry in entries:
            count += 1
            with contextlib.suppress(FileNotFoundError):
                size_bytes += entry.stat(follow_symlinks=False).st_size
            if count >= MOST_COPIES or size_bytes >= MOST_SPOOL_BYTES:
                raise SpoolFullError(f"{folder}: {count} copies, {size_bytes} bytes wait to be sent")


def _write_copy(file: IO[bytes], head: EmailMessage, note: str, content: Content, *, is_cut: bool) -> None:
    boundary = f"=_{secrets.token_hex(16)}"
    # What a multipart says of its bits holds for all of its parts (RFC 2045 section 6.4).
    encoding = "8bit" if content.has_8_bit else "7bit"
    head["MIME-Version"] = "1.0"
    head["Content-Type"] = f'multipart/mixed; boundary="{boundary}"'
    head["Content-Transfer-Encoding"] = encoding
    file.writelines(head.policy.fold_binary(name, value) for name, value in head.raw_items())
    text = EmailMessage(POLICY)
    set_text(text, note)
    del text["MIME-Version"]
    file.write(b"\n--" + boundary.encode() + b"\n" + text.as_bytes())
    file.write(
        f"\n--{boundary}\nContent-Type: message/rfc822\nContent-Disposition: attachment\n"
        f"Content-Transfer-Encoding: {encoding}\n\n".encode()
    )
    room = MOST_MESSAGE_BYTES
    while chunk := content.file.read(min(_CHUNK_BYTES, room)):
        file.write(chunk)
        room -= len(chunk)
    if is_cut:
        file.write(_CUT)
    file.write(f"\n--{boundary}--\n".encode())


def _note(record: DecisionRecord, *, is_cut: bool) -> str:
    rows = {
        "account": record.account or "(none)",
        "rule": record.rule,
        "pool": record.pool,
        "reasons": record.reasons,
        "sender": f"<{record.envelope_sender}>",
        "recipients": str(record.recipients),
        "client": record.client_address or "(none)",
        "queue id": f"{record.queue_id} on {record.host}",
    }
    cut = f"\nIt is longer: its first {MOST_MESSAGE_BYTES} bytes are attached.\n" if is_cut else ""
    return (
        "A copy of a suspicious message, as it was received, is attached. The message itself has gone its way.\n\n"
        + "".join(f"  {name + ':':<12}{printable(value, 600)}\n" for name, value in rows.items())
        + cut
    )


class WaitingCopy(NamedTuple):
    """A copy in the spool. Times are in seconds since the epoch."""

    path: Path
    kept_at: float
    due_at: float


def waiting_copies(spool: Path) -> list[WaitingCopy]:
    """Return the copies in the spool, oldest first.

    Raises:
        OSError: the folder cannot be read; one that is missing is empty.
    """
    found = []
    try:
        with os.scandir(spool / FOLDER) as entries:
            for entry in itertools.islice(entries, MOST_COPIES):
                with contextlib.suppress(FileNotFoundError):
                    modified_at = entry.stat(follow_symlinks=False).st_mtime
                    stamp = entry.name.partition(".")[0]
                    if entry.name.endswith(_SUFFIX) and stamp.isdecimal() and entry.is_file(follow_symlinks=False):
                        found.append(WaitingCopy(Path(entry.path), float(stamp), modified_at))
                    elif entry.name.startswith(".") and time.time() - modified_at > _ABANDONED_SECONDS:
                        os.unlink(entry.path)  # noqa: PTH108  (its writer was killed)
    except FileNotFoundError:
        return []
    return sorted(found)


def subject_of(path: Path) -> str:
    """Return the Subject of a copy, for a log."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        head = BytesParser(policy=POLICY).parsebytes(file.read(_CHUNK_BYTES), headersonly=True)
        return printable(str(head.get("Subject", "")))
    return ""


def postpone(path: Path, due_at: float) -> None:
    """Make a copy due at a time (seconds since the epoch).

    Raises:
        OSError: it cannot be changed.
    """
    os.utime(path, (due_at, due_at))
