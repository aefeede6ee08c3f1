"""Whether a DSN that arrives is about a message that we sent: genuine, backscatter, or unknown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Final

from deliverypools.core import ticket
from deliverypools.core.addresses import domain_of, normalise_address
from deliverypools.core.dsn.report import Report
from deliverypools.core.facts import printable
from deliverypools.core.headers import Headers, unfolded
from deliverypools.core.received import date_of
from deliverypools.core.records import DecisionRecord
from deliverypools.core.sender import first_address
from deliverypools.core.settings.values import client_ip

HEADER: Final = "X-Delivery-Pool-DSN"
"""Tells our users: `genuine`, `backscatter` or `unknown`, then the evidence."""

_HOUR_SECONDS: Final = 3600.0
_EARLIER_CLOCKS_SECONDS: Final = _HOUR_SECONDS
"""A Date is believed to lie after the beginning of the decision log by so much at least."""
_LATER_CLOCKS_SECONDS: Final = 24 * _HOUR_SECONDS
"""A Date may be so far ahead: clocks with the wrong time zone."""
_MOST_MESSAGE_IDS: Final = 5
_MOST_MESSAGE_ID_CHARACTERS: Final = 1000
_MOST_RECEIVED: Final = 50
_MOST_QUEUE_FILES: Final = 60
_MOST_HOSTS: Final = 200
_MOST_OF_A_FIELD: Final = 2000

_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}+"
_HOSTS: Final = re.compile(rf"\b(?:from|by)\s++(?!(?:user|u)id\b)({_NAME})(?:\s++\(({_NAME})[ \t]*+\[)?")
_ADDRESSES: Final = re.compile(r"[\[(](?:IPv6:)?([0-9A-Fa-f.:]{3,45}+)[\])]")
_QUEUE_FILE: Final = re.compile(
    rf"\bby\s++(?P<host>{_NAME})\s++\([^()]{{0,80}}+\)"
    r"(?:\s++with\s++\w{1,20}+(?:\s++\([^()]{0,200}+\)){0,5})?\s++id\s++(?P<queue_id>[0-9A-Za-z]{5,30}+)"
)


class Verdict(StrEnum):
    """Whether the message that a DSN is about was ours."""

    GENUINE = "genuine"
    BACKSCATTER = "backscatter"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict and what shows it."""

    verdict: Verdict
    evidence: str

    @property
    def field(self) -> tuple[str, str]:
        """Return the header field that tells our users."""
        return HEADER, printable(f"{self.verdict}; {self.evidence}", 400)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clues:
    """By what the message that a DSN is about can be found again. Bounded in number and size."""

    message_ids: tuple[str, ...] = ()
    """Message-ID of the returned message, with its angle brackets, as records have it."""
    queue_files: tuple[tuple[str, str], ...] = ()
    """(host, queue id): Received fields of the returned message (RFC 5321 section 4.4), X-Postfix-Queue-ID."""
    ticket_values: tuple[str, ...] = ()
    """Ticket headers of the returned message: what never left our hosts still has one."""
    hosts: tuple[str, ...] = ()
    """Hosts that Received fields of the returned message name after `from` or `by`, lower case, and addresses."""
    sender_domains: tuple[str, ...] = ()
    """In whose name the message was sent: the domains of From, Sender and Return-Path of the returned message, and of
    To of the DSN, which names the envelope sender."""
    sent_at: float | None = None
    """When the returned message was sent, by its Date: seconds since the epoch."""


def clues_of(headers_of_dsn: Headers, report: Report) -> Clues:
    """Return by what the message that a DSN is about can be found again, and in whose name it was sent."""
    headers = report.returned.headers if report.returned else Headers()
    received = list(_received(headers))
    by_postfix = [(found["host"], found["queue_id"]) for text in received for found in _QUEUE_FILE.finditer(text)]
    if report.queue_id and report.reporting_mta:
        by_postfix.insert(0, (report.reporting_mta, report.queue_id))
    names = (name.lower() for text in received for found in _HOSTS.finditer(text) for name in found.groups() if name)
    addresses = (str(client_ip(found[1]) or "") for text in received for found in _ADDRESSES.finditer(text))
    message_ids = (_message_id(value) for value in headers.all("Message-ID"))
    return Clues(
        message_ids=tuple(islice(filter(None, message_ids), _MOST_MESSAGE_IDS)),
        queue_files=tuple(dict.fromkeys(by_postfix))[:_MOST_QUEUE_FILES],
        ticket_values=tuple(headers.all(ticket.HEADER)),
        hosts=tuple(dict.fromkeys(filter(None, (*names, *addresses))))[:_MOST_HOSTS],
        sender_domains=tuple(sorted(_sender_domains(headers_of_dsn, headers))),
        sent_at=_sent_at(headers),
    )


