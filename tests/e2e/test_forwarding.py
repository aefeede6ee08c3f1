"""What leaves again after it arrived: by whom it was sent, on which way it is forwarded, whether a copy stays here.

FORWARDED and SENT are the table: a line is a sender, and says by which pool a message leaves and with which envelope
sender. WAYS and SUBMISSIONS are the ways; all lines hold for all of them. A copy that stays keeps its Return-Path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from mailing import (
    ALICE,
    arrived_with,
    decision_about,
    fresh_subject,
    is_rewritten,
    left_with,
    mail,
    return_paths,
    running,
)

from deliverypools.lab.lab import OUTSIDE_CLIENT, TRUSTED_CLIENT, Lab
from deliverypools.lab.signing import signed
from deliverypools.lab.site import Sieve, Site

OUT = "out@example.net"
SITE = Site(
    virtual={"virtual@example.org": OUT, "virtual-and-bob@example.org": f"{OUT}, bob@example.org"},
    aliases={"alias": OUT, "alias-and-bob": f"{OUT}, bob"},
    forwards={"games": OUT, "news": f"\\news, {OUT}"},
    sieve={
        "sieve": Sieve(f'redirect "{OUT}";'),
        "sieve-copy": Sieve(f'require "copy"; redirect :copy "{OUT}";'),
    },
)


@dataclass(frozen=True, kw_only=True)
class Case:
    sender: str
    signer: str = ""
    """Whose DKIM signature the message has."""
    pool: str
    rule: str
    rewritten: bool = False
    """Whether it leaves with an SRS sender; otherwise with its own."""


@dataclass(frozen=True)
class Way:
    mailbox: str
    """The one that forwards, in example.org."""
    keeps: str = ""
    """The mailbox where a copy stays; "" for none."""


FORWARDED = {
    "DMARC pass": Case(
        sender="erin@signed.example", signer="signed.example", pool="relay", rule="forwarded", rewritten=True
    ),
    "SPF pass without DMARC": Case(sender="erin@spf.example", pool="relay", rule="forwarded", rewritten=True),
    "nothing published": Case(sender="erin@example.com", pool="relay", rule="forwarded"),
    "signature of a stranger": Case(
        sender="erin@strict.example", signer="signed.example", pool="relay", rule="forwarded"
    ),
    "forged": Case(sender="erin@strict.example", pool="relay", rule="forwarded"),
    "spoofed sender of ours": Case(sender="alice@example.org", pool="relay", rule="forwarded"),
    "null sender": Case(sender="", pool="high-risk", rule="delivery_status_notification"),
    "null sender with a signature": Case(
        sender="", signer="signed.example", pool="high-risk", rule="delivery_status_notification"
    ),
}
WAYS = {
    "virtual alias": Way("virtual"),
    "virtual alias and copy": Way("virtual-and-bob", keeps="bob"),
    "aliases(5)": Way("alias"),
    "aliases(5) and copy": Way("alias-and-bob", keeps="bob"),
    ".forward": Way("games"),
    ".forward and copy": Way("news", keeps="spool/news"),
    "sieve redirect": Way("sieve"),
    "sieve redirect and copy": Way("sieve-copy", keeps="sieve-copy"),
}

SENT = {
    "foreign sender": Case(sender="erin@example.com", pool="relay", rule="forwarded"),
    "foreign sender, DKIM pass": Case(
        sender="erin@signed.example", signer="signed.example", pool="relay", rule="forwarded"
    ),
    "foreign sender, published for another client": Case(sender="erin@spf.example", pool="relay", rule="forwarded"),
    "forged": Case(sender="erin@strict.example", pool="relay", rule="forwarded"),
    "sender of ours": Case(sender="alice@example.org", pool="normal", rule="default"),
    "null sender": Case(sender="", pool="high-risk", rule="delivery_status_notification"),
}
SUBMISSIONS: dict[str, Callable[[Lab, str, list[str], bytes], object]] = {
    "relaying client": lambda lab, sender, recipients, data: lab.send(
        sender, recipients, data, client_address=TRUSTED_CLIENT
    ),
    "submission": lambda lab, sender, recipients, data: lab.send(sender, recipients, data, port=587, auth=ALICE),
    "sendmail": lambda lab, sender, recipients, data: lab.sendmail(sender, recipients, data, user="nobody"),
}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with running(site=SITE, settings={"limits": {"messages_per_minute": 0}}) as lab:
        yield lab


def message_of(case: Case, subject: str) -> bytes:
    data = mail(case.sender or f"mailer-daemon@{case.signer or 'example.com'}", Subject=subject)
    return signed(data, case.signer) if case.signer else data


def assert_left_as(lab: Lab, case: Case, subject: str) -> None:
    message = arrived_with(lab, subject)
    assert lab.pool_of(message) == case.pool, "by its source address"
    assert f" pool={case.pool} rule={case.rule} " in decision_about(lab, message)
    if case.rewritten:
        assert is_rewritten(message.envelope_sender, case.sender)
    else:
        assert message.envelope_sender == case.sender
    lab.wait_until_queue_is_empty()
    assert len(left_with(lab, subject)) == 1


@pytest.mark.parametrize("case", FORWARDED.values(), ids=FORWARDED)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_forwarded(lab: Lab, way: Way, case: Case):
    subject = fresh_subject()
    recipient = f"{way.mailbox}@example.org"
    assert lab.send(case.sender, recipient, message_of(case, subject), client_address=OUTSIDE_CLIENT).accepted
    assert_left_as(lab, case, subject)
    if way.keeps:
        assert return_paths(lab, way.keeps, subject) == [f"<{case.sender}>"]


@pytest.mark.parametrize("case", SENT.values(), ids=SENT)
@pytest.mark.parametrize("submission", SUBMISSIONS.values(), ids=SUBMISSIONS)
@pytest.mark.parametrize("copy_to", [[], ["bob@example.org"]], ids=["", "and copy"])
def test_sent_by_ours(lab: Lab, submission: Callable[..., object], case: Case, copy_to: list[str]):
    subject = fresh_subject()
    submission(lab, case.sender, [OUT, *copy_to], message_of(case, subject))
    assert_left_as(lab, case, subject)
    assert return_paths(lab, "bob", subject) == [f"<{case.sender}>" for _ in copy_to]


def test_one_message_to_two_forwards_leaves_twice_with_the_same_sender(lab: Lab):
    subject = fresh_subject()
    recipients = ["virtual@example.org", "games@example.org", "bob@example.org"]
    data = mail("erin@spf.example", Subject=subject)
    assert lab.send("erin@spf.example", recipients, data, client_address=OUTSIDE_CLIENT).accepted
    lab.wait_until_queue_is_empty()
    copies = left_with(lab, subject)
    assert [lab.pool_of(message) for message in copies] == ["relay", "relay"]
    assert len({message.envelope_sender for message in copies}) == 1
    assert is_rewritten(copies[0].envelope_sender, "erin@spf.example")
    assert return_paths(lab, "bob", subject) == ["<erin@spf.example>"]


@pytest.mark.parametrize("sender", ["alice@example.org", "erin@signed.example"])
def test_mail_of_our_own_users_to_a_forwarding_mailbox_keeps_its_sender(lab: Lab, sender: str):
    subject = fresh_subject()
    data = mail(sender, Subject=subject)
    assert lab.send(sender, "games@example.org", data, port=587, auth=ALICE).accepted
    message = arrived_with(lab, subject)
    expected = "normal" if sender == ALICE[0] else "relay"
    assert (lab.pool_of(message), message.envelope_sender) == (expected, sender)
