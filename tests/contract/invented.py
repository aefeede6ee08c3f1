"""Time and messages as the tests of the state want them."""

from deliverypools.adapters.state import Reservation
from deliverypools.core.facts import Ingress
from deliverypools.core.records import DecisionRecord, DroppedNotice
from deliverypools.core.restrictions import Restriction
from deliverypools.core.surges.events import Category, NdrEvent, Way
from deliverypools.core.tallies import DAY, Entry, Tally, Window

START = 1_700_000_040.0
"""The beginning of a minute, 2023-11-14 22:14 UTC."""
ODD_NAMES = ["alice/1", "a\0b", "\N{SNOWMAN}", "LIMITER", "a:b", "*", "%s", '"]}', "x" * 1000]


class InventedClock:
    """A clock that stands still until somebody sets it."""

    def __init__(self, now=START):
        self.now = now

    def __call__(self):
        return self.now


def recipients_window(account="alice", seconds=DAY):
    return Window((f"{account}/recipients",), seconds, DAY)


def tally(recipients, account="alice"):
    """A message: what it counts, and the one window that is looked at before."""
    entries = (Entry(f"{account}/recipients", recipients, DAY),) if recipients else ()
    return Tally(entries, (recipients_window(account),))


def reserve(state, queue_id, counted, instance="i"):
    """Reserve one message; return what its window held before."""
    ((before,),) = state.reserve([Reservation(queue_id, instance, counted)])
    return before


def held(state, account="alice"):
    """What an account has sent in the last day."""
    return state.used([recipients_window(account)])[0]


def restriction(account="alice", ingress=Ingress.SUBMISSION, *, since=START, until=None, reason="too much"):
    return Restriction(account=account, ingress=ingress, since=since, until=until, reason=reason)


def record(queue_id="4Q1", account="alice", at=START, host="mx1.example.org", **others):
    return DecisionRecord(
        **{
            "queue_id": queue_id,
            "host": host,
            "pass_name": "egress",
            "at": at,
            "ingress": "submission",
            "account": account,
            "pool": "normal",
            "rule": "default",
            "reasons": 'no rule matched; "%s"',
            "envelope_sender": "alice@example.org",
            "recipients": 3,
            "client_address": "2001:db8::1",
            "subject": "Gr\N{LATIN SMALL LETTER U WITH DIAERESIS}\N{LATIN SMALL LETTER SHARP S}e \N{SNOWMAN}",
            "message_id": "<1@example.org>",
        }
        | others
    )


def dropped_notice(queue_id="4Q1", at=START, host="mx1.example.org", **others):
    return DroppedNotice(
        **{
            "queue_id": queue_id,
            "host": host,
            "at": at,
            "kind": "non-delivery",
            "sender": "forged@example.net",
            "recipients": "full@example.com: 552 5.2.2 mailbox full",
            "client_address": "203.0.113.9",
            "reason": "its sender failed authentication: spf=fail",
            "original_queue_id": "4Q0",
            "message_id": "<1@example.net>",
            "subject": "Gr\N{LATIN SMALL LETTER U WITH DIAERESIS}\N{LATIN SMALL LETTER SHARP S}e",
            "header_from": "Forged <forged@example.net>",
            "first_lines": "Dear friend,\n\nI am a prince.",
        }
        | others
    )


def ndr_event(event_id="mx1.example.org/4Q1", at=START, **others):
    return NdrEvent(
        **{
            "event_id": event_id,
            "at": at,
            "way": Way.ARRIVED,
            "domain": "example.org",
            "address": "alice@example.org",
            "account": "alice",
            "verdict": "backscatter",
            "category": Category.UNKNOWN_USER,
            "client": "203.0.113.9",
            "remote": "example.net",
            "original": "0123abcd",
            "amount": 3,
            "local_parts": 2,
        }
        | others
    )
