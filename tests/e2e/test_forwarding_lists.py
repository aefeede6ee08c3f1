"""Mailing lists of ours: they send on with a sender of their own, so what they send is ours, by the normal pool.

"list" is an entry of aliases(5) with an owner beside it; "staff" is a mailbox that a list program reads.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mailing import arrived, arrived_with, decision_about, delivered, forward, fresh, return_paths, running

from deliverypools.lab.lab import TRUSTED_CLIENT, Lab
from deliverypools.lab.site import Site

SITE = Site(
    mailboxes=("alice", "bob", "postmaster", "root", "staff"),
    aliases={"list": "member@example.net, bob", "owner-list": "alice"},
)
WAYS = ["sendmail", "smtp"]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    # So that what counts as authenticated by mistake leaves by normal, and is seen.
    with running(site=SITE, settings={"forwarding": {"authenticated_forward_pool": "normal"}}) as lab:
        yield lab


def posted(lab: Lab, sender: str) -> bytes:
    """Post to the list "staff" from outside; return the message as its program reads it."""
    return delivered(lab, "staff", forward(lab, "staff", sender)).as_bytes()


def sent_on(lab: Lab, way: str, sender: str, data: bytes) -> str:
    """Send a message on as a program of this host; return its recipient."""
    recipient = fresh("example.net")
    if way == "sendmail":
        lab.sendmail(sender, [recipient], data, user="nobody")
    else:
        assert lab.send(sender, recipient, data, client_address=TRUSTED_CLIENT).accepted
    return recipient


@pytest.mark.parametrize("sender", ["erin@signed.example", "erin@example.com", "erin@strict.example"])
def test_alias_with_an_owner_leaves_by_normal_with_the_owner_as_sender(lab: Lab, sender: str):
    subject = forward(lab, "list", sender)
    message = arrived_with(lab, subject)
    assert (lab.pool_of(message), message.envelope_sender) == ("normal", "owner-list@example.org")
    assert "rule=default" in decision_about(lab, message)
    lab.wait_until_queue_is_empty()
    assert return_paths(lab, "bob", subject) == ["<owner-list@example.org>"]


def test_spoofed_sender_of_ours_gains_nothing_at_an_alias_with_an_owner(lab: Lab):
    message = arrived_with(lab, forward(lab, "list", "alice@example.org"))
    assert (lab.pool_of(message), message.envelope_sender) == ("relay", "owner-list@example.org")


def test_null_sender_from_outside_never_leaves_by_normal_through_a_list(lab: Lab):
    message = arrived_with(lab, forward(lab, "list", ""))
    assert (message.envelope_sender, lab.pool_of(message)) == ("owner-list@example.org", "high-risk")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("bounces_to", ["staff-bounces", "staff-bounces+bob=example.net", "owner-staff"])
@pytest.mark.parametrize("sender", ["erin@signed.example", "erin@example.com"])
def test_list_program_sends_on_by_normal(lab: Lab, sender: str, bounces_to: str, way: str):
    data = posted(lab, sender)
    message = arrived(lab, sent_on(lab, way, f"{bounces_to}@example.org", data))
    assert (lab.pool_of(message), message.envelope_sender) == ("normal", f"{bounces_to}@example.org")


def test_list_program_that_changes_the_subject_and_the_body_sends_on_by_normal(lab: Lab):
    data = posted(lab, "erin@example.com").replace(b"Subject: ", b"Subject: [staff] ") + b"-- \nfooter\n"
    message = arrived(lab, sent_on(lab, "smtp", "staff-bounces@example.org", data))
    assert (message.header("Subject") or "").startswith("[staff] ")
    assert (lab.pool_of(message), message.envelope_sender) == ("normal", "staff-bounces@example.org")


@pytest.mark.parametrize("way", WAYS)
def test_spoofed_sender_of_ours_never_leaves_by_normal_through_a_list_program(lab: Lab, way: str):
    data = posted(lab, "alice@example.org")
    message = arrived(lab, sent_on(lab, way, "staff-bounces@example.org", data))
    assert (lab.pool_of(message), message.envelope_sender) == ("relay", "staff-bounces@example.org")


@pytest.mark.parametrize("way", WAYS)
def test_list_that_the_message_was_not_posted_to_counts_for_nothing(lab: Lab, way: str):
    data = posted(lab, "erin@example.com")
    assert lab.pool_of(arrived(lab, sent_on(lab, way, "other-bounces@example.org", data))) == "relay"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sender", ["erin@example.com", "ceo@strict.example"])
def test_ticket_of_an_authenticated_message_authenticates_no_other_sender(lab: Lab, sender: str, way: str):
    """A local program has the message with its ticket, and may send it on with whatever sender it likes."""
    data = posted(lab, "erin@signed.example")
    message = arrived(lab, sent_on(lab, way, sender, data))
    assert (lab.pool_of(message), message.envelope_sender) == ("relay", sender)


@pytest.mark.parametrize("way", WAYS)
def test_ticket_of_an_authenticated_message_authenticates_no_other_text(lab: Lab, way: str):
    data = posted(lab, "erin@signed.example")
    data = data.replace(b"hello", b"Please pay into my new account").replace(b"Subject: ", b"Subject: Urgent ")
    message = arrived(lab, sent_on(lab, way, "erin@signed.example", data))
    assert (lab.pool_of(message), message.envelope_sender) == ("relay", "erin@signed.example")
