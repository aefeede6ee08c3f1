"""Writes docs/failures.md from the table that the tests prove."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from deliverypools.lab.failure_kinds import WHEN_WELL, Kind, Meanwhile, Place
from deliverypools.lab.failure_matrix import FAILURES, Failure

_HEAD: Final = """\
# What happens when something fails

Each row is a failure that the end-to-end tests really make (`tests/e2e/test_failures_*.py`), in the middle of mail of
every kind, with a real Postfix in the profile `hop`. They compare what they see with this table, message by message,
and fail if it differs: what becomes of each message while the failure lasts, by which address it leaves in the end,
that it arrives exactly once, and that no header of ours is on the wire. This page is made from the same table (`make
docs`).

In short: no failure loses a message that was accepted, sends it twice, or lets it leave by a better address than its
own. (A clock that is weeks ahead makes bounces to SRS addresses look too old: they are refused.) What cannot be
decided waits in Postfix's queue (`milter.undecided_after`, then it leaves by high-risk). Mail for local mailboxes is
hardly concerned; it needs the milter, and nothing else.

`make soak` goes on where the table ends: 10,000 messages of all kinds, while milter, policy service, Postfix and
state are killed, stopped, paused, locked and reloaded at random.

## The kinds of mail
"""
_TABLE: Final = """
## The table

The word before the arrow is what is seen while the failure lasts; what is behind it, where the message arrives after
the repair. Without an arrow it arrives as if nothing had failed.

- *waits*: in Postfix's queue, or in the maildrop. It leaves by itself.
- *4xx*: its client is told to try again. Mail servers do; mail programs show it to their user.
- *silence*: its client waits for the reply, gives up, and tries again.
- *no connection*: nobody answers on port 25. Its client tries again.
- *refused by sendmail*: sendmail(1) ends with an error, which the program that called it has to mind.
- *5xx*: its client is told not to try again.
"""


def failures_reference() -> str:
    """Return docs/failures.md."""
    return "\n".join([_HEAD.rstrip("\n"), *_kinds(), _TABLE.rstrip("\n"), "", *_table(), "", *_paragraphs()])


def _kinds() -> Iterator[str]:
    yield ""
    yield "| | kind of mail | arrives, while nothing fails, by |"
    yield "|---|---|---|"
    for number, kind in enumerate(Kind, 1):
        yield f"| {number} | {kind.value} | {WHEN_WELL[kind].value} |"


def _table() -> Iterator[str]:
    yield "| | " + " | ".join(str(number) for number, _ in enumerate(Kind, 1)) + " |"
    yield "|---" * (len(Kind) + 1) + "|"
    for failure in FAILURES:
        cells = (_outcome(failure, kind) for kind in Kind)
        yield f"| [{failure.title}](#{_anchor(failure.title)}) | {' | '.join(cells)} |"


def _outcome(failure: Failure, kind: Kind) -> str:
    how, place = failure.meanwhile[kind], failure.places[kind]
    if how is Meanwhile.ARRIVES:
        return str(place.value)
    if place is Place.NOWHERE:
        return str(how.value)
    return f"{how.value} → {place.value}"


def _paragraphs() -> Iterator[str]:
    yield f"*{Place.MAILBOX_UNMARKED.value}*: a DSN that could not be compared with what was sent, and so is not called"
    yield "genuine ([bounces](bounces.md))."
    for failure in FAILURES:
        yield from ("", f"## {failure.title}", "", f"`{failure.name}`: {failure.broken}", "")
        yield f"- What you see: {failure.seen}"
        yield f"- What to do: {failure.mend}"
    yield ""


def _anchor(title: str) -> str:
    """Return what GitHub makes of a heading."""
    kept = (letter for letter in title.lower() if letter.isalnum() or letter in " -_")
    return "".join(kept).replace(" ", "-")
