"""Attacks on forwarded mail, in the spellings that were tried: what is written in another way is judged the same."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from mailing import (
    arrived,
    arrived_with,
    delivered,
    forward,
    fresh,
    fresh_subject,
    from_outside,
    is_rewritten,
    left_with,
    mail,
    notice_to,
    return_paths,
    running,
    submit,
)
from test_srs_addresses import srs

from deliverypools.lab.lab import OUTSIDE_CLIENT, TRUSTED_CLIENT, Lab
from deliverypools.lab.signing import signed
from deliverypools.lab.site import Sieve, Site

OUT = "out@example.net"
MANY = 60
SITE = Site(
    mailboxes=("alice", "bob", "postmaster", "root", "info"),
    aliases={
        "staff": "staff@example.net, bob",
        "list": "member@example.net, bob",
        "owner-list": "alice",
        "many": ", ".join(f"member{number}@example.net" for number in range(MANY)),
    },
    virtual={
        "virtual@example.org": OUT,
        "to-games@example.org": "games@example.org",
        "to-list@example.org": "list@example.org",
    },
    forwards={"games": OUT},
    sieve={"info-desk": Sieve(f'redirect "{OUT}";', redirect_envelope_from="recipient")},
)
NO_LIMITS = {"messages_per_minute": 0}
FORGED = "ceo@strict.example"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    # So that what counts as authenticated, or as a list's, by mistake leaves by normal, and is seen.
    with running(
        site=SITE, settings={"limits": NO_LIMITS, "forwarding": {"authenticated_forward_pool": "normal"}}
    ) as lab:
        yield lab


@pytest.fixture(scope="module")
def strict() -> Iterator[Lab]:
    """Provide a site that refuses all it can."""
    settings = {
        "limits": NO_LIMITS,
        "forwarding": {"unauthenticated_forward": "reject"},
        "outbound_policies": [{"name": "default", "automatic_forwarding": "off"}],
    }
    with running(site=SITE, settings=settings) as lab:
        yield lab


def sent(lab: Lab, sender: str, recipient: str, data: bytes) -> tuple[int, str]:
    """Send a message from outside, both paths spelt exactly so; return the last reply."""
    with lab.session(client_address=OUTSIDE_CLIENT) as smtp:
        for command in (f"MAIL FROM:{sender}", f"RCPT TO:{recipient}"):
            code, text = smtp.docmd(command)
            if code != 250:
                return code, text.decode()
        code, text = smtp.data(data)
        return code, text.decode()


def told_postmaster(lab: Lab, subject: str) -> int:
    """Return how many notices about a message lie in postmaster's mailbox."""
    lab.wait_until_queue_is_empty()
    return sum(
        message["Return-Path"] == "<>" and subject in message.as_string() for message in lab.mailbox("postmaster")
    )


# ---- the exception for mailing lists


@pytest.mark.parametrize(
    "sender",
    [
        "<staff-bounces>",
        "<owner-staff>",
        "<staff-bounces%example.org>",
        "<example.org!staff-bounces>",
        '<"staff-bounces@example.org">',
        '<"staff-bounces"@example.org>',
        "<staff-bounces@EXAMPLE.org.>",
        "<@elsewhere.example:staff-bounces@example.org>",
        "<@elsewhere.example:staff-bounces>",
        "<staff-bounces (x@example.com)>",
        "<(x@example.com) staff-bounces>",
        "<staff-bounces @ example . org>",
        "<group:staff-bounces@example.org;>",
    ],
)
def test_sender_from_outside_that_is_named_like_a_list_is_no_list(lab: Lab, sender: str):
    subject = fresh_subject()
    assert sent(lab, sender, "<staff@example.org>", mail("ceo@example.org", Subject=subject))[0] == 250
    message = arrived_with(lab, subject)
    assert lab.pool_of(message) == "relay"
    assert message.envelope_sender.lower() in {"staff-bounces@example.org", "owner-staff@example.org"}


def test_sender_of_ours_behind_an_srs_address_gains_nothing_at_a_list(lab: Lab):
    subject = fresh_subject()
    from_outside(lab, "list@example.org", mail(Subject=subject), sender=srs(lab, "alice@example.org"))
    message = arrived_with(lab, subject)
    assert (lab.pool_of(message), message.envelope_sender) == ("relay", "owner-list@example.org")


def test_mailbox_that_redirects_in_its_own_name_is_no_list_of_the_mailbox_before_the_hyphen(lab: Lab):
    subject = fresh_subject()
    recipients = ["info-desk@example.org", "info@example.org"]
    assert lab.send(FORGED, recipients, mail(FORGED, Subject=subject), client_address=OUTSIDE_CLIENT).accepted
    message = arrived_with(lab, subject)
    assert (lab.pool_of(message), message.envelope_sender) == ("relay", "info-desk@example.org")


