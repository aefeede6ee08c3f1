"""Copies of suspicious mail: new messages that wait in a spool folder until the dispatcher has sent them.

A copy is never one more recipient of the message itself: its non-delivery notice would go to the suspect, and tell.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import secrets
import tempfile
import time
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from types import TracebackType
from typing import IO, Final, NamedTuple, Self

from deliverypools.adapters.sendmail import POLICY, new_message, set_text
from deliverypools.core import ticket
from deliverypools.core.alert_text import SUBJECT_PREFIX, field_text, readable
from deliverypools.core.facts import printable
from deliverypools.core.records import DecisionRecord
from deliverypools.core.settings import Settings

COPY_HEADER: Final = "X-Delivery-Pool-Copy"
"""The class of these messages; its value is the rule."""
FOLDER: Final = "copies"
MOST_COPIES: Final = 10_000
MOST_SPOOL_BYTES: Final = 1_000_000_000
MOST_MESSAGE_BYTES: Final = 10_000_000
"""With what is around it, it fits into Postfix's message_size_limit, as that is by default."""
_IN_MEMORY_BYTES: Final = 64 * 1024
_CHUNK_BYTES: Final = 64 * 1024
_ABANDONED_SECONDS: Final = 3600.0
_CUT = b"\n[cut here by Delivery Pools: the message is longer]\n"
_OURS = frozenset({"x-delivery-pool", ticket.HEADER.lower()})
"""A ticket is disclosed to nobody."""
_UNFOLDED = re.compile(r"\n(?![ \t])")
_SUFFIX = ".eml"


class SpoolFullError(OSError):
    """So many copies wait already that this one was not kept."""


class Content(NamedTuple):
    """A message that was gathered."""

    file: IO[bytes]
    """At its beginning."""
    has_8_bit: bool
    is_cut: bool


class CopyDraft:
    """A message as the milter sees it pass, kept in bounded memory, then in a temporary file that has no name.

    Nothing is raised while it is gathered: `keep` says what went wrong.
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115  (it ends with the draft)
        self._size_bytes = 0
        self._in_body = False
        self._held_back = b""
        self._has_8_bit = False
        self._is_cut = False
        self._error: OSError | None = None
        self.is_copy = False
        """It says that it is such a copy itself."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Forget the message."""
        with contextlib.suppress(OSError):
            self._file.close()

    def add_header(self, name: str, value: str) -> None:
        """Take a header field as pymilter hands it over: folded with LF, bytes that are no UTF-8 as surrogates."""
        clean_name = "".join(c for c in name if c.isprintable() and c not in ": ")
        self.is_copy = self.is_copy or clean_name.lower() == COPY_HEADER.lower()
        if clean_name.lower() in _OURS:
            return
        text = _UNFOLDED.sub("\n\t", value.replace("\r\n", "\n").rstrip("\n"))
        self._write(_bytes(f"{clean_name}: {text}\n"))

    def add_body(self, chunk: bytes) -> None:
        """Take the next part of the body; line ends become LF."""
        self._begin_body()
        content = self._held_back + chunk
        # Its LF may be the first byte of the next chunk.
        self._held_back = b"\r" if content.endswith(b"\r") else b""
        self._write(content[: len(content) - len(self._held_back)].replace(b"\r\n", b"\n"))

    def finish(self) -> Content:
        """Return what was gathered.

        Raises:
            OSError: it could not be gathered.
        """
        self._begin_body()
        held_back, self._held_back = self._held_back, b""
        self._write(held_back)
        if self._error is not None:
            raise self._error
        self._file.seek(0)
        return Content(self._file, self._has_8_bit, self._is_cut)

    def _begin_body(self) -> None:
        if not self._in_body:
            self._in_body = True
            self._write(b"\n")

    def _write(self, content: bytes) -> None:
        if self._is_cut or self._error is not None:
            return
        room = MOST_MESSAGE_BYTES - self._size_bytes
        if len(content) > room:
            self._is_cut = True
            content = content[:room] + _CUT
        self._size_bytes += len(content)
        self._has_8_bit = self._has_8_bit or not content.isascii()
        try:
            self._file.write(content)
        except OSError as error:
            self._error = error


def keep(draft: CopyDraft, record: DecisionRecord, *, name: str, settings: Settings) -> Path:
    """Put the copy of a message into the spool; return its file. `record` is the decision about it.

    `name` tells decisions apart.

    Raises:
        SpoolFullError: too many copies wait already.
        OSError: it cannot be written. No copy is kept then; the mail itself must not wait for that.
    """
    folder = Path(settings.alerts.spool) / FOLDER
    folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    content = draft.finish()
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
            _write_copy(file, head, _note(record, is_cut=content.is_cut), content)
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


def _write_copy(file: IO[bytes], head: EmailMessage, note: str, content: Content) -> None:
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
    while chunk := content.file.read(_CHUNK_BYTES):
        file.write(chunk)
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


def _bytes(text: str) -> bytes:
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return text.encode(errors="replace")
