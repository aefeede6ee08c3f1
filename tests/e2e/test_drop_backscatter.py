"""`bounces.drop_backscatter`: which of Postfix's own notices leave, and what the drop ledger says of the others."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from mailing import (
    ALICE,
    HIGH_RISK,
    arrived,
    delivered,
    forward,
    fresh,
    fresh_subject,
    mail,
    notice_to,
    running,
    submit,
)

from deliverypools.adapters.sqlite_state import SQLiteState
from deliverypools.core.records import DroppedNotice
from deliverypools.lab.lab import OUTSIDE_CLIENT, TRUSTED_CLIENT, Lab
from deliverypools.lab.receiver import Reply
from deliverypools.lab.signing import signed
from deliverypools.lab.site import Site
from deliverypools.lab.waiting import wait_until

OUT = "full@example.net"
FULL = Reply(552, "5.2.2 Mailbox full")
SITE = Site(
    virtual={"virtual@example.org": OUT},
    aliases={"alias": OUT, "command": '"|exit 77"', "list": OUT, "owner-list": "alice"},
    main={"header_checks": "regexp:{config}/site_checks", "delay_warning_time": "0"},
    files={"site_checks": "/^Subject: Undelivered Mail/ DISCARD\n/^Subject: Successful Mail/ DISCARD\n"},
)
FORGED = "strict.example"
"""SPF fails, and DMARC."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with running(site=SITE, settings={"bounces": {"drop_backscatter": True}}) as lab:
        lab.receiver.answer(OUT, FULL)
        yield lab


def ledger(lab: Lab) -> list[DroppedNotice]:
    state = SQLiteState(str(lab.directory / "state.db"), time.time)
    try:
        return state.dropped()
    finally:
        state.close()


def dropped_for(lab: Lab, sender: str) -> DroppedNotice:
    """Return the one entry about notices to that sender, once nothing is queued any more."""
    wait_until(lambda: any(one.sender == sender for one in ledger(lab)), timeout_seconds=30, what=f"entry of {sender}")
    lab.wait_until_queue_is_empty()
    found = [one for one in ledger(lab) if one.sender == sender]
    assert len(found) == 1
    assert not [message for message in lab.messages if sender in message.recipients]
    return found[0]


def sent_to(lab: Lab, sender: str) -> None:
    """See that the notice leaves by high-risk, and that the ledger has none of it."""
    assert notice_to(lab, sender).source_address in HIGH_RISK
    assert not [one for one in ledger(lab) if one.sender == sender]


@pytest.mark.parametrize("way", ["virtual", "alias", "command"])
def test_notice_to_a_forged_sender_is_dropped_and_on_record(lab: Lab, way: str):
    sender = fresh(FORGED)
    subject = forward(lab, way, sender, From=f"The Boss <{sender}>")
    entry = dropped_for(lab, sender)
    assert entry.kind == "non-delivery"
    assert entry.client_address == lab.address(OUTSIDE_CLIENT)
    assert "spf=fail" in entry.reason
    assert entry.subject == subject
    assert entry.header_from == f"The Boss <{sender}>"
    assert entry.first_lines == "hello"
    assert abs(entry.at - time.time()) < 60
    if way != "command":
        assert "Mailbox full" in entry.recipients
        assert OUT in entry.recipients


@pytest.mark.parametrize("domain", ["signed.example", "spf.example"])
def test_notice_to_an_authenticated_sender_leaves_by_high_risk(lab: Lab, domain: str):
    sender = fresh(domain)
    forward(lab, "virtual", sender)
    sent_to(lab, sender)


def test_notice_to_a_sender_who_published_nothing_is_sent(lab: Lab):
    sender = fresh("example.com")
    forward(lab, "virtual", sender)
    sent_to(lab, sender)


def test_notice_to_a_sender_whom_dns_cannot_tell_about_is_sent(lab: Lab):
    sender = fresh("broken.example")
    forward(lab, "command", sender)
    sent_to(lab, sender)


