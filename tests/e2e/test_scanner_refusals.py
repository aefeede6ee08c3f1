"""What a scanner has refused does not leave, not even in its notice; who is told, and who is not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mailing import (
    HIGH_RISK,
    arrived,
    delivered,
    fresh,
    fresh_subject,
    mail,
    running,
    said_in,
    submit,
)

from deliverypools.lab.lab import TRUSTED_CLIENT, Lab
from deliverypools.lab.scanners import EICAR, ClamdServer
from deliverypools.lab.site import Site
from deliverypools.lab.waiting import wait_until

OUT, ARCHIVE = "out@example.net", "archive@example.net"
SITE = Site(
    virtual={"virtual@example.org": OUT, "team@example.org": "one@example.net, two@example.net"},
    aliases={"alias": OUT},
    forwards={"games": OUT, "news": f"\\news, {OUT}"},
)
INFECTED = f"{EICAR}\r\n"
REFUSED = "not sent by order of this site: it was found to hold spam or malware. If that is wrong, ask postmaster"
SUBJECT_OF_NOTICES = "Undelivered Mail Returned to Sender"


@pytest.fixture(scope="module")
def clamd(lab: Lab) -> Iterator[ClamdServer]:
    with ClamdServer(network=lab.network) as clamd:
        yield clamd


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with running(site=SITE, settings={"limits": {"messages_per_minute": 0}}) as lab:
        yield lab


@pytest.fixture(scope="module", autouse=True)
def rejecting(lab: Lab, clamd: ClamdServer) -> None:
    lab.write_settings({"spam": {"clamd": clamd.address, "malware": "reject"}})
    lab.restart_milter()


@pytest.fixture(autouse=True)
def nothing_infected_leaves(lab: Lab) -> Iterator[None]:
    lab.receiver.clear()
    yield
    lab.wait_until_queue_is_empty()
    assert not [message for message in lab.messages if EICAR.encode() in message.data]


@pytest.mark.parametrize("mailbox", ["virtual", "alias", "games"])
def test_a_refused_forward_does_not_leave_in_its_notice(lab: Lab, mailbox: str):
    sender = fresh()
    forward_infected(lab, mailbox, sender)
    # The mailbox that forwards is told, and forwards that too.
    notice = lab.wait_for(lambda message: OUT in message.recipients, timeout_seconds=30)[0]
    assert notice.source_address in HIGH_RISK
    assert notice.envelope_sender == ""
    assert REFUSED in said_in(notice)
    lab.wait_until_queue_is_empty()
    assert not [message for message in lab.messages if sender in message.recipients]


def forward_infected(lab: Lab, mailbox: str, sender: str) -> str:
    subject = fresh_subject()
    result = lab.send(sender, f"{mailbox}@example.org", mail(sender, body=INFECTED, Subject=subject))
    assert result.accepted
    return subject


def test_own_user_is_told_and_gets_the_header_only(lab: Lab):
    recipient = fresh()
    submit(lab, recipient, mail(body=INFECTED))
    notice = delivered(lab, "alice", SUBJECT_OF_NOTICES)
    assert REFUSED in said_in(notice)
    assert recipient in said_in(notice)
    assert EICAR not in notice.as_string()
    assert "text/rfc822-headers" in notice.as_string()


def test_own_user_who_forwards_his_mail_forwards_no_malware(lab: Lab):
    result = lab.send("news@example.org", fresh(), mail(body=INFECTED), port=587, auth=("alice@example.org", "secret"))
    assert result.accepted
    assert REFUSED in said_in(arrived(lab, OUT))


def test_an_alias_for_many_tells_postmaster(lab: Lab):
    sender = fresh()
    forward_infected(lab, "team", sender)
    lab.wait_until_queue_is_empty()
    assert lab.messages == []
    assert any("one@example.net" in said_in(message) for message in lab.mailbox("postmaster"))


@pytest.mark.parametrize("options", [[], ["-N", "never"]])
def test_sendmail_cannot_ask_for_silence(lab: Lab, options: list[str]):
    recipient = fresh()
    lab.sendmail("alice@example.org", [recipient], mail(body=INFECTED), user="nobody", options=options)
    mailbox = "postmaster" if options else "alice"
    wait_until(
        lambda: any(recipient in said_in(message) for message in lab.mailbox(mailbox)),
        timeout_seconds=30,
        what="notice",
    )


def test_null_sender_of_a_user_is_no_way_out(lab: Lab):
    result = lab.send("", fresh(), mail(body=INFECTED), port=587, auth=("alice@example.org", "secret"))
    assert result.accepted
    lab.wait_until_queue_is_empty()
    assert lab.messages == []


def test_a_copy_for_an_archive_is_refused_too_and_not_shown_to_the_sender(lab: Lab):
    lab.postfix.set_main({"always_bcc": ARCHIVE})
    try:
        recipient = fresh()
        submit(lab, recipient, mail(body=INFECTED, Subject=fresh_subject()))
        wait_until(
            lambda: any(recipient in said_in(message) for message in lab.mailbox("alice")),
            timeout_seconds=30,
            what="notice",
        )
        notice = next(message for message in lab.mailbox("alice") if recipient in said_in(message))
        assert ARCHIVE not in said_in(notice)
        # The copy alone: its message was delivered here, and postmaster learns of it.
        submit(lab, "bob@example.org", mail(body=INFECTED, Subject=fresh_subject()))
        wait_until(
            lambda: any(ARCHIVE in said_in(message) for message in lab.mailbox("postmaster")),
            timeout_seconds=30,
            what="notice to postmaster",
        )
    finally:
        lab.postfix.set_main({"always_bcc": ""})


def test_express_does_not_tell_a_stranger_whom_sendmail_made_up():
    with running(profile="express") as lab, ClamdServer(network=lab.network) as clamd:
        lab.write_settings({"spam": {"clamd": clamd.address, "malware": "reject"}})
        lab.restart_milter()
        victim, recipient = fresh(), fresh()
        lab.sendmail(victim, [recipient], mail(sender=victim, body=INFECTED), user="nobody")
        wait_until(lambda: "rule=malware" in lab.milter.log(), timeout_seconds=30, what="decision")
        wait_until(lambda: lab.postfix.queue_size() == 1, timeout_seconds=30, what="held message")
        assert lab.postfix.queue()[0]["queue_name"] == "hold"
        assert "hold=yes" in next(line for line in lab.milter.log().splitlines() if "rule=malware" in line)
        assert lab.messages == []


def test_express_tells_the_client():
    with running(profile="express") as lab, ClamdServer(network=lab.network) as clamd:
        lab.write_settings({"spam": {"clamd": clamd.address, "malware": "reject"}})
        lab.restart_milter()
        result = lab.send(
            "alice@example.org", fresh(), mail(body=INFECTED), port=587, auth=("alice@example.org", "secret")
        )
        assert result.code == 550
        assert "found to hold malware. If that is wrong, ask postmaster@example.org" in result.text
        assert lab.messages == []


def test_a_copy_for_an_auditor_outside_is_not_refused_itself():
    policy = {"name": "default", "bcc_suspicious_mail": ["audit@example.net"]}
    with running(settings={"outbound_policies": [policy]}) as lab, ClamdServer(network=lab.network) as clamd:
        lab.write_settings({"outbound_policies": [policy], "spam": {"clamd": clamd.address, "malware": "reject"}})
        lab.restart_milter()
        submit(lab, fresh(), mail(body=INFECTED))
        copy = arrived(lab, "audit@example.net")
        assert copy.source_address in HIGH_RISK
        assert EICAR in copy.data.decode()


def test_who_sends_without_a_ticket_is_not_told_but_postmaster():
    with running() as lab, ClamdServer(network=lab.network) as clamd:
        lab.write_settings({"spam": {"clamd": clamd.address, "malware": "reject"}})
        lab.restart_milter()
        victim = fresh()
        lab.postfix.set_main({"smtpd_milters": "", "non_smtpd_milters": ""})
        result = lab.send(victim, fresh(), mail(victim, body=INFECTED), client_address=TRUSTED_CLIENT)
        assert result.accepted
        wait_until(
            lambda: any(REFUSED in said_in(message) for message in lab.mailbox("postmaster")),
            timeout_seconds=30,
            what="notice to postmaster",
        )
        lab.wait_until_queue_is_empty()
        assert lab.messages == []


@pytest.mark.parametrize("sender", ["alice@example.org", ""])
def test_the_ticket_of_a_bounce_is_no_way_round_the_scanner(lab: Lab, sender: str):
    subject = fresh_subject()
    submit(lab, fresh(), mail(body=INFECTED, Subject=subject))
    wait_until(
        lambda: any(subject in message.as_string() for message in lab.mailbox("alice")),
        timeout_seconds=30,
        what="bounce",
    )
    bounce = next(message for message in lab.mailbox("alice") if subject in message.as_string())
    ticket = str(bounce["X-Delivery-Pool-Ticket"]).replace("\n", "\r\n")
    recipient = fresh()
    data = mail(body=INFECTED, X_Delivery_Pool_Ticket=ticket)
    lab.sendmail(sender, [recipient], data, user="nobody")
    wait_until(
        lambda: any(recipient in said_in(message) for message in lab.mailbox("postmaster")),
        timeout_seconds=30,
        what="notice to postmaster",
    )
