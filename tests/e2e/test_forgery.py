"""Nobody chooses a pool but the milter: forged tags, forged and stolen tickets."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator

import pytest
from mailing import HIGH_RISK, NORMAL, RELAY, arrived, decision, fresh, from_outside, mail, running, submit

from deliverypools.lab.lab import OUTSIDE_CLIENT, TRUSTED_CLIENT, Lab, transaction
from deliverypools.lab.postfix import Site
from deliverypools.lab.waiting import wait_until


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    site = Site(virtual={"alias@example.org": "via-alias@example.net"})
    with running(site=site, settings={"milter": {"undecided_after": "20s"}}) as lab:
        yield lab


def stolen_ticket(lab: Lab, data: bytes) -> str:
    """Return the ticket in the local copy of a message that alice submitted."""
    before = len(lab.mailbox("bob"))
    submit(lab, "bob@example.org", data)
    wait_until(lambda: len(lab.mailbox("bob")) > before, timeout_seconds=30, what="the copy in bob's mailbox")
    return "".join(str(lab.mailbox("bob")[-1]["X-Delivery-Pool-Ticket"]).split())


def to_the_listener(lab: Lab, recipient: str, data: bytes, sender: str = "alice@example.org") -> tuple[int, str]:
    """Send as a local process that connects to the listener behind the hop."""
    with lab.network.inside(), smtplib.SMTP("127.0.0.1", 10027, timeout=60) as smtp:
        result = transaction(smtp, sender, [recipient], data)
        return result.code, result.text


def test_tag_forged_from_outside_does_not_choose_a_pool(lab: Lab):
    from_outside(lab, "alias@example.org", mail(X_Delivery_Pool="normal"))
    assert arrived(lab, "via-alias@example.net").source_address in RELAY


def test_tag_forged_by_a_user_does_not_choose_a_pool(lab: Lab):
    recipient = fresh()
    submit(lab, recipient, mail(X_Delivery_Pool="normal", X_Spam_Flag="YES"))
    message = arrived(lab, recipient)
    assert message.source_address in HIGH_RISK
    assert b"X-Delivery-Pool" not in message.data


def test_tag_forged_with_sendmail_does_not_choose_a_pool(lab: Lab):
    recipient = fresh()
    lab.sendmail("carol@elsewhere.example", [recipient], mail(X_Delivery_Pool="normal"), user="nobody")
    assert arrived(lab, recipient).source_address in RELAY


def test_many_forged_tags_are_all_removed(lab: Lab):
    recipient = fresh()
    submit(lab, recipient, b"X-Delivery-Pool: relay\r\nx-delivery-POOL:\r\n high-risk\r\n" * 20 + mail())
    message = arrived(lab, recipient)
    assert message.source_address in NORMAL
    assert b"elivery-pool" not in message.data.lower()


def test_ticket_forged_from_outside_is_replaced(lab: Lab):
    lab.receiver.clear()
    from_outside(lab, "alias@example.org", mail(X_Delivery_Pool_Ticket="gAAAAABkforged"))
    assert arrived(lab, "via-alias@example.net").source_address in RELAY


def test_stolen_ticket_is_replaced_when_it_comes_over_smtp(lab: Lab):
    data = mail()
    ticket = stolen_ticket(lab, data)
    lab.receiver.clear()
    from_outside(lab, "alias@example.org", f"X-Delivery-Pool-Ticket: {ticket}\r\n".encode() + data)
    assert arrived(lab, "via-alias@example.net").source_address in RELAY


def test_stolen_ticket_of_a_submission_is_worth_nothing_to_sendmail(lab: Lab):
    data = mail()
    ticket = stolen_ticket(lab, data)
    recipient = fresh()
    lab.sendmail(
        "carol@elsewhere.example", [recipient], f"X-Delivery-Pool-Ticket: {ticket}\n".encode() + data, user="nobody"
    )
    assert arrived(lab, recipient).source_address in RELAY
    assert "account=uid:65534" in decision(lab, recipient)


def _without(name: bytes, data: bytes) -> bytes:
    return b"".join(line for line in data.splitlines(keepends=True) if not line.startswith(name + b":"))


@pytest.mark.parametrize("missing", [b"Message-ID", b"Date", b"From", b"none"])
@pytest.mark.parametrize("way", ["sendmail", "smtp"])
def test_outside_mail_sent_on_from_a_mailbox_stays_outside_mail(lab: Lab, missing: bytes, way: str):
    """As sieve's redirect and procmail do it: Postfix adds what is missing, filters change the Subject."""
    before = len(lab.mailbox("bob"))
    sender = "alice@example.org"
    result = lab.send(sender, "bob@example.org", _without(missing, mail()), client_address=OUTSIDE_CLIENT)
    assert result.accepted
    wait_until(lambda: len(lab.mailbox("bob")) > before, timeout_seconds=30, what="the copy in bob's mailbox")
    copy = lab.mailbox("bob")[-1].as_bytes().replace(b"Subject: hello", b"Subject: [EXT] hello")
    recipient = fresh()
    if way == "sendmail":
        lab.sendmail(sender, [recipient], copy, user="nobody")
    else:
        assert lab.send(sender, recipient, copy, client_address=TRUSTED_CLIENT).accepted
    assert arrived(lab, recipient).source_address in RELAY


def test_ticket_copied_to_another_message_is_not_believed_by_the_listener(lab: Lab):
    ticket = stolen_ticket(lab, mail())
    recipient = fresh()
    code, text = to_the_listener(lab, recipient, f"X-Delivery-Pool-Ticket: {ticket}\r\n".encode() + mail())
    # Nothing tells how long it has waited (no Received field of ours), so it leaves at once, by high-risk.
    assert (code, recipient in text) == (250, False)
    assert arrived(lab, recipient).source_address in HIGH_RISK
    assert "rule=undecided" in decision(lab, recipient)
    assert "another message" in decision(lab, recipient)


def test_message_put_into_the_listener_with_a_forged_tag_leaves_by_high_risk(lab: Lab):
    recipient = fresh()
    code, _ = to_the_listener(lab, recipient, mail(X_Delivery_Pool="normal"))
    assert code == 250
    assert arrived(lab, recipient).source_address in HIGH_RISK


def test_message_put_into_the_listener_with_a_forged_received_field_waits_then_leaves_by_high_risk(lab: Lab):
    date = mail().partition(b"Date: ")[2].partition(b"\r\n")[0].replace(b"-0000", b"+0000")
    received = b"Received: by mx.example.org (Postfix, from userid 0) id 4ckz3y1Qz0z1; " + date + b"\r\n"
    recipient = fresh()
    code, text = to_the_listener(lab, recipient, received + mail())
    assert (code, "4.7.1" in text) == (451, True)
