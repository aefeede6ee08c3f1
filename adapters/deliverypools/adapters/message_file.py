"""Reading the header of a message, in bounded memory."""

from __future__ import annotations

from email.parser import BytesHeaderParser
from email.policy import compat32
from pathlib import Path

from deliverypools.core.headers import Headers

_MOST_HEADER_BYTES = 1024 * 1024


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


def _decoded(value: str) -> str:
    """Return a value as the milter gets it: UTF-8 decoded, other bytes as surrogates. The parser leaves all of them."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
