"""The part of a report for machines: message/delivery-status (RFC 3464) and its successor (RFC 6533 section 3)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from deliverypools.core.dsn.header_reader import FieldReader, unfolded
from deliverypools.core.facts import printable

MOST_RECIPIENTS: Final = 1000
MOST_OF_AN_ADDRESS: Final = 320
MOST_OF_A_DIAGNOSTIC: Final = 500
_MOST_BLOCKS: Final = 4 * MOST_RECIPIENTS
_MOST_FIELDS: Final = 20 * MOST_RECIPIENTS
_MOST_OF_A_NAME: Final = 255
_ADDRESSES: Final = ("original-recipient", "final-recipient")
_READ: Final = frozenset((*_ADDRESSES, "action", "status", "diagnostic-code", "reporting-mta"))

_ACTION: Final = re.compile(r"(?i)failed|delayed|delivered|relayed|expanded")
_STATUS: Final = re.compile(r"(?<![\d.])[245]\.\d{1,3}\.\d{1,3}(?!\d|\.\d)")
# The name is mail_name of Postfix (bounce_notify_util.c).
_QUEUE_ID_NAME: Final = re.compile(r"x-[!-~]{1,60}-queue-id")
_QUEUE_ID: Final = re.compile(r"[0-9A-Za-z]{5,30}")
_CHARACTER: Final = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")
_LAST_CHARACTER: Final = 0x10FFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientStatus:
    """What became of one recipient (RFC 3464 section 2.3). All texts are printable and bounded."""

    address: str = ""
    """Original-Recipient where given, else Final-Recipient; without its type."""
    final_address: str = ""
    action: str = ""
    """failed, delayed, delivered, relayed, expanded; "" where it says nothing of the kind."""
    status: str = ""
    """An enhanced status code (RFC 3463) as in "5.1.1"; "" where there is none."""
    diagnostic: str = ""
    """What the server said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryStatus:
    """A status part that was read."""

    reporting_mta: str = ""
    queue_id: str = ""
    recipients: tuple[RecipientStatus, ...] = ()


@dataclass(slots=True)
class _Gathered:
    about_all: dict[str, str] = field(default_factory=dict)
    recipients: list[dict[str, str]] = field(default_factory=list)


def read_delivery_status(content: bytes) -> DeliveryStatus:
    """Read a status part, already decoded. What is no field is passed over."""
    gathered = _gather(content)
    about_all = gathered.about_all
    return DeliveryStatus(
        reporting_mta=host_name(about_all.get("reporting-mta", "")),
        queue_id=about_all.get("queue-id", ""),
        recipients=tuple(_status(values) for values in gathered.recipients),
    )


def _gather(content: bytes) -> _Gathered:
    """Return the first value of each field: about all recipients, and about each.

    A recipient begins with its address; blank lines alone do not end it, some servers write them between its fields.
    """
    gathered = _Gathered()
    reader = FieldReader(content, most=_MOST_FIELDS)
    is_new_block = True
    for _ in range(_MOST_BLOCKS):
        for name, value in reader:
            if name in _ADDRESSES and (is_new_block or name in gathered.recipients[-1]):
                if len(gathered.recipients) == MOST_RECIPIENTS:
                    return gathered
                gathered.recipients.append({})
                is_new_block = False
            _keep(gathered, name, value)
        if reader.is_at_end:
            break
        if reader.skip_empty_lines():
            is_new_block = True
        else:
            reader.skip_line()
    return gathered


def _keep(gathered: _Gathered, name: str, value: bytes) -> None:
    if name in _READ:
        values = gathered.recipients[-1] if gathered.recipients else gathered.about_all
        values.setdefault(name, unfolded(value, MOST_OF_A_DIAGNOSTIC))
    elif _QUEUE_ID_NAME.fullmatch(name) and _QUEUE_ID.fullmatch(queue_id := unfolded(value, MOST_OF_A_DIAGNOSTIC)):
        gathered.about_all.setdefault("queue-id", queue_id)


def _status(values: dict[str, str]) -> RecipientStatus:
    original, final = (_address(values.get(name, "")) for name in _ADDRESSES)
    diagnostic = printable(_without_type(values.get("diagnostic-code", "")), MOST_OF_A_DIAGNOSTIC)
    action = _ACTION.match(values.get("action", ""))
    return RecipientStatus(
        address=original or final,
        final_address=final,
        action=action[0].lower() if action else "",
        status=enhanced_status(values.get("status", "")) or enhanced_status(diagnostic),
        diagnostic=diagnostic,
    )


def enhanced_status(text: str) -> str:
    """Return the first enhanced status code in a text (RFC 3463 section 2), "" where there is none."""
    found = _STATUS.search(text)
    return found[0] if found else ""


def host_name(value: str) -> str:
    """Return the name of an MTA: `dns; mail.example.com (192.0.2.1)`."""
    words = _without_type(value).split(maxsplit=1)
    return printable(words[0], _MOST_OF_A_NAME) if words else ""


def _without_type(value: str) -> str:
    """Return what follows `rfc822;`, `dns;`, `smtp;` and the like."""
    kind, semicolon, rest = value.partition(";")
    return rest.strip() if semicolon and kind.strip().replace("-", "").isalnum() else value.strip()


def _address(value: str) -> str:
    """Return an address without its type; `utf-8;` may come in ASCII (utf-8-addr-xtext of RFC 6533 section 3)."""
    address = _without_type(value)
    if value.lower().startswith("utf-8"):
        address = _CHARACTER.sub(_character, address)
    return printable(address.strip("<> "), MOST_OF_AN_ADDRESS)


def _character(found: re.Match[str]) -> str:
    number = int(found[1], 16)
    return chr(number) if number <= _LAST_CHARACTER else "?"
