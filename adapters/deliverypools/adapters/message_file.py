"""Reading the header of a message, in bounded memory."""

from __future__ import annotations

import re
from collections.abc import Generator
from email.parser import BytesHeaderParser
from email.policy import compat32
from pathlib import Path
from typing import BinaryIO

from deliverypools.core.headers import Headers

_MOST_HEADER_BYTES = 1024 * 1024
_CHUNK_BYTES = 64 * 1024
_BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")


def read_headers(path: str) -> Headers:
    """Return the header fields of a message in a file; what is not readable as a field is left out.

    Raises:
        OSError: the file cannot be read.
    """
    with Path(path).open("rb") as file:
        return parse_headers(file.read(_MOST_HEADER_BYTES))


def parse_headers(message: bytes) -> Headers:
    """Return the header fields of a message, folded as they stand there."""
    parsed = BytesHeaderParser(policy=compat32).parsebytes(message[:_MOST_HEADER_BYTES])
    return Headers.of((str(name), _decoded(str(value))) for name, value in parsed.raw_items())


def read_raw(path: str) -> tuple[list[tuple[str, str]], Generator[bytes, None, None]]:
    """Return a message in a file as it would be sent: its header fields, and the parts of its body.

    Values have the blank after the colon, and LF where they are folded; the body has CRLF for line ends.

    Raises:
        OSError: the file cannot be read.
    """
    file = Path(path).open("rb")  # noqa: SIM115  (the iterator closes it)
    fields: list[tuple[bytes, bytes]] = []
    size = 0
    for line in iter(lambda: file.readline(_MOST_HEADER_BYTES), b""):
        size += len(line)
        text = line.rstrip(b"\r\n")
        if not text or size > _MOST_HEADER_BYTES:
            break
        if text[:1] in (b" ", b"\t") and fields:
            name, value = fields[-1]
            fields[-1] = name, value + b"\n" + text
        elif b":" in text:
            name, _, value = text.partition(b":")
            fields.append((name, value))
    decoded = [
        (name.decode(errors="surrogateescape"), value.decode(errors="surrogateescape")) for name, value in fields
    ]
    return decoded, _body(file)


def _body(file: BinaryIO) -> Generator[bytes, None, None]:
    with file:
        after_cr = False
        while chunk := file.read(_CHUNK_BYTES):
            crlf = _BARE_LINE_FEED.sub(b"\r\n", b"\r" + chunk if after_cr else chunk)
            yield crlf[1:] if after_cr else crlf
            after_cr = chunk.endswith(b"\r")


def _decoded(value: str) -> str:
    """Return a value as the milter gets it: UTF-8 decoded, other bytes as surrogates. The parser leaves all of them."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
