"""Reads mail logs line by line: files, compressed or not, standard input, and the journal, in bounded memory."""

from __future__ import annotations

import bz2
import gzip
import lzma
import sys
import time
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, BinaryIO, Final, cast

from deliverypools.adapters.commands import printing
from deliverypools.core.audit.times import Minute
from deliverypools.core.facts import printable

MOST_LINE_BYTES: Final = 16_384
"""What is longer is cut: Postfix's own lines are shorter, even with a long recipient and a long reply."""
STANDARD_INPUT: Final = "-"
_MOST_HEAD_LINES: Final = 100
_MOST_COMPLAINT_CHARACTERS: Final = 2000
_JOURNAL_MATCHES: Final = (
    "SYSLOG_FACILITY=2",
    "+",
    # What the milter writes may have another facility under systemd, and the name of the program that is started.
    "SYSLOG_IDENTIFIER=delivery-pools",
    "SYSLOG_IDENTIFIER=delivery-pools-milter",
    "SYSLOG_IDENTIFIER=delivery-pools/milter",
    "+",
    "_SYSTEMD_UNIT=delivery-pools-milter.service",
)
"""Of the facility "mail", or the milter's. Matches of one field are alternatives, too: journalctl(1)."""
_ZSTANDARD: Final = b"\x28\xb5\x2f\xfd"
_MAGIC_BYTES: Final = 6
_UNPACKERS: Final[dict[bytes, Callable[[BinaryIO], gzip.GzipFile | lzma.LZMAFile | bz2.BZ2File]]] = {
    b"\x1f\x8b": lambda packed: gzip.GzipFile(fileobj=packed),
    b"\xfd7zXZ\x00": lzma.LZMAFile,
    b"BZh": bz2.BZ2File,
}


class MailLogError(Exception):
    """A log cannot be read, or not to its end; the text says which, and why."""


def local_time(minute: Minute) -> float:
    """Return a minute of this machine's time zone in seconds since the epoch."""
    return time.mktime((*minute, 0, 0, 0, -1))


def lines_of(name: str) -> Generator[str, None, None]:
    """Yield the lines of a file, or of standard input for "-", without their ends; whatever they hold, it is text.

    A last line without an end is being written now: it is left for the next time.

    Raises:
        MailLogError: it cannot be read, or not to its end.
    """
    with _opened(name) as stream:
        yield from _lines(stream, name)


def oldest_first(names: list[str], seconds_of: Callable[[str], float | None]) -> list[str]:
    """Return logs in the order of their first lines, each once: a shell lists rotated files newest first.

    Standard input comes last; so does what has no time in its first lines, or cannot be read. `seconds_of` reads the
    time of a line.
    """
    once = {name if name == STANDARD_INPUT else _real_path(name): name for name in names}
    begins = {name: _begin(name, seconds_of) for name in once.values()}
    return sorted(once.values(), key=lambda name: begins[name])


def journal_lines(since: float) -> Iterator[str]:
    """Yield what the journal has of mail and of the milter since a time (seconds since the epoch), as journalctl does.

    Raises:
        MailLogError: it cannot be read, or not to its end.
    """
    # --all: without it a line with an odd character is shown as "[123B blob data]".
    options = ["--quiet", "--no-pager", "--all", "--output=short-unix", f"--since=@{since:.0f}"]
    command = ["journalctl", *options, *_JOURNAL_MATCHES]
    try:
        with printing(command) as journal:
            yield from _lines(journal.output, "the journal")
    except OSError as error:
        raise MailLogError(f"journalctl: {error.strerror}") from None
    if journal.status != 0:
        said = printable(journal.complaints[:_MOST_COMPLAINT_CHARACTERS])
        raise MailLogError(f"journalctl: exit status {journal.status}: {said}")


def _real_path(name: str) -> str:
    try:
        return str(Path(name).resolve())
    except RuntimeError:
        # Symbolic links in a circle: `lines_of` says so.
        return name


def _begin(name: str, seconds_of: Callable[[str], float | None]) -> float:
    try:
        if name == STANDARD_INPUT or not Path(name).is_file():
            # A pipe can be read once only.
            return float("inf")
        with closing(lines_of(name)) as lines:
            times = (seconds_of(line) for line in islice(lines, _MOST_HEAD_LINES))
            return next((seconds for seconds in times if seconds is not None), float("inf"))
    except (MailLogError, OSError):
        # It is said when the whole is read.
        return float("inf")


@contextmanager
def _opened(name: str) -> Iterator[IO[bytes]]:
    if name == STANDARD_INPUT:
        yield _unpacked(sys.stdin.buffer, "standard input")
        return
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(Path(name).open("rb"))
        except OSError as error:
            raise MailLogError(f"{name}: {error.strerror}") from None
        yield _unpacked(stream, name)


def _unpacked(stream: BinaryIO, name: str) -> IO[bytes]:
    """Return a stream without its compression, which is told by its first bytes, not by its name."""
    # A reader with a buffer can look ahead; what tests put in the place of standard input cannot, and is not packed.
    peek = getattr(stream, "peek", None)
    try:
        magic = peek(_MAGIC_BYTES) if peek is not None else b""
    except OSError as error:
        raise MailLogError(f"{name}: {error.strerror}") from None
    if magic.startswith(_ZSTANDARD):
        raise MailLogError(f"{name}: is packed with Zstandard; write: zstdcat FILE | delivery-pools audit -")
    for start, unpack in _UNPACKERS.items():
        if magic.startswith(start):
            return cast("IO[bytes]", unpack(stream))
    return stream


def _lines(stream: IO[bytes], name: str) -> Iterator[str]:
    try:
        while piece := stream.readline(MOST_LINE_BYTES):
            text = piece.decode(errors="replace").rstrip("\r\n")
            while not piece.endswith(b"\n"):
                piece = stream.readline(MOST_LINE_BYTES)
                if not piece:
                    return
            yield text
    except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
        # What could not be unpacked may hold anything: the log was not read to its end.
        raise MailLogError(f"{name}: cannot be read to its end: {printable(str(error))}") from None
