"""Forwarded mail that does not leave: who is told, and who is not.

`unauthenticated_forward = "reject"` tells the mailbox that forwards, never the sender, who may be forged;
`automatic_forwarding = "off"`, which "automatic" means too, tells the sender.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mailing import (
    ALICE,
    HIGH_RISK,
    RELAY,
    arrived_with,
    delivered,
    forward,
    fresh,
    fresh_subject,
    is_rewritten,
    left_with,
    mail,
    notice_to,
    return_paths,
    running,
    said_in,
    submit,
)

from deliverypools.lab.lab import OUTSIDE_CLIENT, Lab
from deliverypools.lab.site import Sieve, Site
from deliverypools.lab.waiting import wait_until

OUT = "out@example.net"
SITE = Site(
    virtual={
        "virtual@example.org": OUT,
        "other@example.org": "other-out@example.net",
        "virtual-and-bob@example.org": f"{OUT}, bob@example.org",
    },
    aliases={"alias": OUT, "alias-and-bob": f"{OUT}, bob", "list": "member@example.net, bob", "owner-list": "alice"},
    forwards={"games": OUT, "news": f"\\news, {OUT}", "uucp": OUT},
    sieve={
        "sieve": Sieve(f'redirect "{OUT}";'),
        "sieve-copy": Sieve(f'require "copy"; redirect :copy "{OUT}";'),
    },
)
LIMITS = {"messages_per_minute": 0}
FORGED = "erin@strict.example"
NOT_AUTHENTICATED = "not forwarded by order of this site: its sender could not be authenticated"
MAY_NOT = "The mailbox that forwards this message may not do so. Ask postmaster@example.org"


@pytest.fixture(scope="module")
def rejecting() -> Iterator[Lab]:
    with running(site=SITE, settings={"forwarding": {"unauthenticated_forward": "reject"}, "limits": LIMITS}) as lab:
        yield lab


@pytest.fixture(scope="module")
def off() -> Iterator[Lab]:
    policies = [
        {"name": "default", "automatic_forwarding": "automatic"},
        {"name": "never", "senders": ["news@example.org", "sieve@example.org"], "automatic_forwarding": "off"},
        {"name": "may", "senders": ["uucp@example.org"], "automatic_forwarding": "on"},
    ]
    with running(site=SITE, settings={"outbound_policies": policies, "limits": LIMITS}) as lab:
        yield lab


def notices(lab: Lab, mailbox: str, subject: str) -> list[str]:
    """Return the notices about a message in a local mailbox."""
    found = (message for message in lab.mailbox(mailbox) if message["Return-Path"] == "<>")
    return [said_in(message) for message in found if subject in message.as_string()]


def recipients_outside(lab: Lab) -> list[str]:
    lab.wait_until_queue_is_empty()
    return [recipient for message in lab.messages for recipient in message.recipients]


@pytest.mark.parametrize("sender", [FORGED, ALICE[0]])
@pytest.mark.parametrize(("mailbox", "keeps"), [("news", "spool/news"), ("sieve-copy", "sieve-copy")])
def test_rejected_forward_is_told_to_the_mailbox_that_keeps_a_copy(
    rejecting: Lab, mailbox: str, keeps: str, sender: str
):
    rejecting.receiver.clear()
    notices_before = len(rejecting.mailbox("alice"))
    subject = forward(rejecting, mailbox, sender)
    # The notice is forwarded as all of its mail is: it has a null sender.
    assert recipients_outside(rejecting) == [OUT]
    assert left_with(rejecting, subject) == []
    assert return_paths(rejecting, keeps, subject) == [f"<{sender}>"]
    (notice,) = notices(rejecting, keeps, subject)
    assert NOT_AUTHENTICATED in notice
    assert len(rejecting.mailbox("alice")) == notices_before


@pytest.mark.parametrize("sender", [FORGED, ALICE[0]])
@pytest.mark.parametrize("mailbox", ["virtual", "alias", "games", "sieve"])
def test_rejected_forward_is_told_where_the_mailbox_leads(rejecting: Lab, mailbox: str, sender: str):
    rejecting.receiver.clear()
    subject = forward(rejecting, mailbox, sender)
    assert recipients_outside(rejecting) == [OUT]
    (notice,) = rejecting.messages
    assert (notice.envelope_sender, rejecting.pool_of(notice)) == ("", "high-risk")
    assert subject in said_in(notice)
    assert NOT_AUTHENTICATED in said_in(notice)


def test_rejected_forward_of_one_of_several_mailboxes_is_told_to_postmaster(rejecting: Lab):
    rejecting.receiver.clear()
    subject = fresh_subject()
    recipients = ["virtual@example.org", "other@example.org"]
    assert rejecting.send(FORGED, recipients, mail(FORGED, Subject=subject), client_address=OUTSIDE_CLIENT).accepted
    assert recipients_outside(rejecting) == []
    assert all(NOT_AUTHENTICATED in notice for notice in notices(rejecting, "postmaster", subject))
    assert notices(rejecting, "postmaster", subject)


def test_rejected_forward_leaves_the_copy_of_a_mailbox_of_ours_alone(rejecting: Lab):
    subject = forward(rejecting, "virtual-and-bob", FORGED)
    assert delivered(rejecting, "bob", subject)["Return-Path"] == f"<{FORGED}>"
    rejecting.wait_until_queue_is_empty()
    assert left_with(rejecting, subject) == []


@pytest.mark.parametrize("mailbox", ["virtual", "alias", "games", "sieve"])
def test_authenticated_forward_is_not_rejected(rejecting: Lab, mailbox: str):
    message = arrived_with(rejecting, forward(rejecting, mailbox, "erin@signed.example"))
    sender = message.envelope_sender
    assert (rejecting.pool_of(message), is_rewritten(sender, "erin@signed.example")) == ("relay", True)


def test_null_sender_is_not_rejected(rejecting: Lab):
    assert rejecting.pool_of(arrived_with(rejecting, forward(rejecting, "virtual", ""))) == "high-risk"


@pytest.mark.parametrize("domain", ["signed.example", "example.com"])
@pytest.mark.parametrize(
    ("mailbox", "keeps"),
    [
        ("alias", ""),
        ("alias-and-bob", "bob"),
        ("games", ""),
        ("news", "spool/news"),
        ("sieve", ""),
        ("sieve-copy", "sieve-copy"),
    ],
)
def test_automatic_forwarding_off_tells_the_sender_if_legitimate_else_postmaster(
    off: Lab, mailbox: str, keeps: str, domain: str
):
    sender = fresh(domain)
    subject = forward(off, mailbox, sender)
    if domain == "signed.example":
        notice = notice_to(off, sender)
        assert notice.source_address in HIGH_RISK
        assert MAY_NOT in said_in(notice)
    else:
        wait_until(lambda: bool(notices(off, "postmaster", subject)), timeout_seconds=30, what="the notice")
    off.wait_until_queue_is_empty()
    assert left_with(off, subject) == []
    assert not keeps or return_paths(off, keeps, subject) == [f"<{sender}>"]


def test_automatic_forwarding_off_tells_a_user_of_ours_in_the_mailbox(off: Lab):
    subject = fresh_subject()
    submit(off, "games@example.org", mail(Subject=subject))
    wait_until(lambda: bool(notices(off, "alice", subject)), timeout_seconds=30, what="the notice")
    assert MAY_NOT in notices(off, "alice", subject)[0]
    off.wait_until_queue_is_empty()
    assert left_with(off, subject) == []


def test_automatic_forwarding_off_does_not_touch_virtual_aliases(off: Lab):
    message = arrived_with(off, forward(off, "virtual-and-bob", "erin@signed.example"))
    assert message.source_address in RELAY


def test_automatic_forwarding_off_does_not_touch_mailing_lists(off: Lab):
    message = arrived_with(off, forward(off, "list", "erin@example.com"))
    assert (off.pool_of(message), message.envelope_sender) == ("normal", "owner-list@example.org")


def test_automatic_forwarding_off_lets_null_senders_pass_because_nobody_could_be_told(off: Lab):
    assert off.pool_of(arrived_with(off, forward(off, "games", ""))) == "high-risk"


def test_automatic_forwarding_is_on_for_those_whom_a_policy_allows_it(off: Lab):
    message = arrived_with(off, forward(off, "uucp", "erin@signed.example"))
    assert (off.pool_of(message), is_rewritten(message.envelope_sender, "erin@signed.example")) == ("relay", True)
