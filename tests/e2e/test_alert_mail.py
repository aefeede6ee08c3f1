"""What administrators are told, by mail, through the Postfix that they are told about."""

from __future__ import annotations

from collections.abc import Callable
from email.message import Message
from mailbox import MaildirMessage

import pytest
from mailing import ALICE, BOB, HIGH_RISK, arrived, fresh, mail, submit

from deliverypools.lab.lab import Lab
from deliverypools.lab.postfix import Site
from deliverypools.lab.waiting import wait_until

LIMIT = 3
OURS = {"audit@example.com", "admin@example.com"}


def told(lab: Lab, mailbox: str, subject: str) -> list[MaildirMessage]:
    """Wait until a mailbox holds a message with this in its Subject; return all of them."""

    def found() -> list[MaildirMessage]:
        return [message for message in lab.mailbox(mailbox) if subject in str(message["Subject"])]

    wait_until(lambda: bool(found()), timeout_seconds=30, what=f"{subject!r} in the mailbox {mailbox}")
    return found()


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(
        settings={
            "limits": {"recipients_per_day": LIMIT},
            "alerts": {"mail_to": ["postmaster@example.org"]},
            "outbound_policies": [{"name": "default", "bcc_suspicious_mail": ["root@example.org"]}],
        },
    )


def over_the_limit(lab: Lab, account: tuple[str, str], **headers: str) -> str:
    submit(lab, [fresh() for _ in range(LIMIT)], auth=account)
    recipient = fresh()
    submit(lab, recipient, mail(account[0], **headers), auth=account)
    assert arrived(lab, recipient).source_address in HIGH_RISK
    return recipient


def test_alert_reaches_the_administrator_once_with_the_null_sender(lab: Lab):
    over_the_limit(lab, ALICE, Subject="Cheap watches")
    submit(lab, fresh())
    over_the_limit(lab, BOB)
    told(lab, "postmaster", "bob@example.org is over its limit")
    lab.wait_until_queue_is_empty()
    (alert,) = told(lab, "postmaster", "alice@example.org is over its limit (recipients_per_day)")
    assert alert["Return-Path"] == "<>"
    assert alert["From"] == "Delivery Pools <delivery-pools@example.org>"
    assert "  delivery-pools usage alice@example.org\n" in alert.get_payload()
    assert "X-Delivery-Pool" not in alert


def test_our_own_mail_is_charged_to_nobody(lab: Lab):
    """Alerts to an address outside, more of them than anybody may send."""
    lab.write_settings(
        {
            "limits": {"recipients_per_day": 1},
            "alerts": {"mail_to": ["admin@example.com"]},
        }
    )
    lab.policy.stop()
    lab.policy.start()
    lab.restart_milter()
    for number in range(3):
        lab.sendmail("alice@example.org", [fresh(), fresh()], mail(), user=("nobody", "games", "daemon")[number])
    alerts = lab.wait_for(lambda message: "admin@example.com" in message.recipients, count=3, timeout_seconds=30)
    assert [message.envelope_sender for message in alerts] == [""] * 3
    lab.wait_until_queue_is_empty()
    assert "is over its limit" in str(alerts[0].header("Subject"))
    decisions = [line for line in lab.milter.log().splitlines() if "null reverse-path" in line]
    assert len(decisions) == 3
    assert all('account=""' in line for line in decisions)


def test_copy_of_suspicious_mail_is_a_message_of_its_own(lab: Lab):
    recipient = over_the_limit(lab, ALICE, Subject="Cheap watches")
    (copy,) = told(lab, "root", "Copy of suspicious mail: Cheap watches")
    assert copy["Return-Path"] == "<>"
    assert copy["X-Delivery-Pool-Copy"] == "over_limit"
    note, attached = copy.get_payload()
    assert isinstance(note, Message)
    assert isinstance(attached, Message)
    assert "the limit is 3" in note.get_payload()
    original = attached.get_payload(0)
    assert isinstance(original, Message)
    assert original["Subject"] == "Cheap watches"
    assert "X-Delivery-Pool-Ticket" not in original
    went = arrived(lab, recipient)
    assert went.recipients == (recipient,)
    assert original.get_payload() == went.data.partition(b"\r\n\r\n")[2].decode().replace("\r\n", "\n")
    lab.wait_until_queue_is_empty()
    assert len(told(lab, "root", "Copy of suspicious mail")) == 1


@pytest.mark.parametrize("profile", ["hop", "express"])
def test_our_own_mail_is_known_where_no_pass_can_see_who_called_sendmail(make_lab: Callable[..., Lab], profile: str):
    """Then all sendmail(1) mail is one account: alerts must get through, and copies must not be copied again."""
    lab = make_lab(
        profile=profile,
        site=Site(
            main={"header_checks": "regexp:{config}/privacy"},
            files={"privacy": "/^Received:.*from userid/ IGNORE\n"},
        ),
        settings={
            "limits": {"recipients_per_day": LIMIT},
            "alerts": {"mail_to": ["admin@example.com"]},
            "outbound_policies": [
                {"name": "default", "over_limit": "restrict", "bcc_suspicious_mail": ["audit@example.com"]}
            ],
        },
    )
    recipients = [fresh() for _ in range(LIMIT + 2)]
    for recipient in recipients:
        lab.sendmail("alice@example.org", [recipient], mail(), user="nobody")
        arrived(lab, recipient)
    assert [lab.pool_of(arrived(lab, recipient)) for recipient in recipients] == ["normal"] * LIMIT + ["high-risk"] * 2
    lab.wait_for(lambda message: "audit@example.com" in message.recipients, count=2)
    lab.wait_for(lambda message: "admin@example.com" in message.recipients)
    lab.wait_until_queue_is_empty()
    assert len([message for message in lab.messages if "audit@example.com" in message.recipients]) == 2
    spool = lab.directory / "spool" / "copies"
    wait_until(lambda: not list(spool.iterdir()), timeout_seconds=10, what="the spool is empty")
    assert all(message.envelope_sender == "" for message in lab.messages if set(message.recipients) & OURS)