def test_notice_about_spam_of_nobody_in_particular_is_dropped(lab: Lab):
    sender = fresh("example.com")
    forward(lab, "virtual", sender, X_Spam_Flag="YES")
    assert "spam" in dropped_for(lab, sender).reason


def test_notice_about_spam_of_an_authenticated_sender_is_sent(lab: Lab):
    sender = fresh("spf.example")
    forward(lab, "virtual", sender, X_Spam_Flag="YES")
    sent_to(lab, sender)


def test_forged_envelope_sender_behind_an_authenticated_author_is_dropped(lab: Lab):
    sender = fresh(FORGED)
    data = signed(mail("erin@signed.example", Subject=fresh_subject()), "signed.example")
    assert lab.send(sender, "virtual@example.org", data).accepted
    assert "spf=fail" in dropped_for(lab, sender).reason


@pytest.mark.parametrize("notify", ["FAILURE", "SUCCESS,FAILURE,DELAY"])
def test_notice_that_was_asked_for_is_sent(lab: Lab, notify: str):
    sender = fresh(FORGED)
    result = lab.send(sender, "virtual@example.org", mail(sender), rcpt_options=[f"NOTIFY={notify}"])
    assert result.accepted
    sent_to(lab, sender)


def test_own_user_whom_somebody_forged_gets_the_notice(lab: Lab):
    forward(lab, "virtual", "bob@example.org")
    notice = delivered(lab, "bob", "Undelivered Mail Returned to Sender")
    assert notice["X-Delivery-Pool-DSN"].startswith("backscatter; ")
    assert not [one for one in ledger(lab) if one.sender == "bob@example.org"]


def test_authenticated_user_gets_the_notice_although_the_site_discards_such_subjects(lab: Lab):
    submit(lab, OUT)
    notice = delivered(lab, "alice", "Undelivered Mail Returned to Sender")
    assert notice["X-Delivery-Pool-DSN"].startswith("genuine; ")


def test_trusted_client_with_a_forged_sender_gets_the_notice(lab: Lab):
    sender = fresh(FORGED)
    assert lab.send(sender, OUT, mail(sender), client_address=TRUSTED_CLIENT).accepted
    sent_to(lab, sender)


def test_submission_with_a_foreign_sender_gets_the_notice(lab: Lab):
    sender = fresh(FORGED)
    assert lab.send(sender, OUT, mail(sender), port=587, auth=ALICE).accepted
    sent_to(lab, sender)


def test_owner_of_a_list_gets_the_notice(lab: Lab):
    before = len(lab.mailbox("alice"))
    forward(lab, "list", fresh(FORGED))
    wait_until(lambda: len(lab.mailbox("alice")) > before, timeout_seconds=30, what="notice to the owner")
    lab.wait_until_queue_is_empty()


def test_message_that_goes_elsewhere_too_is_delivered_there_and_nothing_waits(lab: Lab):
    sender, other = fresh(FORGED), fresh("example.net")
    subject = fresh_subject()
    assert lab.send(sender, ["virtual@example.org", "bob@example.org"], mail(sender, Subject=subject)).accepted
    delivered(lab, "bob", subject)
    dropped_for(lab, sender)
    submit(lab, other)
    arrived(lab, other)


def test_large_message_of_which_the_header_alone_comes_back(lab: Lab):
    sender = fresh(FORGED)
    data = mail(sender, body=("x" * 70 + "\r\n") * 1500)
    assert lab.send(sender, "virtual@example.org", data).accepted
    assert dropped_for(lab, sender).first_lines == ""


def test_ticket_in_a_returned_message_that_a_forger_wrote_himself_is_not_believed(lab: Lab):
    # A copy of a ticket that says "submission" lies in a local mailbox: alice has it.
    subject = fresh_subject()
    submit(lab, "bob@example.org", mail(Subject=subject))
    ticket = delivered(lab, "bob", subject)["X-Delivery-Pool-Ticket"]
    sender = fresh(FORGED)
    forward(lab, "virtual", sender, X_Delivery_Pool_Ticket=" ".join(ticket.split()))
    dropped_for(lab, sender)
