"""Reading the header of a message, in bounded memory, and as Postfix does: it ends before what is no field of it."""

from __future__ import annotations

import io
import re
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO

from deliverypools.core.headers import Headers

_MOST_HEADER_BYTES = 1024 * 1024
_CHUNK_BYTES = 64 * 1024
_BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")
_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:(.*)", re.DOTALL)  # RFC 5322 sections 3.6.8 and 4.5
_MBOX_LINE = re.compile(rb">*From ")


def read_headers(path: str) -> Headers:
    """Return the header fields of a message in a file.

    Raises:
        OSError: the file cannot be read.
    """
    with Path(path).open("rb") as file:
        return parse_headers(file.read(_MOST_HEADER_BYTES))


def parse_headers(message: bytes) -> Headers:
    """Return the header fields of a message, folded as they stand there, with LF."""
    fields, _body = _read_header(io.BytesIO(message[:_MOST_HEADER_BYTES]))
    return Headers.of((name, value.lstrip(" \t")) for name, value in fields)


def read_raw(path: str) -> tuple[list[tuple[str, str]], Generator[bytes, None, None]]:
    """Return a message in a file as it would be sent: its header fields, and the parts of its body.

    Values have the blank after the colon, and LF where they are folded; the body has CRLF for line ends. Only an mbox
    line at the beginning of the file is left out.

    Raises:
        OSError: the file cannot be read.
    """
    file = Path(path).open("rb")  # noqa: SIM115  (the iterator closes it)
    try:
        fields, begin = _read_header(file)
    except BaseException:
        file.close()
        raise
    return fields, _body(file, begin)


def _read_header(file: BinaryIO) -> tuple[list[tuple[str, str]], bytes]:
    """Return the fields, and what was read beyond: a line that is none begins the body."""
    fields: list[tuple[bytes, list[bytes]]] = []
    size = 0
    begin = b""
    is_first = True
    for line in iter(lambda: file.readline(_MOST_HEADER_BYTES), b""):
        size += len(line)
        text = line.rstrip(b"\r\n")
        found = _FIELD.fullmatch(text)
        if is_first and _MBOX_LINE.match(text):
            pass
        elif not text:
            break
        elif size > _MOST_HEADER_BYTES:
            begin = line
            break
        elif found:
            fields.append((found[1], [found[2]]))
        elif text[:1] in (b" ", b"\t") and fields:
            fields[-1][1].append(text)
        else:
            begin = line
            break
        is_first = False
    return [(_decoded(name), _decoded(b"\n".join(lines))) for name, lines in fields], begin


def _body(file: BinaryIO, begin: bytes) -> Generator[bytes, None, None]:
    with file:
        after_cr = False
        while chunk := begin or file.read(_CHUNK_BYTES):
            begin = b""
            crlf = _BARE_LINE_FEED.sub(b"\r\n", b"\r" + chunk if after_cr else chunk)
            yield crlf[1:] if after_cr else crlf
            after_cr = chunk.endswith(b"\r")


def _decoded(value: bytes) -> str:
    """Return text as the milter gets it: UTF-8 decoded, other bytes as surrogates."""
    return value.decode("utf-8", "surrogateescape")
