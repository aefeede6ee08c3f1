"""Mail that Dovecot's Pigeonhole redirects: it enters again through sendmail(1), or by SMTP from this host.

A case is a line of CASES: mailbox, envelope sender of what came in, what leaves, and the Return-Path of the copy that
stays. OUTSIDE_CLIENT sends everything.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from mailing import ALICE, HIGH_RISK, NORMAL, RELAY, from_outside, mail, running, submit

from deliverypools.lab.lab import Lab
from deliverypools.lab.receiver import ReceivedMessage
from deliverypools.lab.site import Sieve, Site
from deliverypools.lab.waiting import wait_until

SITE = Site(
    sieve={
        "redirected": Sieve('redirect "redirected@example.net";'),
        "copied": Sieve('require "copy"; redirect :copy "copied@example.net";'),
        "as-recipient": Sieve('redirect "as-recipient@example.net";', "recipient"),
        "as-orig-recipient": Sieve('redirect "as-orig-recipient@example.net";', "orig_recipient"),
        "to-bob": Sieve('redirect "bob@example.org";'),
    }
)
_subjects = (f"sieve case {number}" for number in itertools.count(1))


@dataclass(frozen=True, kw_only=True)
class Case:
    mailbox: str
    detail: str = ""
    """What follows the mailbox's name in the recipient (recipient_delimiter)."""
    sender: str = "erin@example.com"
    pool: set[str]
    on_the_wire: str
    """Envelope sender."""
    local_return_path: str | None = None
    """None: no copy stays."""


CASES = {
    "redirect": Case(mailbox="redirected", pool=RELAY, on_the_wire="erin@example.com"),
    "redirect :copy": Case(
        mailbox="copied", pool=RELAY, on_the_wire="erin@example.com", local_return_path="<erin@example.com>"
    ),
    "spoofed sender of ours": Case(
        mailbox="redirected", sender="alice@example.org", pool=RELAY, on_the_wire="alice@example.org"
    ),
    "spoofed sender of ours, :copy": Case(
        mailbox="copied",
        sender="alice@example.org",
        pool=RELAY,
        on_the_wire="alice@example.org",
        local_return_path="<alice@example.org>",
    ),
    "null sender": Case(mailbox="redirected", sender="", pool=HIGH_RISK, on_the_wire=""),
    "null sender, :copy": Case(mailbox="copied", sender="", pool=HIGH_RISK, on_the_wire="", local_return_path="<>"),
    "envelope from recipient": Case(mailbox="as-recipient", pool=RELAY, on_the_wire="as-recipient@example.org"),
    "envelope from orig_recipient": Case(
        mailbox="as-orig-recipient", detail="+news", pool=RELAY, on_the_wire="as-orig-recipient+news@example.org"
    ),
}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with running(site=SITE) as lab:
        yield lab


def arrived_with(lab: Lab, subject: str) -> ReceivedMessage:
    return lab.wait_for(lambda message: message.header("Subject") == subject, timeout_seconds=30)[0]


def copies(lab: Lab, mailbox: str, subject: str) -> list[str]:
    """Return the Return-Path of each copy of a message in a mailbox."""
    return [str(message["Return-Path"]) for message in lab.mailbox(mailbox) if message["Subject"] == subject]


def assert_goes_as_it_says(lab: Lab, case: Case) -> None:
    subject = next(_subjects)
    data = mail(sender=case.sender or "mailer-daemon@example.com", Subject=subject)
    from_outside(lab, f"{case.mailbox}{case.detail}@example.org", data, sender=case.sender)
    message = arrived_with(lab, subject)
    assert message.source_address in set(map(lab.address, case.pool))
    assert message.envelope_sender == case.on_the_wire
    lab.wait_until_queue_is_empty()
    expected = [] if case.local_return_path is None else [case.local_return_path]
    assert copies(lab, case.mailbox, subject) == expected


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_redirected(lab: Lab, case: Case):
    assert_goes_as_it_says(lab, case)


def test_redirect_of_mail_of_a_user_of_ours_leaves_by_normal(lab: Lab):
    subject = next(_subjects)
    submit(lab, "redirected@example.org", mail(Subject=subject))
    message = arrived_with(lab, subject)
    assert (message.envelope_sender, message.source_address in NORMAL) == (ALICE[0], True)


def test_redirect_to_a_mailbox_of_ours_stays_here_with_its_return_path(lab: Lab):
    subject = next(_subjects)
    from_outside(lab, "to-bob@example.org", mail(sender="erin@example.com", Subject=subject))
    wait_until(lambda: bool(copies(lab, "bob", subject)), timeout_seconds=30, what="the copy in bob's mailbox")
    assert copies(lab, "bob", subject) == ["<erin@example.com>"]
    assert [message for message in lab.messages if message.header("Subject") == subject] == []


def test_redirect_by_smtp_goes_as_that_by_sendmail(make_lab: Callable[..., Lab]):
    lab = make_lab(site=Site(sieve=SITE.sieve, dovecot={"submission_host": "127.0.0.1:25"}))
    for name in ("redirect :copy", "spoofed sender of ours", "null sender", "envelope from recipient"):
        assert_goes_as_it_says(lab, CASES[name])
