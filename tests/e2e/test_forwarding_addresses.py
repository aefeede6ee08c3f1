"""Senders of odd shape, and what else was said in MAIL FROM and RCPT TO: what SRS makes of them on the wire.

Where a sender is rewritten, a bounce is sent to what arrived: it must reach the sender, spelt as before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from mailing import (
    RELAY,
    arrived_with,
    decision_about,
    fresh_subject,
    is_rewritten,
    mail,
    notice_to,
    running,
)

from deliverypools.lab.dns_server import txt
from deliverypools.lab.lab import OUTSIDE_CLIENT, Lab
from deliverypools.lab.receiver import ReceivedMessage
from deliverypools.lab.site import Site

SITE = Site(virtual={"alias@example.org": "out@example.net"}, forwards={"games": "out@example.net"})
OF_SPF = {"MX": ["10 mx.other.example."], "TXT": [txt("v=spf1 ip4:203.0.113.1 -all")]}
LONG_DOMAIN = f"{'d' * 60}.{'d' * 60}.{'d' * 60}.example"
ROOM = 64 - len("SRS0=HHHH=TT=spf.example=")
"""Octets of a local part at spf.example that is rewritten to one of 64."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    zones = {"xn--bcher-kva.example": OF_SPF, LONG_DOMAIN: OF_SPF}
    with running(site=SITE, zones=zones, settings={"limits": {"messages_per_minute": 0}}) as lab:
        yield lab


def forwarded(lab: Lab, sender: str, mailbox: str = "alias", *, smtputf8: bool = False) -> ReceivedMessage:
    """Forward a message of an authenticated sender; return what arrived."""
    subject = fresh_subject()
    recipient, data = f"{mailbox}@example.org", mail("erin@spf.example", Subject=subject)
    assert lab.send(sender, recipient, data, client_address=OUTSIDE_CLIENT, smtputf8=smtputf8).accepted
    message = arrived_with(lab, subject)
    assert message.source_address in RELAY
    return message


def assert_bounce_reaches(lab: Lab, sender: str, srs_address: str, *, smtputf8: bool = False) -> None:
    data = mail("mailer-daemon@example.net", Subject=fresh_subject())
    result = lab.send("", srs_address, data, client_address=OUTSIDE_CLIENT, smtputf8=smtputf8)
    assert result.accepted, result
    assert lab.pool_of(notice_to(lab, sender)) == "high-risk"


@pytest.mark.parametrize(
    "sender",
    [
        "Mixed.Case@spf.example",
        "extension+tag@spf.example",
        "a=b=c@spf.example",
        "o'brien@spf.example",
        "#$&*/?^_`{|}~-@spf.example",
        "owner-list@spf.example",
        "x" * ROOM + "@spf.example",
    ],
)
def test_sender_is_rewritten_and_bounces_lead_back(lab: Lab, sender: str):
    message = forwarded(lab, sender, "games")
    assert is_rewritten(message.envelope_sender, sender)
    assert_bounce_reaches(lab, sender, message.envelope_sender)


@pytest.mark.parametrize("local_part", ['"odd local"', r'"a\"b"', r'"back\\slash"', '"two..dots"', '".dot"'])
def test_quoted_local_part_is_rewritten_and_quoted_where_that_needs_it(lab: Lab, local_part: str):
    sender = f"{local_part}@spf.example"
    message = forwarded(lab, sender)
    form = r"SRS0=.{4}=..=spf\.example=" + re.escape(local_part[1:-1])
    quote = "" if local_part == '".dot"' else '"'
    assert re.fullmatch(rf"{quote}{form}{quote}@srs\.example\.org", message.envelope_sender)
    assert_bounce_reaches(lab, sender, message.envelope_sender)


@pytest.mark.parametrize("sender", ["x" * (ROOM + 1) + "@spf.example", f"erin@{LONG_DOMAIN}"])
def test_sender_too_long_for_srs_leaves_by_relay_as_it_is_and_the_log_says_why(lab: Lab, sender: str):
    message = forwarded(lab, sender)
    assert message.envelope_sender == sender
    octets = 25 - len("spf.example") + len(sender) - len("@")
    reason = f"sender not rewritten: SRS address would have {octets} octets in its local part, 64 are allowed"
    assert reason in decision_about(lab, message)


