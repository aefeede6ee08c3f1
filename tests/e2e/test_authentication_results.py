"""Authentication-Results (RFC 8601): ours is on top and true, what claims to be ours is gone, what others say stays."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message

import pytest
from mailing import (
    ALICE,
    RELAY,
    arrived,
    arrived_with,
    delivered,
    forward,
    fresh,
    fresh_subject,
    from_outside,
    is_rewritten,
    mail,
    running,
    submit,
)

from deliverypools.lab.lab import OUTSIDE_CLIENT, TRUSTED_CLIENT, Lab
from deliverypools.lab.signing import ED25519, sealed, signed
from deliverypools.lab.site import Sieve, Site

FIELD = "Authentication-Results"
OUT = "out@example.net"
SITE = Site(
    virtual={"virtual@example.org": OUT},
    forwards={"games": OUT},
    sieve={"sieve": Sieve(f'redirect "{OUT}";')},
)
FORGED = "dmarc=pass header.from=strict.example"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    settings = {
        "limits": {"messages_per_minute": 0},
        "authentication": {"trusted_arc_sealers": ["sealer.example"]},
    }
    with running(site=SITE, settings=settings) as lab:
        yield lab


@pytest.fixture(scope="module")
def lab_that_trusts() -> Iterator[Lab]:
    """Provide a lab whose operator says: what claims to be of dkim.example.org was written by a milter of mine."""
    with running(site=SITE, settings={"trusted_authserv_ids": ["dkim.example.org", "SPF.example.org"]}) as lab:
        yield lab


def results(message: Message) -> list[str]:
    """Return the fields of a message, unfolded, top to bottom."""
    return [" ".join(str(value).split()) for value in message.get_all(FIELD, [])]


def fresh_mail(sender: str, body: str = "hello\n") -> bytes:
    """Return a message with a subject of its own, by which it is found again."""
    return mail(sender, body=body, Subject=fresh_subject())


def received_results(lab: Lab, data: bytes, sender: str) -> list[str]:
    """Send a message from outside to a mailbox of ours; return its fields there."""
    from_outside(lab, "bob@example.org", data, sender=sender)
    return results(delivered(lab, "bob", message_from_bytes(data)["Subject"]))


SIGNED = "dkim=pass header.d=signed.example header.s=rsa header.b=..."


@pytest.mark.parametrize(
    ("sender", "signer", "spf", "others"),
    [
        ("erin@signed.example", "signed.example", "fail", f"{SIGNED}; dmarc=pass header.from=% policy.dmarc=reject"),
        ("erin@spf.example", "", "pass", "dkim=none; dmarc=none header.from=%"),
        ("erin@strict.example", "", "fail", "dkim=none; dmarc=fail header.from=% policy.dmarc=reject"),
        ("erin@strict.example", "signed.example", "fail", f"{SIGNED}; dmarc=fail header.from=% policy.dmarc=reject"),
        ("erin@example.com", "", "none", "dkim=none; dmarc=none header.from=%"),
        ("erin@broken.example", "", "temperror", "dkim=none; dmarc=temperror header.from=%"),
    ],
    ids=["DKIM and DMARC", "SPF", "forged", "signed by a stranger", "nothing published", "DNS fails"],
)
def test_ours_says_what_was_found(lab: Lab, sender: str, signer: str, spf: str, others: str):
    data, domain = fresh_mail(sender), sender.partition("@")[2]
    (field,) = received_results(lab, signed(data, signer) if signer else data, sender)
    expected = f"mx.example.org; spf={spf} smtp.mailfrom={domain}; {others.replace('%', domain)}"
    # After b= come the first characters of the signature.
    assert re.sub(r"header\.b=[^;]+", "header.b=...", field) == expected


def test_ours_says_spf_of_helo_where_the_sender_is_null(lab: Lab):
    subject = fresh_subject()
    data = mail("mailer-daemon@spf.example", Subject=subject)
    result = lab.send("", "bob@example.org", data, client_address=OUTSIDE_CLIENT, helo="spf.example")
    assert result.accepted
    (field,) = results(delivered(lab, "bob", subject))
    assert "spf=pass smtp.helo=spf.example;" in field


def test_ours_has_a_result_for_each_signature(lab: Lab):
    data = signed(signed(fresh_mail("erin@signed.example"), "signed.example"), "signed.example", selector=ED25519)
    (field,) = received_results(lab, data, "erin@signed.example")
    assert field.count("dkim=pass header.d=signed.example") == 2
    assert "header.s=ed25519" in field


def test_ours_says_that_a_changed_message_fails(lab: Lab):
    data = signed(fresh_mail("erin@signed.example", body="one\r\n"), "signed.example").replace(b"\r\none", b"\r\ntwo")
    (field,) = received_results(lab, data, "erin@signed.example")
    assert "dkim=fail header.d=signed.example" in field
    assert "dmarc=fail header.from=signed.example" in field


def test_seal_of_a_trusted_sealer_authenticates_and_shows(lab: Lab):
    subject = fresh_subject()
    data = sealed(
        mail("erin@strict.example", Subject=subject), "sealer.example", "dmarc=pass header.from=strict.example"
    )
    from_outside(lab, "virtual@example.org", data, sender="erin@strict.example")
    message = arrived_with(lab, subject)
    assert is_rewritten(message.envelope_sender, "erin@strict.example")
    ours = [field for field in results(message.message) if field.startswith("mx.example.org;")]
    assert ["arc=pass" in field for field in ours] == [True]


def test_ours_is_on_top(lab: Lab):
    subject = fresh_subject()
    head = b"Received: from elsewhere\r\nAuthentication-Results: mx.example.com; spf=pass\r\n"
    from_outside(lab, "bob@example.org", head + mail("erin@spf.example", Subject=subject), sender="erin@spf.example")
    fields = delivered(lab, "bob", subject).items()
    names = [name.lower() for name, _ in fields]
    top = names.index(FIELD.lower())
    assert str(fields[top][1]).startswith("mx.example.org;")
    assert "received" not in names[:top]


@pytest.mark.parametrize(
    "field",
    [
        "Authentication-Results: mx.example.org; " + FORGED,
        "authentication-RESULTS: MX.Example.ORG; " + FORGED,
        "Authentication-Results:mx.example.org; " + FORGED,
        "Authentication-Results:\r\n\tmx.example.org\r\n\t; " + FORGED,
        "Authentication-Results: (really (mx.example.com)) mx.example.org (us) 1; " + FORGED,
        "Authentication-Results: mx. (dots) example .org; " + FORGED,
        'Authentication-Results: "mx.example.org"; ' + FORGED,
        "Authentication-Results: mx.example.org/1; " + FORGED,
        "Authentication-Results: mx.example.org",
        "Authentication-Results: mx.example.org " + FORGED,
        "Authentication-Results: =?utf-8?q?mx=2Eexample=2Eorg?=; " + FORGED,
        "Authentication-Results: mx.example.org.; " + FORGED,
    ],
    ids=[
        "plain",
        "case",
        "no blank",
        "folds",
        "comments",
        "blanks and comments around dots",
        "quotes",
        "slash",
        "nothing but the id",
        "no semicolon",
        "encoded word",
        "final dot",
    ],
)
def test_field_that_claims_to_be_ours_is_gone(lab: Lab, field: str):
    data = f"{field}\r\n".encode() + fresh_mail("erin@strict.example", body=f"{field}\r\n")
    (ours,) = received_results(lab, data, "erin@strict.example")
    assert "dmarc=fail" in ours
    data = f"{field}\r\n".encode() + fresh_mail("erin@strict.example")
    from_outside(lab, "virtual@example.org", data, sender="erin@strict.example")
    message = arrived_with(lab, message_from_bytes(data)["Subject"])
    assert message.source_address in RELAY
    assert message.envelope_sender == "erin@strict.example"


def test_fields_of_others_stay_in_their_order_and_forged_ones_between_them_go(lab: Lab):
    stay = [
        "mx.example.com; spf=pass smtp.mailfrom=example.com",
        "mx.example.org.example.com; spf=pass",
        "example.org; spf=pass",
        "notmx.example.org; spf=pass",
        "i=1; mx.example.com; spf=pass",
    ]
    forged = f"{FIELD}: mx.example.org; {FORGED}\r\n"
    head = forged + "".join(f"{FIELD}: {value}\r\n{forged}" for value in stay)
    ours, *others = received_results(lab, head.encode() + fresh_mail("erin@strict.example"), "erin@strict.example")
    assert "dmarc=fail" in ours
    assert others == stay


def test_fields_of_other_names_stay(lab: Lab):
    subject = fresh_subject()
    head = (
        b"ARC-Authentication-Results: i=1; mx.example.org; spf=pass\r\nX-Authentication-Results: mx.example.org; a\r\n"
    )
    from_outside(lab, "bob@example.org", head + mail("erin@example.com", Subject=subject), sender="erin@example.com")
    message = delivered(lab, "bob", subject)
    assert message["ARC-Authentication-Results"] == "i=1; mx.example.org; spf=pass"
    assert message["X-Authentication-Results"] == "mx.example.org; a"


@pytest.mark.parametrize("way", ["submission", "trusted client", "sendmail"])
def test_our_own_users_cannot_carry_our_id_out_or_in(lab: Lab, way: str):
    subject, recipients = fresh_subject(), [fresh(), "bob@example.org"]
    data = f"{FIELD}: mx.example.org; {FORGED}\r\n{FIELD}: mx.example.com; spf=pass\r\n".encode() + mail(
        Subject=subject
    )
    if way == "submission":
        submit(lab, recipients, data)
    elif way == "sendmail":
        lab.sendmail(ALICE[0], recipients, data, user="nobody")
    else:
        assert lab.send(ALICE[0], recipients, data, client_address=TRUSTED_CLIENT).accepted
    assert results(arrived_with(lab, subject).message) == ["mx.example.com; spf=pass"]
    assert results(delivered(lab, "bob", subject)) == ["mx.example.com; spf=pass"]


@pytest.mark.parametrize("mailbox", ["virtual", "games", "sieve"])
def test_forwarded_mail_keeps_our_genuine_field_and_no_other_of_ours(lab: Lab, mailbox: str):
    subject = fresh_subject()
    data = f"{FIELD}: mx.example.org; {FORGED}\r\n".encode() + mail("erin@spf.example", Subject=subject)
    from_outside(lab, f"{mailbox}@example.org", data, sender="erin@spf.example")
    assert results(arrived_with(lab, subject).message) == [
        "mx.example.org; spf=pass smtp.mailfrom=spf.example; dkim=none; dmarc=none header.from=spf.example"
    ]


@pytest.mark.parametrize("way", ["sendmail", "trusted client"])
@pytest.mark.parametrize("genuine_stays", [False, True], ids=["in the place of the genuine one", "beside it"])
def test_field_forged_into_a_message_that_was_received_is_gone_when_it_is_sent_on(
    lab: Lab, *, genuine_stays: bool, way: str
):
    """Whoever has received a message has its ticket; that ticket must not let a false result out in our name."""
    received = delivered(lab, "bob", forward(lab, "bob", "erin@strict.example"))
    genuine = str(received[FIELD])
    if not genuine_stays:
        del received[FIELD]
    data = f"{FIELD}: mx.example.org; {FORGED}\n".encode() + received.as_bytes()
    recipient = fresh()
    if way == "sendmail":
        lab.sendmail("erin@strict.example", [recipient], data, user="nobody")
    else:
        assert lab.send("erin@strict.example", recipient, data, client_address=TRUSTED_CLIENT).accepted
    left = results(arrived(lab, recipient).message)
    assert not any(FORGED in field for field in left)
    assert set(left) <= {" ".join(genuine.split())}


@pytest.mark.parametrize(
    ("value", "sender", "authenticated"),
    [
        ("dkim.example.org; dmarc=pass header.from=strict.example", "erin@strict.example", True),
        ("DKIM.example.org 1; dmarc=pass header.from=strict.example", "erin@strict.example", True),
        ("spf.example.org; spf=pass smtp.mailfrom=erin@example.com", "erin@example.com", True),
        ("dkim.example.org; dkim=pass header.d=example.com", "erin@example.com", True),
        ("dkim.example.org; dmarc=fail header.from=signed.example", "erin@signed.example", False),
        ("other.example.org; dmarc=pass header.from=strict.example", "erin@strict.example", False),
        ("mx.example.org; dmarc=pass header.from=strict.example", "erin@strict.example", False),
        ("other.example.org; dmarc=fail header.from=signed.example", "erin@signed.example", True),
        ("dkim.example.org; dmarc=pass header.from=strict.example; ((((", "erin@strict.example", False),
        ("dkim.example.org; none", "erin@signed.example", True),
        ("dkim.example.org; dmarc=temperror header.from=spf.example", "erin@spf.example", True),
    ],
    ids=[
        "DMARC pass of a trusted one",
        "in other case, with a version",
        "SPF pass of a trusted one",
        "DKIM pass of a trusted one",
        "DMARC fail of a trusted one",
        "DMARC pass of a stranger",
        "DMARC pass in our name",
        "DMARC fail of a stranger",
        "malformed",
        "no results: ours are asked for",
        "one cannot be told, another is enough",
    ],
)
def test_results_of_trusted_ids_count_and_those_of_others_do_not(
    lab_that_trusts: Lab, value: str, sender: str, *, authenticated: bool
):
    """From a client outside: what is trusted is what the operator declared, and what he declared strips forgeries."""
    lab, subject = lab_that_trusts, fresh_subject()
    data = mail(sender, Subject=subject)
    data = f"{FIELD}: {value}\r\n".encode() + (
        signed(data, "signed.example") if sender.endswith("@signed.example") else data
    )
    from_outside(lab, "virtual@example.org", data, sender=sender)
    message = arrived_with(lab, subject)
    assert is_rewritten(message.envelope_sender, sender) == authenticated
    assert authenticated or message.envelope_sender == sender


def test_results_of_a_trusted_id_are_used_instead_of_asking(lab_that_trusts: Lab):
    lab, subject = lab_that_trusts, fresh_subject()
    sender = fresh("other.example")
    field = (
        "dkim.example.org; spf=softfail smtp.mailfrom=other.example; dkim=none; dmarc=fail header.from=other.example"
    )
    before = len(lab.dns.asked)
    from_outside(
        lab, "bob@example.org", f"{FIELD}: {field}\r\n".encode() + mail(sender, Subject=subject), sender=sender
    )
    ours, theirs = results(delivered(lab, "bob", subject))
    assert theirs == field
    assert "spf=softfail smtp.mailfrom=other.example" in ours
    assert [name for name, rtype in lab.dns.asked[before:] if rtype == "TXT"] == []