def _sender_domains(of_dsn: Headers, returned: Headers) -> set[str]:
    named = [first_address(returned, name) for name in ("From", "Sender", "Return-Path")]
    return {domain_of(normalise_address(address)) for address in (first_address(of_dsn, "To"), *named) if address}


def _received(headers: Headers) -> Iterator[str]:
    return (value[:_MOST_OF_A_FIELD] for value in islice(headers.all("Received"), _MOST_RECEIVED))


def _message_id(value: str) -> str:
    """Return a Message-ID as records have it."""
    return printable(unfolded(value[:_MOST_MESSAGE_ID_CHARACTERS]))


def _sent_at(headers: Headers) -> float | None:
    dates = list(islice(headers.all("Date"), 2))
    return date_of(" ".join(dates[0].split())) if len(dates) == 1 else None


def judge(
    clues: Clues,
    *,
    recipients: tuple[str, ...],
    record: DecisionRecord | None,
    original_sender: str,
    has_ticket: bool,
    our_hosts: frozenset[str],
    is_our_domain: Callable[[str], bool],
    complete_since: float | None,
    now: float,
) -> Judgement:
    """Return whether the message that a DSN is about was ours.

    `recipients` of the DSN; `record`: what the decision log holds about that message, None: nothing; `original_sender`:
    the envelope sender of that record or ticket, "" where the message was not sent from here; `has_ticket`: the
    returned message has a ticket of ours that fits; `our_hosts`: names of our hosts (myhostname, HELO names of the
    pools), lower case, and addresses; `is_our_domain`: whether a domain is accepted; `complete_since`: since when the
    decision log tells of everything that was sent, None: it cannot be read now; `now`: times are seconds since the
    epoch.
    """
    if has_ticket or record is not None:
        return _known(recipients, record, original_sender, has_ticket=has_ticket)
    if not any(map(is_our_domain, clues.sender_domains)):
        # A mailbox elsewhere that forwards to us gets its own bounces here.
        return Judgement(Verdict.UNKNOWN, "about a message that nobody sent in the name of a domain of ours")
    if doubt := _doubt(clues, our_hosts, is_our_domain, complete_since, now):
        return Judgement(Verdict.UNKNOWN, doubt)
    return Judgement(Verdict.BACKSCATTER, f"nothing is known here of {_shown(clues)}")


def _known(
    recipients: tuple[str, ...], record: DecisionRecord | None, original_sender: str, *, has_ticket: bool
) -> Judgement:
    """Judge a DSN about a message that we know.

    A Message-ID is known to whoever has got the message, and a queue id can be guessed: both prove something only to
    him who sent it.
    """
    addresses = {normalise_address(recipient) for recipient in recipients}
    if (not has_ticket and record is None) or not original_sender or addresses != {normalise_address(original_sender)}:
        return Judgement(Verdict.UNKNOWN, "about a message that another sender has sent")
    if has_ticket:
        return Judgement(Verdict.GENUINE, "returns a message with its ticket")
    queue_id = record.queue_id if record else ""
    return Judgement(Verdict.GENUINE, printable(f"about message {queue_id}, which was sent from here"))


def _is_below(host: str, is_our_domain: Callable[[str], bool]) -> bool:
    """Tell whether a host is in one of our domains: another server of ours, which has a decision log of its own."""
    labels = host.split(".")
    return any(is_our_domain(".".join(labels[number:])) for number in range(len(labels)))


def _doubt(
    clues: Clues,
    our_hosts: frozenset[str],
    is_our_domain: Callable[[str], bool],
    complete_since: float | None,
    now: float,
) -> str:
    """Return why it cannot be said that a message of which nothing is known was not ours, "" where it can."""
    if not clues.message_ids and not clues.hosts:
        return "returns nothing by which a message could be known again"
    if clues.ticket_values:
        return "returns a message with a ticket that cannot be read, or belongs to another"
    if ours := next((host for host in clues.hosts if host in our_hosts or _is_below(host, is_our_domain)), ""):
        return printable(f"returns a message that names {ours}, but nothing is known of it here")
    return _doubt_about_time(clues.sent_at, complete_since, now)


def _doubt_about_time(sent_at: float | None, complete_since: float | None, now: float) -> str:
    """Return why the decision log may not tell of what was sent then, "" where it does."""
    if complete_since is None:
        return "the decision log cannot be read, or is empty"
    if sent_at is None or sent_at > now + _LATER_CLOCKS_SECONDS:
        return "returns a message without a Date that makes sense"
    if sent_at < complete_since + _EARLIER_CLOCKS_SECONDS:
        return "returns a message from before the beginning of the decision log"
    return ""


def _shown(clues: Clues) -> str:
    if clues.message_ids:
        return f"message {printable(clues.message_ids[0], 100)}"
    return printable(f"a message that came by {clues.hosts[0]}", 150)
