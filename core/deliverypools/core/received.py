"""Reading the Received fields that our own Postfix wrote (RFC 5321 section 4.4).

Only those that name this host are read, topmost first: what a client wrote lies below the one that Postfix
put on top. A queue id that only we know (the ticket holds it) tells ours from a forgery further down.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.utils import mktime_tz, parsedate_tz

from deliverypools.core.headers import Headers

_BY_POSTFIX = re.compile(
    # "by" begins a line of Postfix's own: in the one before stands what the client said in HELO.
    r"(?:\A|\n)[ \t]*by\s+(?P<host>[^\s;()]{1,255})\s+\([^(),]{0,80}(?:,\s+from\s+userid\s+(?P<user_id>\d{1,10}))?\)"
    r"(?:\s+with\s+(?P<protocol>\w{1,20})(?:\s+\([^()]{0,200}\))*)?\s+id\s+(?P<queue_id>[0-9A-Za-z]{5,30})\b"
)
_CLIENT = re.compile(r"\((?P<name>[^\s()]{1,255}) \[(?:IPv6:)?(?P<address>[0-9A-Fa-f.:]{2,45})\]\)[ \t]*\Z")
"""The end of the first line: what a client says in HELO stands before it."""
_LOGIN = re.compile(r"\n[ \t]*\(Authenticated sender: (?P<sasl_username>[^\n]{1,255})\)[ \t]*(?=\n)")
_AUTHENTICATED = frozenset({"ESMTPA", "ESMTPSA", "LMTPA", "LMTPSA", "UTF8SMTPA", "UTF8SMTPSA"})
"""`with` values of clients that logged in (RFC 3848, RFC 6531 section 4.3)."""
_UNKNOWN_CLIENT = "unknown"
_MOST_OF_A_FIELD = 2000


@dataclass(frozen=True, slots=True)
class Received:
    """One Received field of this host."""

    queue_id: str
    user_id: int | None
    """The user who called sendmail(1), where this is a submission by pickup(8)."""
    received_at: float | None
    """Seconds since the epoch; None where the date cannot be read."""
    client_address: str = ""
    """Of the SMTP client; "" where there was none."""
    client_name: str = ""
    """Its name in DNS, "" where it has none."""
    is_authenticated: bool = False
    """Whether that client had logged in."""
    sasl_username: str = ""
    """By which name, where the site has that written (smtpd_sasl_authenticated_header)."""

    @property
    def is_from_this_machine(self) -> bool:
        """Tell whether its client was a program of this machine, as content filters are, that did not log in."""
        is_loopback = self.client_address.startswith("127.") or self.client_address == "::1"
        return is_loopback and not self.is_authenticated


def own_received(headers: Headers, hostname: str) -> Iterator[Received]:
    """Yield the Received fields that name `hostname` (Postfix's myhostname), topmost first."""
    for value in headers.all("Received"):
        if (received := _parse(value[:_MOST_OF_A_FIELD], hostname)) is not None:
            yield received


def fields_above(headers: Headers, names: Iterable[str], hostname: str, queue_id: str) -> Iterator[str]:
    """Yield the values of header fields that stand above the Received field of a queue file of this host, in order.

    They were added here; what stands below came with the message. Without that field nothing can be told.
    """
    wanted = {name.lower() for name in names}
    above: list[str] = []
    for name, value in headers.fields:
        if name.lower() == "received":
            received = _parse(value[:_MOST_OF_A_FIELD], hostname)
            if received is not None and received.queue_id == queue_id:
                yield from above
                return
        elif name.lower() in wanted:
            above.append(value)


def _parse(value: str, hostname: str) -> Received | None:
    match = _BY_POSTFIX.search(value)
    if match is None or match["host"].lower() != hostname.lower():
        return None
    # Before "by" stands what Postfix says of the client.
    before = value[: match.start() + 1]
    client = _CLIENT.search(before.partition("\n")[0])
    login = _LOGIN.search(before) if client else None
    name = client["name"] if client else ""
    return Received(
        queue_id=match["queue_id"],
        user_id=int(match["user_id"]) if match["user_id"] else None,
        received_at=date_of(value.rpartition(";")[2]),
        client_address=client["address"] if client else "",
        client_name="" if name == _UNKNOWN_CLIENT else name,
        is_authenticated=bool(client) and (match["protocol"] or "").upper() in _AUTHENTICATED,
        sasl_username=login["sasl_username"] if login else "",
    )


def date_of(text: str) -> float | None:
    """Return an RFC 5322 date in seconds since the epoch, or None where it cannot be read."""
    try:
        parsed = parsedate_tz(text.strip()[:100])
        return float(mktime_tz(parsed)) if parsed else None
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