@pytest.mark.parametrize("local_part", ['"a@b"', "a%b", "a!b", '""'])
def test_sender_to_whose_srs_address_no_bounce_would_lead_leaves_as_it_is(lab: Lab, local_part: str):
    message = forwarded(lab, f"{local_part}@spf.example")
    assert message.envelope_sender == f"{local_part}@spf.example"
    assert "sender not rewritten: " in decision_about(lab, message)


def test_smtputf8_sender_is_rewritten_and_bounces_lead_back(lab: Lab):
    sender = "bücher@spf.example"
    message = forwarded(lab, sender, smtputf8=True)
    assert "SMTPUTF8" in message.mail_parameters
    assert is_rewritten(message.envelope_sender, sender)
    assert_bounce_reaches(lab, sender, message.envelope_sender, smtputf8=True)


def test_smtputf8_domain_is_rewritten_in_ascii(lab: Lab):
    message = forwarded(lab, "erin@bücher.example", smtputf8=True)
    assert is_rewritten(message.envelope_sender, "erin@xn--bcher-kva.example")
    assert_bounce_reaches(lab, "erin@xn--bcher-kva.example", message.envelope_sender)


@pytest.mark.parametrize("mailbox", ["alias", "games"])
def test_parameters_of_the_envelope_survive_the_rewriting(lab: Lab, mailbox: str):
    rewritten, as_it_was = (
        with_parameters(lab, mailbox, sender) for sender in ("erin@spf.example", "erin@example.com")
    )
    assert is_rewritten(rewritten.envelope_sender, "erin@spf.example")
    assert as_it_was.envelope_sender == "erin@example.com"
    for message in (rewritten, as_it_was):
        size = next(one for one in message.mail_parameters if one.startswith("SIZE="))
        assert int(size.removeprefix("SIZE=")) >= len(message.data)
        assert {"RET=HDRS", "ENVID=QQ314159"} <= set(message.mail_parameters)
        assert sorted(message.recipient_parameters["out@example.net"]) == [
            "NOTIFY=FAILURE,DELAY",
            f"ORCPT=rfc822;{mailbox}@example.org",
        ]
    assert ("BODY=8BITMIME" in rewritten.mail_parameters) == ("BODY=8BITMIME" in as_it_was.mail_parameters)


def with_parameters(lab: Lab, mailbox: str, sender: str) -> ReceivedMessage:
    subject, recipient = fresh_subject(), f"{mailbox}@example.org"
    result = lab.send(
        sender,
        recipient,
        mail(sender, Subject=subject),
        client_address=OUTSIDE_CLIENT,
        mail_options=["SIZE=700", "BODY=8BITMIME", "RET=HDRS", "ENVID=QQ314159"],
        rcpt_options=["NOTIFY=FAILURE,DELAY", f"ORCPT=rfc822;{recipient}"],
    )
    assert result.accepted, result
    return arrived_with(lab, subject)


@pytest.mark.parametrize(
    ("sender", "form", "leads_back_to"),
    [
        (
            "SRS0=abcd=AB=origin.example=bob@spf.example",
            r"SRS1=.{4}=spf\.example==abcd=AB=origin\.example=bob@srs\.example\.org",
            "SRS0=abcd=AB=origin.example=bob@spf.example",
        ),
        (
            "SRS0+abcd=AB=o.example=bob@spf.example",
            r"SRS1=.{4}=spf\.example=\+abcd=AB=o\.example=bob@srs\.example\.org",
            "SRS0+abcd=AB=o.example=bob@spf.example",
        ),
        (
            "SRS1=wxyz=other.example==abcd=AB=o.example=bob@spf.example",
            r"SRS1=.{4}=other\.example==abcd=AB=o\.example=bob@srs\.example\.org",
            "SRS0=abcd=AB=o.example=bob@other.example",
        ),
    ],
    ids=["SRS0", "SRS0+", "SRS1"],
)
def test_sender_that_another_forwarder_rewrote_becomes_srs1(lab: Lab, sender: str, form: str, leads_back_to: str):
    message = forwarded(lab, sender)
    assert re.fullmatch(form, message.envelope_sender)
    assert_bounce_reaches(lab, leads_back_to, message.envelope_sender)


@pytest.mark.parametrize(
    "sender", ["SRS0=abcd=AB=origin.example=bob@srs.example.org", "srs0=x@srs.example.org", "ceo@srs.example.org"]
)
def test_nobody_outside_sends_with_a_sender_in_our_srs_domain(lab: Lab, sender: str):
    result = lab.send(sender, "alias@example.org", mail(sender="ceo@example.org"))
    assert result.code == 550
    assert "Nobody outside sends with a sender in this domain" in result.text
