"""DSNs that arrive from outside for our users: `X-Delivery-Pool-DSN`, and what `bounces.reject_backscatter` refuses."""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import formatdate

import pytest
from mailing import ALICE, arrived, arrived_with, delivered, fresh, fresh_subject, from_outside, mail, running

from deliverypools.adapters.sqlite_state import SQLiteState
from deliverypools.core.surges.events import NdrEvent
from deliverypools.lab.lab import TRUSTED_CLIENT, Lab
from deliverypools.lab.receiver import REFUSE
from deliverypools.lab.site import Site
from deliverypools.lab.waiting import wait_until

DSN_HEADER = "X-Delivery-Pool-DSN"


SITE = Site(virtual={"forwards@example.org": "far@example.net"})


@pytest.fixture(scope="module", params=[False, True], ids=["mark", "reject"])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    with running(site=SITE, settings={"bounces": {"reject_backscatter": request.param}}) as lab:
        lab.refuses = request.param  # type: ignore[attr-defined]
        # From here on the decision log tells of everything.
        from_outside(lab, "bob@example.org")
        submit_and_arrive(lab)
        yield lab


def submit_and_arrive(lab: Lab, sender: tuple[str, str] = ALICE) -> bytes:
    """Send a message of ours; return it as it arrived outside."""
    recipient = fresh()
    assert lab.send(sender[0], recipient, mail(sender[0]), port=587, auth=sender).accepted
    return arrived(lab, recipient).data


def bounce(returned: bytes, *, subject: str, headers_only: bool = False, dsn_header: str = "") -> bytes:
    """Return a non-delivery report as another server makes it (RFC 3464)."""
    if headers_only:
        returned = returned.partition(b"\r\n\r\n")[0] + b"\r\n"
    forged = f"{DSN_HEADER}: {dsn_header}\r\n" if dsn_header else ""
    head = f"""\
From: Mail Delivery System <MAILER-DAEMON@mx.example.net>\r
To: alice@example.org\r
Subject: {subject}\r
Date: {formatdate()}\r
Message-ID: <{subject.replace(" ", ".")}@mx.example.net>\r
{forged}MIME-Version: 1.0\r
Content-Type: multipart/report; report-type=delivery-status; boundary="=_b"\r
\r
--=_b\r
Content-Type: text/plain\r
\r
The recipient does not exist.\r
--=_b\r
Content-Type: message/delivery-status\r
\r
Reporting-MTA: dns; mx.example.net\r
\r
Final-Recipient: rfc822; nobody@example.net\r
Action: failed\r
Status: 5.1.1\r
Diagnostic-Code: smtp; 550 5.1.1 no such user\r
\r
--=_b\r
Content-Type: {"text/rfc822-headers" if headers_only else "message/rfc822"}\r
\r
"""
    return head.encode() + returned + b"\r\n--=_b--\r\n"


def never_sent() -> bytes:
    """Return a message in alice's name that somebody else has sent."""
    return (
        b"Received: from botnet (unknown [203.0.113.99]) by mx.example.net (Postfix) with ESMTP id 4XYZ1234567;\r\n\t"
        + formatdate().encode()
        + b"\r\n"
        # The decision log of this lab begins now; an hour is left for clocks that differ.
        + mail(
            "alice@example.org",
            Message_ID=f"<{fresh_subject().replace(' ', '.')}@forged.example>",
            Date=formatdate(time.time() + 7200),
        )
    )


def marked(lab: Lab, data: bytes, subject: str, **envelope: str) -> str:
    """Let a bounce arrive for alice; return what our header says of it."""
    result = lab.send(envelope.pop("sender", ""), "alice@example.org", data, **envelope)  # type: ignore[arg-type]
    assert result.accepted, result
    found = delivered(lab, "alice", subject).get_all(DSN_HEADER, [])
    assert len(found) <= 1
    return found[0] if found else ""


@pytest.mark.parametrize("headers_only", [False, True])
def test_bounce_of_a_message_of_ours_is_genuine(lab: Lab, headers_only: bool):
    subject = fresh_subject()
    data = bounce(submit_and_arrive(lab), subject=subject, headers_only=headers_only)
    assert marked(lab, data, subject).startswith("genuine; ")


def test_bounce_of_a_message_that_was_never_sent_is_backscatter(lab: Lab):
    subject = fresh_subject()
    data = bounce(never_sent(), subject=subject)
    if lab.refuses:  # type: ignore[attr-defined]
        result = lab.send("", "alice@example.org", data)
        assert result.code == 550
        assert "5.7.1" in result.text
        return
    assert marked(lab, data, subject).startswith("backscatter; ")


def test_bounce_of_another_users_message_is_not_genuine(lab: Lab):
    subject = fresh_subject()
    data = bounce(submit_and_arrive(lab, ("bob@example.org", "secret")), subject=subject)
    assert marked(lab, data, subject).startswith("unknown; ")


