"""Recipients whose transport is error(8), and that an alias leads elsewhere: Postfix accepts them, and says "error"."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mailing import ALICE, HIGH_RISK, arrived, delivered, fresh_subject, mail, running
from test_arrived_dsn import bounce

from deliverypools.lab.lab import Lab
from deliverypools.lab.site import Site

SITE = Site(
    virtual={
        "bob@virt.example": "bob@example.org",
        "forged@virt.example": "forged@example.net",
        "signed@virt.example": "signed@example.net",
        "many@virt.example": "many@example.net",
        "alice@virt.example": "alice@example.org",
        "bob@old.example": "bob@example.org",
    },
    main={
        "virtual_alias_domains": "virt.example",
        "relay_domains": "old.example",
        "transport_maps": "texthash:{config}/transport",
    },
    files={"transport": "old.example error:5.1.1\n"},
)
SETTINGS = {
    "limits": {"recipients_per_day": 5, "messages_per_minute": 0},
    "accepted_domains": ["example.org", "virt.example", "old.example"],
    "forwarding": {"unauthenticated_forward": "reject"},
}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with running(site=SITE, settings=SETTINGS) as lab:
        yield lab


@pytest.mark.parametrize("domain", ["virt.example", "old.example"])
def test_mail_to_one_is_examined(lab: Lab, domain: str):
    subject = fresh_subject()
    assert lab.send("erin@strict.example", f"bob@{domain}", mail("erin@strict.example", Subject=subject)).accepted
    assert "spf=fail" in delivered(lab, "bob", subject)["Authentication-Results"]


def test_authenticated_mail_that_is_forwarded_from_one_gets_an_srs_sender(lab: Lab):
    assert lab.send("erin@spf.example", "signed@virt.example", mail("erin@spf.example")).accepted
    assert arrived(lab, "signed@example.net").envelope_sender.startswith("SRS0=")


def test_forged_mail_is_not_forwarded_from_one(lab: Lab):
    assert lab.send("erin@strict.example", "forged@virt.example", mail("erin@strict.example")).accepted
    lab.wait_until_queue_is_empty()
    senders = [message.envelope_sender for message in lab.messages if "forged@example.net" in message.recipients]
    assert "erin@strict.example" not in senders


def test_what_a_user_sends_to_one_is_counted(lab: Lab):
    for _ in range(8):
        assert lab.send("alice@example.org", "many@virt.example", mail(), port=587, auth=ALICE).accepted
    found = lab.wait_for(lambda message: "many@example.net" in message.recipients, count=8)
    assert sum(message.source_address in HIGH_RISK for message in found) == 3


def test_bounce_for_a_user_there_is_judged(lab: Lab):
    subject = fresh_subject()
    assert lab.send("", "alice@virt.example", bounce(b"", subject=subject)).accepted
    assert delivered(lab, "alice", subject)["X-Delivery-Pool-DSN"].startswith("unknown; ")


@pytest.mark.parametrize(
    ("refused", "code"),
    [
        ("nobody@virt.example", 550),
        ("nobody@old.example", 550),
        ('"a b"@example.org', 550),
        ("nobody@stranger.example", 554),
    ],
)
def test_who_is_refused_is_no_recipient(lab: Lab, refused: str, code: int):
    message_id = f"<{fresh_subject().replace(' ', '.')}@count.example>"
    result = lab.send("erin@example.com", [refused, "bob@old.example"], mail(Message_ID=message_id))
    assert result.accepted
    assert {one: reply[0] for one, reply in result.refused.items()} == {refused: code}
    line = next(line for line in lab.milter.log().splitlines() if message_id in line and "pass=first" in line)
    assert "recipients=1 " in line