# ---- SRS addresses


@pytest.mark.parametrize(
    ("form", "refused"),
    [
        ("<{local}%{domain}>", "no routed mail"),
        ("<{domain}!{local}>", "no routed mail"),
        ('<"{local}@{domain}"@example.org>', "no routed mail"),
        ("<{local}%{domain}@example.org>", "no routed mail"),
        ("<{domain}!{local}@example.org>", "no routed mail"),
        ("<{local}%{domain}@[127.0.0.1]>", "no routed mail"),
        ("<@example.org:{local}%{domain}>", "no routed mail"),
        ("<{local}%srs . EXAMPLE.org>", "no routed mail"),
        ("<@example.org:{local}@{domain}>", "bounces only"),
        ('<"{local}@{domain}">', "bounces only"),
        ("<{local}@srs . example.org (comment)>", "bounces only"),
    ],
)
@pytest.mark.parametrize("sender", ["<>", f"<{FORGED}>"])
def test_no_spelling_gets_round_the_refusal_of_mail_to_srs_addresses(lab: Lab, sender: str, form: str, refused: str):
    local, _, domain = srs(lab, "victim@example.com").partition("@")
    if refused == "bounces only" and sender == "<>":
        # That is what they are for: refused is what was not made here.
        local, refused = local.replace("victim", "other"), "was not made here"
    code, text = sent(lab, sender, form.format(local=local, domain=domain), mail(FORGED))
    assert (code, refused in text) == (550, True), text


@pytest.mark.parametrize(
    "form",
    [
        "<{local}@srs.example.org>",
        "<{local}%srs.example.org>",
        "<srs.example.org!{local}>",
        '<"{local}@srs.example.org">',
        "<{local}@SRS.example.org.>",
        "<@elsewhere.example:{local}@srs.example.org>",
        "<{local}@srs . example.org (x@example.com)>",
    ],
)
@pytest.mark.parametrize("local", ["ceo", "SRS0=aaaa=AA=example.com=ceo"])
def test_nobody_outside_sends_in_the_name_of_the_srs_domain(lab: Lab, local: str, form: str):
    code, text = sent(lab, form.format(local=local), "<virtual@example.org>", mail(FORGED))
    assert (code, "Nobody outside sends with a sender in this domain" in text) == (550, True), text


def test_stranger_who_learned_an_srs_address_sends_in_the_name_of_its_owner_only(lab: Lab):
    subject, address = fresh_subject(), srs(lab, "victim@example.com")
    from_outside(lab, "virtual@example.org", mail(FORGED, Subject=subject), sender=address)
    message = arrived_with(lab, subject)
    assert (lab.pool_of(message), message.envelope_sender) == ("relay", "victim@example.com")


# ---- authentication


@pytest.mark.parametrize("sender", ["victim@example.com", "alice@example.org", FORGED])
def test_signature_of_the_author_does_not_authenticate_another_envelope_sender(lab: Lab, sender: str):
    subject = fresh_subject()
    data = signed(mail("erin@signed.example", Subject=subject), "signed.example")
    from_outside(lab, "virtual@example.org", data, sender=sender)
    message = arrived_with(lab, subject)
    assert (lab.pool_of(message), message.envelope_sender) == ("relay", sender)


@pytest.mark.parametrize(
    "sender",
    [f"<{FORGED} (x@spf.example)>", f"<(x@spf.example) {FORGED}>", f"<@spf.example:{FORGED}>", f'<"{FORGED}">'],
)
def test_domain_beside_the_envelope_sender_does_not_authenticate_it(lab: Lab, sender: str):
    subject = fresh_subject()
    assert sent(lab, sender, "<virtual@example.org>", mail("erin@spf.example", Subject=subject))[0] == 250
    message = arrived_with(lab, subject)
    assert (lab.pool_of(message), message.envelope_sender) == ("relay", FORGED)


def test_spf_authenticates_the_envelope_sender_in_the_plain_spelling(lab: Lab):
    message = arrived_with(lab, forward(lab, "virtual", "erin@spf.example"))
    assert (lab.pool_of(message), is_rewritten(message.envelope_sender, "erin@spf.example")) == ("normal", True)


@pytest.mark.parametrize("way", ["sendmail", "smtp"])
@pytest.mark.parametrize(
    ("sender", "subject", "body"),
    [
        (FORGED, b"", b""),
        ("alice@example.org", b"", b""),
        ("erin@spf.example", b"Urgent ", b""),
        ("erin@spf.example", b"", b"Please pay into my new account\n"),
    ],
    ids=["another sender", "a sender of ours", "another subject", "another body"],
)
def test_ticket_of_an_authenticated_message_authenticates_nothing_else(
    lab: Lab, way: str, sender: str, subject: bytes, body: bytes
):
    data = delivered(lab, "bob", forward(lab, "bob", "erin@spf.example")).as_bytes() + body
    data, recipient = data.replace(b"Subject: ", b"Subject: " + subject), fresh("example.net")
    if way == "sendmail":
        lab.sendmail(sender, recipient, data, user="nobody")
    else:
        assert lab.send(sender, recipient, data, client_address=TRUSTED_CLIENT).accepted
    message = arrived(lab, recipient)
    assert (lab.pool_of(message), message.envelope_sender) == ("relay", sender)


