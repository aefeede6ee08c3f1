"""A whole message as the milter sees it pass, for those who need all of it: copies and scanners."""

from __future__ import annotations

import contextlib
import mmap
import re
import tempfile
from types import TracebackType
from typing import IO, Final, NamedTuple, Self

from deliverypools.core import ticket

COPY_HEADER: Final = "X-Delivery-Pool-Copy"
"""The class of copies of suspicious mail; its value is the rule."""
_IN_MEMORY_BYTES: Final = 64 * 1024
_OURS = frozenset({"x-delivery-pool", ticket.HEADER.lower()})
"""A ticket is disclosed to nobody."""
_UNFOLDED = re.compile(r"\n(?![ \t])")


class Content(NamedTuple):
    """A message that was gathered."""

    file: IO[bytes]
    """At its beginning."""
    has_8_bit: bool
    is_cut: bool


class MessageSpool:
    """A message in bounded memory, then in a temporary file that has no name. Line ends are LF.

    Nothing is raised while it is gathered: `finish` and `view` say what went wrong.
    """

    def __init__(self, most_bytes: int) -> None:
        """Gather a message up to `most_bytes`; of what is longer, the rest is only counted."""
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115  (it ends with the spool)
        self._most_bytes = most_bytes
        self.size_bytes = 0
        """Of what was handed over so far: of a message that is longer than what is kept, not all."""
        self._in_body = False
        self._held_back = b""
        self._has_8_bit = False
        self._error: OSError | None = None
        self.is_copy = False
        """It says that it is a copy of suspicious mail itself."""

    @property
    def is_full(self) -> bool:
        """Tell whether nothing more of the message would be kept."""
        return self.size_bytes > self._most_bytes

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

    def end(self) -> None:
        """Take the end of the message."""
        self._begin_body()
        held_back, self._held_back = self._held_back, b""
        self._write(held_back)

    def finish(self) -> Content:
        """Return what was gathered.

        Raises:
            OSError: it could not be gathered.
        """
        self.end()
        if self._error is not None:
            raise self._error
        self._file.seek(0)
        return Content(self._file, self._has_8_bit, self.is_full)

    def view(self) -> bytes | mmap.mmap:
        """Return what was gathered, to be read as bytes; it can be read after `close`.

        Raises:
            OSError: it could not be gathered.
        """
        content = self.finish()
        if min(self.size_bytes, self._most_bytes) <= _IN_MEMORY_BYTES:
            return content.file.read()
        content.file.flush()
        return mmap.mmap(content.file.fileno(), 0, access=mmap.ACCESS_READ)

    def _begin_body(self) -> None:
        if not self._in_body:
            self._in_body = True
            self._write(b"\n")

    def _write(self, content: bytes) -> None:
        room = max(self._most_bytes - self.size_bytes, 0)
        self.size_bytes += len(content)
        if self._error is not None or not room:
            return
        kept = content[:room]
        self._has_8_bit = self._has_8_bit or not kept.isascii()
        try:
            self._file.write(kept)
        except OSError as error:
            self._error = error


def _bytes(text: str) -> bytes:
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return text.encode(errors="replace")