def test_bounce_of_what_a_forger_had_forwarded_here_is_not_genuine(lab: Lab):
    subject = fresh_subject()
    assert lab.send("alice@example.org", "forwards@example.org", mail("alice@example.org", Subject=subject)).accepted
    sent = arrived_with(lab, subject).data
    subject = fresh_subject()
    assert marked(lab, bounce(sent, subject=subject), subject).startswith("unknown; ")


def test_what_we_tell_our_users_leaves_with_no_message(lab: Lab):
    subject = fresh_subject()
    assert lab.send("", "forwards@example.org", bounce(b"", subject=subject)).accepted
    assert "X-Delivery-Pool" not in arrived_with(lab, subject).data.decode()


def test_bounce_that_returns_nothing_is_unknown(lab: Lab):
    subject = fresh_subject()
    data = bounce(b"", subject=subject)
    assert marked(lab, data, subject).startswith("unknown; ")


def test_bounce_that_names_our_host_is_not_backscatter(lab: Lab):
    subject = fresh_subject()
    received = b"Received: by mx.example.org (Postfix, from userid 1000) id 4XYZ1234567; " + formatdate().encode()
    data = bounce(received + b"\r\n" + never_sent(), subject=subject)
    assert marked(lab, data, subject).startswith("unknown; ")


def test_header_of_ours_that_a_stranger_wrote_is_replaced(lab: Lab):
    subject = fresh_subject()
    data = bounce(b"", subject=subject, dsn_header="genuine; trust me")
    assert marked(lab, data, subject).startswith("unknown; ")


def test_header_of_ours_in_other_mail_is_removed(lab: Lab):
    subject = fresh_subject()
    data = mail("erin@example.com", Subject=subject, X_Delivery_Pool_DSN="genuine; trust me")
    assert lab.send("erin@example.com", "alice@example.org", data).accepted
    assert delivered(lab, "alice", subject)[DSN_HEADER] is None
    subject = fresh_subject()
    data = mail(Subject=subject, X_Delivery_Pool_DSN="genuine; trust me")
    assert lab.send(ALICE[0], "alice@example.org", data, port=587, auth=ALICE).accepted
    assert delivered(lab, "alice", subject)[DSN_HEADER] is None


def test_what_the_first_mx_of_ours_has_found_stays(lab: Lab):
    subject = fresh_subject()
    data = bounce(b"", subject=subject, dsn_header="genuine; about message 4X")
    assert marked(lab, data, subject, client_address=TRUSTED_CLIENT) == "genuine; about message 4X"


def test_vacation_reply_has_no_such_header(lab: Lab):
    subject = fresh_subject()
    data = mail("carol@example.com", Subject=subject, Auto_Submitted="auto-replied", body="I am away\r\n")
    assert marked(lab, data, subject) == ""


def test_bounce_with_a_sender_is_judged_like_any(lab: Lab):
    subject = fresh_subject()
    data = bounce(submit_and_arrive(lab), subject=subject)
    assert marked(lab, data, subject, sender="mailer-daemon@example.com").startswith("genuine; ")


@pytest.mark.parametrize("end", ["message", "quit", "rset", "valid recipient"])
def test_refused_recipients_of_a_client_are_one_event_when_it_leaves(lab: Lab, end: str):
    known = {one.event_id for one in _events(lab)}
    with lab.session() as smtp:
        smtp.mail("erin@example.com")
        for number in range(15):  # fewer than smtpd_hard_error_limit
            assert smtp.rcpt(f"nobody{number}@example.org")[0] == 550
        if end in ("message", "valid recipient"):
            assert smtp.rcpt("bob@example.org")[0] == 250
        if end == "message":
            assert smtp.data(mail("erin@example.com"))[0] == 250
        if end == "rset":
            smtp.rset()

    def new() -> list[NdrEvent]:
        return [one for one in _events(lab) if one.event_id not in known]

    wait_until(lambda: bool(new()), timeout_seconds=10, what="event")
    (event,) = new()
    assert (event.way, event.domain, event.address) == ("refused", "example.org", "nobody0@example.org")
    assert (event.amount, event.local_parts) == (15, 15)


def test_an_event_of_our_own_notice_quotes_it_too(lab: Lab):
    recipient = fresh()
    lab.receiver.answer(recipient, REFUSE)
    assert lab.send(ALICE[0], recipient, mail(ALICE[0]), port=587, auth=ALICE).accepted
    wait_until(lambda: any(one.way == "made" for one in _events(lab)), timeout_seconds=20, what="event")
    (event,) = [one for one in _events(lab) if one.way == "made"]
    assert (event.category, event.reply) == ("unknown-user", "550 5.1.1 No such user here")


def _events(lab: Lab) -> list[NdrEvent]:
    state = SQLiteState(str(lab.directory / "state.db"), time.time)
    try:
        return state.ndrs(since=0.0, most=1000)
    finally:
        state.close()
