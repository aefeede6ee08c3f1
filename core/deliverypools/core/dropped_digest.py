"""The daily digest of the drop ledger: what was not sent on one day (UTC), by reason and by client network."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from deliverypools.core.alert_text import Samples, field_text, listed, readable, subject_line
from deliverypools.core.client_networks import network_of
from deliverypools.core.facts import printable
from deliverypools.core.payloads import Moment, Number
from deliverypools.core.records import DroppedNotice
from deliverypools.core.restrictions import iso_time, utc_day
from deliverypools.core.to_administrators import ToAdministrators

MOST_COUNTED: Final = 10_000
"""So many entries are looked at; of a day with more the rest is a number."""
_MOST_ENTRIES: Final = 20
_MOST_ROWS: Final = 20
_OTHERS: Final = "others"
_NUMBER: Final = re.compile(r"[0-9]")


@dataclass(frozen=True, slots=True, kw_only=True)
class DigestEntry:
    """An entry of the drop ledger, as the digest shows it."""

    at: Moment
    sender: str
    client_address: str
    reason: str
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DroppedDigest(ToAdministrators):
    """What was not sent on one day."""

    sort: ClassVar[str] = "dropped-digest"
    at: Moment
    """When it was made."""
    day: Moment
    """The beginning of the day."""
    total: Number
    counted: Number
    """How many of these, the newest, are in the two lists."""
    reasons: tuple[tuple[str, Number], ...]
    """How many for each reason, most first."""
    networks: tuple[tuple[str, Number], ...]
    """How many from each network of clients: `client_networks`."""
    entries: tuple[DigestEntry, ...]
    """The newest."""

    @property
    def once(self) -> str:
        """Return the name under which it is told once: one for a day."""
        return f"{self.sort}/{utc_day(self.day)}"

    @property
    def command(self) -> str:
        """Return the command that lists all of them."""
        return f"delivery-pools dropped list --since {utc_day(self.day)}"

    def summary(self) -> str:
        """Return one line for the log."""
        what = "1 bounce was" if self.total == 1 else f"{self.total} bounces were"
        return f"{what} dropped on {utc_day(self.day)} (UTC) instead of being sent to forged senders"

    def subject(self) -> str:
        """Return the Subject of the mail."""
        return subject_line(self.summary())

    def body(self, samples: Samples) -> str:
        """Return the text of the mail."""
        del samples
        part = f", of the newest {self.counted}" if self.counted < self.total else ""
        parts = [
            f"{self.summary()}.\n",
            "They were about mail from outside that could not be delivered, and whose sender is not believed.\n",
            listed(f"By reason{part}", _rows(self.reasons)),
            listed(f"By network of the client{part}", _rows(self.networks)),
            listed(f"The latest {len(self.entries)}", [_line(entry) for entry in self.entries]),
            f"To see all that are still kept:\n  {self.command}\n",
            "This is told once a day (UTC), and only after a day on which something was dropped.\n",
        ]
        return "\n".join(part for part in parts if part)

    def webhook(self, samples: Samples) -> dict[str, Any]:
        """Return the JSON object of the webhook."""
        del samples
        return {
            "id": self.once,
            "text": self.summary(),
            "event": self.sort,
            "day": utc_day(self.day),
            "total": self.total,
            "counted": self.counted,
            "reasons": {printable(reason): count for reason, count in self.reasons},
            "networks": {printable(network): count for network, count in self.networks},
            "entries": [
                {
                    "time": iso_time(entry.at),
                    "sender": printable(entry.sender, 400),
                    "client_address": printable(entry.client_address),
                    "reason": printable(entry.reason, 400),
                    "subject": readable(entry.subject),
                }
                for entry in self.entries
            ],
            "time": iso_time(self.at),
            "commands": {"list": self.command},
        }


def digest_of(notices: Sequence[DroppedNotice], *, total: int, day: float, now: float) -> DroppedDigest:
    """Return the digest of a day of which there are `total` entries; `notices`: the newest of them, newest first."""
    return DroppedDigest(
        at=now,
        day=day,
        total=max(total, len(notices)),
        counted=len(notices),
        reasons=_most_common(_sort_of_reason(notice.reason) for notice in notices),
        networks=_most_common(network_of(notice.client_address) or "(no address)" for notice in notices),
        entries=tuple(
            DigestEntry(
                at=notice.at,
                sender=printable(notice.sender, 400),
                client_address=printable(notice.client_address),
                reason=printable(notice.reason, 400),
                subject=printable(notice.subject, 400),
            )
            for notice in notices[:_MOST_ENTRIES]
        ),
    )


def _most_common(names: Iterable[str]) -> tuple[tuple[str, int], ...]:
    """Return how often each name occurs, most first, the rest as one."""
    counts = Counter(names)
    first = counts.most_common(_MOST_ROWS)
    others = counts.total() - sum(count for _, count in first)
    return (*first, *(((_OTHERS, others),) if others else ()))


def _sort_of_reason(reason: str) -> str:
    """Return a reason without the numbers in it and what follows: a scanner's scores are different each time."""
    text = printable(reason)
    start = _NUMBER.split(text, maxsplit=1)[0].rstrip()
    return f"{start} ..." if start and start != text else text or "(no reason)"


def _rows(counts: Iterable[tuple[str, int]]) -> list[str]:
    return [f"{count:>6}  {printable(name)}" for name, count in counts]


def _line(entry: DigestEntry) -> str:
    subject = readable(entry.subject)
    return (
        f"{iso_time(entry.at)}  to {printable(entry.sender, 100) or '(nobody)'}  client"
        f" {printable(entry.client_address) or 'unknown'}: {field_text(entry.reason)}"
        + (f"\n    Subject: {subject}" if subject else "")
    )