def test_forged_authentication_results_go_also_from_mail_with_a_ticket_that_fits(lab: Lab):
    stolen = delivered(lab, "bob", forward(lab, "bob", "x@strict.example", From=FORGED, Message_ID="<same@test>"))
    subject, ticket = str(stolen["Subject"]), re.sub(r"\r?\n", "\r\n", stolen["X-Delivery-Pool-Ticket"])
    data = mail(FORGED, Date=stolen["Date"], Message_ID="<same@test>", Subject=subject, X_Delivery_Pool_Ticket=ticket)
    forgery = b"Authentication-Results: mx.example.org; dmarc=pass header.from=strict.example\r\n"
    from_outside(lab, "alice@example.org", forgery + data, sender="x@strict.example")
    (results,) = delivered(lab, "alice", subject).get_all("Authentication-Results")
    assert "dmarc=fail" in results


# ---- automatic_forwarding = "off"


@pytest.mark.parametrize(
    "recipient",
    [
        "<games%example.org>",
        "<example.org!games>",
        "<games>",
        '<"games@example.org">',
        "<GAMES+extension@Example.ORG.>",
        "<@elsewhere.example:games@example.org>",
        "<games (comment)>",
        "<games@mx.example.org>",
        "<games%localhost>",
        "<games@localhost.example.org>",
        "<games%localhost.example.org>",
        "<games%[127.0.0.1]>",
        "<to-games@example.org>",
    ],
)
def test_no_spelling_of_a_mailbox_gets_round_automatic_forwarding_off(strict: Lab, recipient: str):
    sender, subject = fresh("spf.example"), fresh_subject()
    assert sent(strict, f"<{sender}>", recipient, mail(sender, Subject=subject))[0] == 250
    strict.wait_until_queue_is_empty()
    assert left_with(strict, subject) == []
    assert strict.pool_of(notice_to(strict, sender)) == "high-risk"


@pytest.mark.parametrize("options", [(), ("-N", "never"), ("-N", "success")])
def test_program_of_a_mailbox_gets_round_automatic_forwarding_off_by_no_option_of_sendmail(
    strict: Lab, options: tuple[str, ...]
):
    """As `|/usr/sbin/sendmail -N never me@example.net` in ~/.forward would: always_bcc makes copies like that."""
    subject = forward(strict, "bob", "erin@spf.example")
    data = b"Delivered-To: bob@example.org\n" + delivered(strict, "bob", subject).as_bytes()
    strict.sendmail("erin@spf.example", OUT, data, user="nobody", options=options)
    strict.wait_until_queue_is_empty()
    assert left_with(strict, subject) == []


@pytest.mark.parametrize("field", [None, "erin@example.com"])
@pytest.mark.parametrize("address", ["list", "to-list"])
def test_user_of_ours_posts_to_a_list_though_automatic_forwarding_is_off(strict: Lab, address: str, field: str | None):
    """Also by a virtual alias, and what sieve had redirected to the user elsewhere."""
    subject = fresh_subject()
    submit(strict, f"{address}@example.org", mail(Subject=subject, X_Sieve_Redirected_From=field))
    strict.wait_until_queue_is_empty()
    left = [(strict.pool_of(message), message.envelope_sender) for message in left_with(strict, subject)]
    assert left == [("normal", "owner-list@example.org")]
    assert return_paths(strict, "bob", subject) == ["<owner-list@example.org>"]


# ---- notices


@pytest.mark.parametrize("notify", ["", "NOTIFY=NEVER", "NOTIFY=SUCCESS"])
@pytest.mark.parametrize("mailbox", ["games", "many"])
def test_forged_sender_is_never_told_that_his_message_does_not_leave_and_postmaster_always_is(
    strict: Lab, mailbox: str, notify: str
):
    subject, sender = fresh_subject(), fresh("strict.example")
    recipient, options = f"{mailbox}@example.org", [notify] if notify else []
    data = mail(sender, Subject=subject)
    assert strict.send(sender, recipient, data, client_address=OUTSIDE_CLIENT, rcpt_options=options).accepted
    # Postfix splits what goes to more than 50 addresses.
    assert 1 <= told_postmaster(strict, subject) <= 2
    assert left_with(strict, subject) == []
    failures = [
        message for message in strict.messages if sender in message.recipients and b"Action: failed" in message.data
    ]
    assert failures == []
