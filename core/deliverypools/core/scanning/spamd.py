"""SpamAssassin's protocol (spamd/PROTOCOL of its sources, version 1.5): the head of a request, and the answer."""

from __future__ import annotations

import re
from typing import Final

from deliverypools.core.facts import printable
from deliverypools.core.scanning.answers import (
    LONGEST_SYMBOL,
    MOST_SYMBOLS,
    ScanEnvelope,
    Scanner,
    ScannerAnswer,
    ScanVerdict,
)
from deliverypools.core.scanning.nonsense import NonsenseError

PING: Final = b"PING SPAMC/1.5\r\n\r\n"
_END_OF_HEAD: Final = b"\r\n\r\n"
_STATUS: Final = re.compile(r"SPAMD/[0-9]{1,3}\.[0-9]{1,3} ([0-9]{1,5}) ([^\r\n]*)")
_SPAM: Final = re.compile(r"(True|False|Yes|No) ; (-?[0-9]{1,6}(?:\.[0-9]{1,6})?) / (-?[0-9]{1,6}(?:\.[0-9]{1,6})?)")
_LENGTH: Final = re.compile(r"[0-9]{1,9}")
_NO_WORD: Final = re.compile(r"[^A-Za-z0-9.:_-]")
_LONGEST_WORD: Final = 255
_SAYS_SPAM: Final = frozenset({"True", "Yes"})


def request_head(size_bytes: int, user: str | None) -> bytes:
    """Return what goes before a message of `size_bytes` that is to be checked."""
    lines = ["SYMBOLS SPAMC/1.5", f"Content-length: {size_bytes}", *([f"User: {user}"] if user else [])]
    return "\r\n".join("".join(c if c.isprintable() else "?" for c in line) for line in lines).encode() + _END_OF_HEAD


def received_field(envelope: ScanEnvelope, date: str) -> bytes:
    """Return a Received field as Postfix will write it: spamd learns of the client by nothing else.

    `date` is that of RFC 5322 section 3.3.
    """
    protocol = "ESMTPSA" if envelope.sasl_username else "ESMTP"
    field = (
        f"Received: from {_word(envelope.helo_name)} ({_word(envelope.client_name)} [{_word(envelope.client_address)}])"
        f"\n\tby {_word(envelope.hostname)} (Postfix) with {protocol} id {_word(envelope.queue_id)};\n\t{date}\n"
    )
    return field.encode()


def _word(text: str) -> str:
    return _NO_WORD.sub("?", text[:_LONGEST_WORD]) or "unknown"


def is_whole(answer: bytes) -> bool:
    """Tell whether an answer has come to its end: spamd may keep the connection open for a while."""
    head, end, content = answer.partition(_END_OF_HEAD)
    length = _length(_fields(head))
    return bool(end) and length is not None and len(content) >= length


def is_pong(answer: bytes) -> bool:
    """Tell whether spamd answers that it is there."""
    status = _STATUS.match(_text(answer))
    return status is not None and (status[1], status[2]) == ("0", "PONG")


def read_answer(answer: bytes) -> ScannerAnswer:
    """Read what spamd answers to SYMBOLS.

    Raises:
        NonsenseError: it is no answer of spamd's, or only a part of one.
    """
    status = _STATUS.match(_text(answer))
    if status is None:
        raise NonsenseError(_found(answer))
    if status[1] != "0":
        # An error has no more than this line, and its code is one of sysexits.h or 79, a time-out.
        return ScannerAnswer(
            scanner=Scanner.SPAMD,
            verdict=ScanVerdict.UNKNOWN,
            problem=f"it says {status[1]} {printable(status[2])}",
        )
    head, end, content = answer.partition(_END_OF_HEAD)
    fields = _fields(head)
    found, length = _SPAM.fullmatch(fields.get("spam", "")), _length(fields)
    if not end or found is None or length is None or len(content) < length:
        raise NonsenseError(_found(answer))
    is_spam, score = found[1] in _SAYS_SPAM, float(found[2])
    return ScannerAnswer(
        scanner=Scanner.SPAMD,
        verdict=ScanVerdict.SPAM if is_spam else ScanVerdict.HAM,
        score=score,
        is_forced=is_spam and score < float(found[3]),
        symbols=_symbols(_text(content[:length])),
    )


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _found(answer: bytes) -> str:
    return f"an answer that begins {printable(_text(answer[:60]))!r}" if answer else "no answer"


def _fields(head: bytes) -> dict[str, str]:
    """Return the header fields by their names in lower case; of several, the last."""
    lines = (line.partition(":") for line in _text(head).split("\r\n")[1:])
    return {name.strip().lower(): value.strip() for name, _, value in lines}


def _length(fields: dict[str, str]) -> int | None:
    found = _LENGTH.fullmatch(fields.get("content-length", ""))
    return int(found[0]) if found else None


def _symbols(text: str) -> tuple[str, ...]:
    """Return the rules that match, in spamd's order: it tells no weights with them."""
    names = [name.strip() for name in text.split(",")]
    return tuple(printable(name, LONGEST_SYMBOL) for name in names if name)[:MOST_SYMBOLS]
