"""What a pass wants done with a message: edits of the header, a reply, a line in the log."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from deliverypools.core.facts import printable

_WORD: Final = re.compile(r"""[^ "'\\=]+""")


class Reply(Enum):
    """The answer at the end of a message."""

    CONTINUE = "continue"
    TEMPFAIL = "tempfail"
    """451 4.7.1: Postfix, or the client, keeps the message and tries again."""
    REJECT = "reject"
    """550 5.7.1, or what `Verdict.enhanced_code` says."""
    DISCARD = "discard"
    """Postfix takes the message, and delivers it to nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The outcome of a pass."""

    reply: Reply = Reply.CONTINUE
    text: str = ""
    """For the SMTP client, where the reply is not CONTINUE; plain ASCII without `%`."""
    enhanced_code: str = ""
    """Of the reply (RFC 3463); "" for the usual one."""
    delete: tuple[tuple[str, int], ...] = ()
    """Header names with the number of fields of that name: all of them go."""
    delete_single: tuple[tuple[str, int], ...] = ()
    """Header names with the number of one field, counted from 1 among those of that name: that one goes."""
    add: tuple[tuple[str, str], ...] = ()
    """Header fields that go on top of the message, the last one topmost: notices return at least that part of it."""
    new_sender: str = ""
    """The envelope sender that replaces the message's; "" if that stays."""
    returns_header_only: bool = False
    """A notice about the message returns its header only (RET=HDRS, RFC 3461 section 4.3); goes with `new_sender`."""
    notify_of_failure: tuple[str, ...] = ()
    """Recipients about whom the sender wants no notice, and about whom there is to be one."""
    hold: str = ""
    """Why Postfix is to put the message on hold; "" if it is not."""
    log: str = ""


class LogLine(str):
    """A line of the log, and what it says: that is counted too."""

    __slots__ = ("said",)

    said: dict[str, str]


def log_line(queue_id: str, **values: object) -> LogLine:
    """Return `<queue-id>: key=value ...`, values quoted where they hold anything but a word."""
    pairs = " ".join(f"{key.replace('_', '-')}={_value(value)}" for key, value in values.items())
    line = LogLine(f"{printable(queue_id) or 'noqueue'}: {pairs}")
    line.said = {key: str(value) for key, value in values.items()}
    return line


def _value(value: object) -> str:
    text = printable(str(value), 600)
    if _WORD.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
