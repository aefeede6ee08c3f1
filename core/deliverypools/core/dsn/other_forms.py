"""Forms of notices that flufl.bounce knows: Mailman's collection of odd mail servers.

It searches every line for some sixty forms, some of them loose (an address between commas), so it is asked last, and
only about what a mail system wrote. It gets a message made for it: plain ASCII, a bounded number of short lines, and no
part of parts. So neither nesting nor long lines can make it slow.
"""

from __future__ import annotations

import re
from email.message import Message
from typing import Final

from flufl.bounce import all_failures

from deliverypools.core.facts import printable
from deliverypools.core.message_kind import Kind

_ADDRESS = re.compile(r"([!-;=?A-~]{1,64})@([A-Za-z0-9.-]{1,255})")
_MOST_LINES: Final = 40
_MOST_OF_A_LINE: Final = 100
_MOST_OF_A_FIELD: Final = 200


def known_failure(author: str, mailer: str, text: str, *, is_multipart: bool) -> tuple[Kind, str] | None:
    """Return what a notice says, and the first address that it names; None if it has no known form.

    `author`, `mailer`: its fields From and X-Mailer; `text`: the part for people.
    """
    try:
        delayed, failed = all_failures(_message(author, mailer, text, is_multipart=is_multipart))
    except Exception:  # noqa: BLE001  (sixteen detectors, which raise what they like)
        return None
    if not failed and not delayed:
        return None
    address = min(failed or delayed).decode("ascii", "replace")
    return (Kind.NON_DELIVERY if failed else Kind.DELAY), printable(address, 80)


def _message(author: str, mailer: str, text: str, *, is_multipart: bool) -> Message:
    message: Message = Message()
    # One of its detectors fails where From has no address.
    address = _ADDRESS.search(author[:_MOST_OF_A_FIELD])
    message["From"] = address[0] if address else "mailer-daemon@invalid"
    message["X-Mailer"] = _ascii(mailer[:_MOST_OF_A_FIELD])
    lines = [_ascii(line[:_MOST_OF_A_LINE]) for line in text.split("\n")[:_MOST_LINES]]
    part: Message = Message()
    part.set_payload("\n".join(lines))
    part["Content-Type"] = "text/plain"
    if not is_multipart:
        message["Content-Type"] = "text/plain"
        message.set_payload(part.get_payload())
        return message
    part["Content-Description"] = "Notification"
    returned: Message = Message()
    returned["Content-Type"] = "text/rfc822-headers"
    returned.set_payload("")
    message["Content-Type"] = "multipart/mixed"
    message.attach(part)
    message.attach(returned)
    return message


def _ascii(text: str) -> str:
    return " ".join(text.encode("ascii", "replace").decode("ascii").split())
