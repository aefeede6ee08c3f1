"""rspamd's HTTP protocol (rspamd.com, "Rspamd protocol"): what it is told in a request, and what it answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from deliverypools.core.addresses import normalise_domain
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
from deliverypools.core.settings.values import client_ip

MOST_RECIPIENTS: Final = 500
_MOST_RECIPIENTS_BYTES: Final = 48 * 1024
"""rspamd drops a connection with more than 80 kB of header."""
_LONGEST_VALUE_BYTES: Final = 1000
_LONGEST_ADDRESS: Final = 320  # RFC 3696 section 3: 64 before the @, 255 after it
_ATOM: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_QUOTED: Final = r'"(?:[ !#-+\--\[\]-~]|\\[ -+\--~])*"'
_LABEL: Final = r"[A-Za-z0-9_](?:-*[A-Za-z0-9_])*"
_LITERAL: Final = r"\[[A-Za-z0-9.:]+\]"
_READABLE: Final = re.compile(
    rf"(?:{_ATOM}(?:\.{_ATOM})*|{_QUOTED})@(?:{_LABEL}(?:\.{_LABEL})*\.?|{_LITERAL})", re.ASCII
)
"""What rspamd takes for an address. It has no SMTPUTF8, and reads `Rcpt` as a list with commas."""
_LONGEST_ACTION: Final = 60
_LONGEST_NAME: Final = LONGEST_SYMBOL - 20
_MOST_SCORE: Final = 1e9
"""Beyond this it is no score; it fits in what `LONGEST_SYMBOL` leaves beside a name."""
_OK: Final = 200
_SOFT_REJECT: Final = "soft reject"
"""Rate limits, and greylisting with a Redis: that has `add header` wait as well as `greylist`, and for five minutes
answers so, with a score of 0.0, about whatever comes from the same sender without having looked at it."""
_HAM_ACTIONS: Final = frozenset({"no action", "greylist"})
"""Greylisting is for mail that arrives from strangers; ours has been accepted."""
_ACTIONS_BY_SCORE: Final = frozenset({"add header", "rewrite subject"})
"""Where the settings have thresholds of their own, they stand in for these. Of all others rspamd is sure."""


def request_headers(envelope: ScanEnvelope, settings_id: str | None) -> list[tuple[str, bytes]]:
    """Return the header fields that tell rspamd of the envelope; what is not known is left out.

    So are addresses that rspamd cannot read: it would take the message for broken (BROKEN_HEADERS, 7 points).
    """
    fields = [
        ("From", _path(envelope.envelope_sender) if envelope.envelope_sender else "<>"),
        *(("Rcpt", path) for path in _forward_paths(envelope.recipients)),
        ("User", envelope.sasl_username),
        ("IP", str(client_ip(envelope.client_address) or "")),
        ("Hostname", envelope.client_name),
        ("Helo", envelope.helo_name),
        ("Queue-Id", envelope.queue_id),
        ("MTA-Name", envelope.hostname),
        ("Settings-ID", settings_id or ""),
    ]
    return [(name, _field_value(text)) for name, text in fields if text]


def read_answer(status: int, body: bytes) -> ScannerAnswer:
    """Read what rspamd answers to `/checkv2`, with its HTTP status.

    Raises:
        NonsenseError: it is no answer of rspamd's.
    """
    values = _values(status, body)
    if isinstance(error := values.get("error"), str):
        return _no_verdict(f"it says {printable(error)}")
    action, score = values.get("action"), _score(values.get("score"))
    if status != _OK or "error" in values or not isinstance(action, str) or not action or score is None:
        raise NonsenseError(f"HTTP {status}, JSON without an action and a score")
    if action == _SOFT_REJECT:
        return _no_verdict(f"{_SOFT_REJECT}{_smtp_message(values)}", _SOFT_REJECT)
    is_spam = action not in _HAM_ACTIONS
    # A rule has ended the scan with this action, whatever the score: so it is for GTUBE.
    is_skipped = values.get("is_skipped") is True
    is_forced = is_spam and (is_skipped or action not in _ACTIONS_BY_SCORE)
    return ScannerAnswer(
        scanner=Scanner.RSPAMD,
        verdict=ScanVerdict.SPAM if is_spam else ScanVerdict.HAM,
        score=score,
        is_forced=is_forced,
        action=printable(action, _LONGEST_ACTION),
        symbols=_symbols(values.get("symbols"), with_weightless=is_forced),
    )


def is_pong(status: int, body: bytes) -> bool:
    """Tell whether rspamd answers to `/ping` that it is there."""
    return status == _OK and body.strip() == b"pong"


def _forward_paths(recipients: Sequence[str]) -> Iterator[str]:
    """Yield as many as a request may have."""
    room = _MOST_RECIPIENTS_BYTES
    for path in filter(None, map(_path, recipients[:MOST_RECIPIENTS])):
        room -= len(path)
        if room < 0:
            return
        yield path


def _path(address: str) -> str:
    """Return an address in angle brackets, its domain as A-labels; "" where rspamd cannot read it."""
    if len(address) > _LONGEST_ADDRESS:
        return ""
    local_part, at, domain = address.rpartition("@")
    path = f"{local_part}{at}{domain if domain.isascii() else normalise_domain(domain)}"
    return f"<{path}>" if _READABLE.fullmatch(path) else ""


def _field_value(text: str) -> bytes:
    """Return text as the value of an HTTP header field: bounded, without control characters; other bytes stay."""
    clean = "".join(c if c >= " " and c != "\x7f" else "?" for c in text)
    try:
        value = clean.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        value = clean.encode(errors="replace")
    return value[:_LONGEST_VALUE_BYTES]


def _values(status: int, body: bytes) -> Mapping[str, Any]:
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        raise NonsenseError(f"HTTP {status}, no JSON") from None
    if not isinstance(values, dict):
        raise NonsenseError(f"HTTP {status}, JSON that is no object")
    return values


def _no_verdict(problem: str, action: str = "") -> ScannerAnswer:
    return ScannerAnswer(scanner=Scanner.RSPAMD, verdict=ScanVerdict.UNKNOWN, action=action, problem=problem)


def _score(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # The comparison is false for NaN.
    return float(value) if abs(value) <= _MOST_SCORE else None


def _smtp_message(values: Mapping[str, Any]) -> str:
    messages = values.get("messages")
    message = messages.get("smtp_message") if isinstance(messages, dict) else None
    return f": {printable(message)}" if isinstance(message, str) else ""


def _symbols(symbols: object, *, with_weightless: bool) -> tuple[str, ...]:
    """Return those that weigh most: first what speaks for spam, then what speaks against it."""
    if not isinstance(symbols, dict):
        return ()
    weights = [(name, _weight(symbol)) for name, symbol in symbols.items()]
    found = [(name, weight) for name, weight in weights if weight or with_weightless]
    found.sort(key=lambda symbol: (symbol[1] <= 0, -abs(symbol[1]), symbol[0]))
    return tuple(f"{printable(name, _LONGEST_NAME)} {weight:.1f}" for name, weight in found[:MOST_SYMBOLS])


def _weight(symbol: object) -> float:
    return (_score(symbol.get("score")) or 0.0) if isinstance(symbol, dict) else 0.0
