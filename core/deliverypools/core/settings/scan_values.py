"""The kinds of values of the table `[spam]`: where scanners listen, and what is made of what they say."""

from __future__ import annotations

import re
from typing import Annotated, Final, TypeAlias
from urllib.parse import urlsplit

from pydantic import PlainValidator

from deliverypools.core.settings.values import (
    NO_POOL_NAME,
    InetSocket,
    WithExampleError,
    plain_text,
    pool_name,
    shown,
    socket_text,
    web_url,
)

LARGEST_SIZE_BYTES: Final = 1_000_000_000
LARGEST_SCORE: Final = 100_000
HOLD: Final = "hold"
REJECT: Final = "reject"
OTHER_OUTCOMES: Final = (HOLD, REJECT)
"""What a score may lead to beside a pool."""

_SIZE: Final = re.compile(r"([0-9]{1,12})\s*(B|kB|KB|MB)")
_UNIT_BYTES: Final = {"b": 1, "kb": 1000, "mb": 1_000_000}
_FIELD_NAME: Final = re.compile(r"[!-9;-~]+")  # RFC 5322 section 3.6.8, ftext
_WEB_PORTS: Final = {"http": 80, "https": 443}


def header_sign(value: object) -> str:
    """Return a header that tells something: "Name", or "Name: value" with one blank after the colon."""
    text = plain_text(value, "X-Spam-Flag: YES")
    name, colon, content = (part.strip() for part in text.partition(":"))
    if not _FIELD_NAME.fullmatch(name) or bool(colon) != bool(content):
        raise ValueError(f'got {shown(value)}; write "Name" or "Name: value", for example "X-Spam-Flag: YES"')
    return f"{name}: {content}" if colon else name


def service_text(value: object) -> str:
    """Return where a scanner listens: "unix:/path" or "HOST:PORT"."""
    text = plain_text(value, "127.0.0.1:783")
    if text.startswith("unix:/"):
        return socket_text(text)
    try:
        return socket_text(f"inet:{text}").removeprefix("inet:")
    except ValueError:
        raise ValueError(f'got {shown(value)}; write "HOST:PORT" or "unix:/path/of/the.sock"') from None


def rspamd_url(value: object) -> str:
    """Return rspamd's URL, without a final slash and without what it is asked by.

    It may lie behind a web server, so it may have a path, and a password: no error repeats it.
    """
    text = web_url(value)
    if "?" in text or "#" in text or not text.isascii():
        raise WithExampleError(
            "is more than a URL of rspamd; write it in ASCII, without a query,", '"http://[::1]:11333"'
        )
    return text.rstrip("/").removesuffix("/checkv2").rstrip("/")


def service_of_url(url: object) -> str:
    """Return `HOST:PORT` of rspamd's URL, in the form of `service_text`; raises ValueError as `rspamd_url` does."""
    parts = urlsplit(rspamd_url(url))
    return service_text(
        str(InetSocket(parts.hostname or "", parts.port or _WEB_PORTS[parts.scheme])).removeprefix("inet:")
    )


def name_for_scanner(value: object) -> str:
    """Return a name that a scanner knows somebody or something by: one word of ASCII, which any protocol carries."""
    text = plain_text(value, "outbound")
    if not text.isascii() or " " in text:
        raise ValueError(f"got {shown(value)}; write one word of ASCII characters")
    return text


def size_bytes(value: object) -> int:
    """Return the bytes of a number of them, or of a number and `B`, `kB` or `MB` (powers of 1000)."""
    found = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found:
        size = int(found[1]) * _UNIT_BYTES[found[2].lower()]
    elif isinstance(value, int) and not isinstance(value, bool):
        size = value
    else:
        raise WithExampleError(f"got {shown(value)}; write a number and B, kB or MB,", '"10MB"')
    if not 0 < size <= LARGEST_SIZE_BYTES:
        raise ValueError(f'got {shown(value)}; write a size between 1 byte and "{LARGEST_SIZE_BYTES // 10**6}MB"')
    return size


def size_text(size: int) -> object:
    """Return a size as number and largest unit that fits, as in "10MB"; one of other bytes stays a number."""
    for unit, unit_bytes in (("MB", 1_000_000), ("kB", 1000)):
        if size % unit_bytes == 0:
            return f"{size // unit_bytes}{unit}"
    return size


def score(value: object) -> float:
    """Return the score of a scanner from which something happens. Ordinary mail has one about 0, and below."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST_SCORE:
        raise ValueError(f"got {shown(value)}; write a number without quotes, for example 6.5")
    if value <= 0:
        raise ValueError(f"got {shown(value)}, the score of good mail; write more than 0, or delete the line")
    return float(value)


def score_name(value: object) -> str:
    """Return what a score leads to: a pool's name, `hold` or `reject`."""
    if value == NO_POOL_NAME:
        raise ValueError('is no pool; write "reject"')
    return pool_name(value)


HeaderSign: TypeAlias = Annotated[str, PlainValidator(header_sign)]
ServiceText: TypeAlias = Annotated[str, PlainValidator(service_text)]
RspamdUrl: TypeAlias = Annotated[str, PlainValidator(rspamd_url)]
NameForScanner: TypeAlias = Annotated[str, PlainValidator(name_for_scanner)]
Size: TypeAlias = Annotated[int, PlainValidator(size_bytes)]
Score: TypeAlias = Annotated[float, PlainValidator(score)]
ScoreName: TypeAlias = Annotated[str, PlainValidator(score_name)]
