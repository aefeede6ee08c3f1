"""Bounces of forwarded mail: from the destination's refusal to the original sender, and what stands in between.

Who gets in at RCPT TO, one address after the other, is in test_srs_addresses.py.
"""

from __future__ import annotations

import contextlib
import secrets
import signal
import time
from collections.abc import Callable, Iterator

import pytest
from mailing import (
    HIGH_RISK,
    NORMAL,
    RELAY,
    arrived_with,
    decision_about,
    delivered,
    forward,
    fresh,
    fresh_subject,
    is_rewritten,
    left_with,
    mail,
    notice_to,
    running,
    said_in,
)

from deliverypools.adapters.srs_secrets import read_srs_secrets
from deliverypools.core.srs import SenderRewriter
from deliverypools.lab import receiver
from deliverypools.lab.daemons import Daemon
from deliverypools.lab.lab import OUTSIDE_CLIENT, TRUSTED_CLIENT, Lab
from deliverypools.lab.receiver import ACCEPT, DEFER, REFUSE
from deliverypools.lab.settings_file import SRS_FILE
from deliverypools.lab.site import Sieve, Site
from deliverypools.lab.waiting import wait_until

OUT = "out@example.net"
SITE = Site(
    virtual={"virtual@example.org": OUT},
    aliases={"alias": OUT},
    forwards={"games": OUT},
    sieve={"sieve": Sieve(f'redirect "{OUT}";')},
)
POOLS = {"normal": NORMAL, "high-risk": HIGH_RISK, "relay": RELAY}
DAY_SECONDS = 86400
WAYS = ["virtual", "alias", "games", "sieve"]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    # So that what loses its pool on the way is seen: it would leave by another one than `normal`.
    settings = {"forwarding": {"authenticated_forward_pool": "normal"}, "limits": {"messages_per_minute": 0}}
    with running(site=SITE, settings=settings) as lab:
        yield lab


@contextlib.contextmanager
def answering(lab: Lab, reply: receiver.Reply) -> Iterator[None]:
    """Let the destination of all forwards answer so at RCPT TO."""
    lab.receiver.answer(OUT, reply)
    try:
        yield
    finally:
        lab.receiver.answer(OUT, ACCEPT)


def srs_address(lab: Lab, sender: str) -> str:
    """Forward a message of that sender; return the envelope sender that arrives."""
    message = arrived_with(lab, forward(lab, "virtual", sender))
    assert is_rewritten(message.envelope_sender, sender)
    return message.envelope_sender


def made_days_ago(lab: Lab, sender: str, days: int) -> str:
    clock = time.time() - days * DAY_SECONDS
    address = SenderRewriter(read_srs_secrets(lab.directory / SRS_FILE), "srs.example.org", lambda: clock).forward(
        sender
    )
    assert isinstance(address, str)
    return address


def answer_to(lab: Lab, recipient: str, sender: str = "", client_address: str = OUTSIDE_CLIENT) -> tuple[int, str]:
    """Return what Postfix answers to RCPT TO."""
    with lab.session(client_address=client_address) as smtp:
        assert smtp.mail(sender)[0] == 250
        code, text = smtp.rcpt(recipient)
    return code, text.decode()


# ---- the destination refuses


@pytest.mark.parametrize("domain", ["signed.example", "spf.example"])
@pytest.mark.parametrize("way", WAYS)
def test_notice_of_a_forward_that_is_refused_reaches_the_original_sender(lab: Lab, way: str, domain: str):
    sender = fresh(domain)
    with answering(lab, REFUSE):
        subject = forward(lab, way, sender)
        notice = notice_to(lab, sender)
    assert notice.source_address in HIGH_RISK
    assert "rule=delivery_status_notification" in decision_about(lab, notice)
    assert subject in said_in(notice)
    assert REFUSE.text in said_in(notice)
    lab.wait_until_queue_is_empty()
    assert [message.recipients for message in lab.messages if not message.envelope_sender][-1] == (sender,)


def test_notice_of_a_forward_that_is_refused_after_data_reaches_the_original_sender(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
):
    sender, take = fresh("signed.example"), receiver._Session.data

    def refuse(session: receiver._Session, data: bytes) -> bytes:
        return b"554 5.7.1 Looks like spam\r\n" if OUT in session._recipients else take(session, data)

    monkeypatch.setattr(receiver._Session, "data", refuse)
    subject = forward(lab, "virtual", sender)
    notice = notice_to(lab, sender)
    assert notice.source_address in HIGH_RISK
    assert subject in said_in(notice)
    assert "Looks like spam" in said_in(notice)


def test_notice_shows_no_ticket_and_no_tag(lab: Lab):
    sender = fresh("signed.example")
    with answering(lab, REFUSE):
        forward(lab, "virtual", sender)
        assert "X-Delivery-Pool" not in said_in(notice_to(lab, sender))


def test_notice_of_an_unauthenticated_forward_goes_to_the_sender_it_left_with(lab: Lab):
    sender = fresh("strict.example")
    with answering(lab, REFUSE):
        forward(lab, "virtual", sender)
        notice = notice_to(lab, sender)
    assert notice.source_address in HIGH_RISK
    assert lab.receiver.not_accepted[-1][0] in RELAY


def test_refused_forward_of_a_bounce_makes_no_further_notice(lab: Lab):
    with answering(lab, REFUSE):
        forward(lab, "virtual", "")
        lab.postfix.wait_for_log(r"postfix/pool-high-risk/smtp.*to=<out@example.net>.*status=bounced")
        lab.wait_until_queue_is_empty()
    assert lab.receiver.not_accepted[-1] in {(address, OUT) for address in HIGH_RISK}


# ---- a notice comes from outside


@pytest.mark.parametrize("spelling", [str, str.lower, str.upper], ids=["as it is", "lower case", "upper case"])
def test_notice_from_outside_reaches_the_original_sender_by_high_risk(lab: Lab, spelling: Callable[[str], str]):
    sender, subject = fresh("signed.example"), fresh_subject()
    address = spelling(srs_address(lab, sender))
    report = mail(
        "mailer-daemon@example.net",
        Subject=subject,
        Content_Type='multipart/report; report-type="delivery-status"; boundary=b',
    )
    assert lab.send("", address, report, client_address=OUTSIDE_CLIENT).accepted
    message = arrived_with(lab, subject)
    assert message.source_address in HIGH_RISK
    assert message.envelope_sender == ""
    assert [recipient.lower() for recipient in message.recipients] == [sender]


def test_notice_from_outside_for_a_sender_of_ours_is_delivered_here(lab: Lab):
    """A mailbox that forwards with its own address as sender (Pigeonhole's sieve_redirect_envelope_from)."""
    subject = fresh_subject()
    data = mail("mailer-daemon@example.net", Subject=subject)
    assert lab.send("", made_days_ago(lab, "bob@example.org", 0), data, client_address=OUTSIDE_CLIENT).accepted
    assert delivered(lab, "bob", subject)["Return-Path"] == "<>"
    assert left_with(lab, subject) == []


@pytest.mark.parametrize("client_address", [OUTSIDE_CLIENT, TRUSTED_CLIENT])
def test_each_kind_of_mail_that_may_not_go_there_is_refused_with_its_own_text(lab: Lab, client_address: str):
    right = srs_address(lab, "erin@signed.example")
    texts = set()
    for recipient, sender, text in (
        (right.replace("erin", "victim"), "", "was not made here, or was changed on its way"),
        (made_days_ago(lab, "erin@signed.example", 22), "", "has expired"),
        (right, "mallory@example.com", "SRS addresses take bounces only"),
    ):
        code, said = answer_to(lab, recipient, sender, client_address)
        assert (code, text in said) == (550, True), said
        texts.add(said[:5])
    assert len(texts) == 3, "each with an enhanced status code of its own"
    assert answer_to(lab, right, "", client_address)[0] == 250
    assert answer_to(lab, made_days_ago(lab, "erin@signed.example", 21), "", client_address)[0] == 250


def test_user_who_is_logged_in_may_not_send_there_either(lab: Lab):
    address = srs_address(lab, "erin@signed.example")
    result = lab.send("alice@example.org", address, mail(), port=587, auth=("alice@example.org", "secret"))
    assert (result.code, "SRS addresses take bounces only" in result.text) == (550, True)


# ---- daemons that are down


@contextlib.contextmanager
def down(daemon: Daemon) -> Iterator[None]:
    daemon.kill()
    try:
        yield
    finally:
        daemon.start()


def test_policy_service_down_holds_up_srs_addresses_only(lab: Lab):
    address = srs_address(lab, "erin@signed.example")
    with down(lab.policy):
        code, said = answer_to(lab, address)
        assert (code, said[:3]) == (451, "4.3"), said
        assert answer_to(lab, "no-such-user@example.org")[0] == 550
        subject = forward(lab, "bob", "erin@signed.example")
        assert delivered(lab, "bob", subject)["Return-Path"] == "<erin@signed.example>"
    wait_until(lambda: answer_to(lab, address)[0] == 250, timeout_seconds=20, what="the SRS address again")


def test_policy_service_down_holds_up_no_forwards(lab: Lab):
    with down(lab.policy):
        message = arrived_with(lab, forward(lab, "virtual", "erin@signed.example"))
    assert is_rewritten(message.envelope_sender, "erin@signed.example")


@pytest.mark.parametrize("name", ["policy", "milter"])
def test_notice_that_cannot_be_made_while_a_daemon_is_down_is_made_later(lab: Lab, name: str):
    sender, failed = fresh("signed.example"), "status=deferred (bounce failed)"
    with answering(lab, DEFER):
        forward(lab, "virtual", sender)
        lab.postfix.wait_until_deferred(1)
    failures = lab.postfix.log().count(failed)
    with answering(lab, REFUSE):
        with down(lab.daemons[name]):
            lab.postfix.flush()
            wait_until(lambda: lab.postfix.log().count(failed) > failures, timeout_seconds=20, what=failed)
        assert notice_to(lab, sender).source_address in HIGH_RISK


def test_milter_down_refuses_notices_for_now(lab: Lab):
    sender, subject = fresh("signed.example"), fresh_subject()
    address = srs_address(lab, sender)
    data = mail("mailer-daemon@example.net", Subject=subject)
    with down(lab.milter):
        assert lab.send("", address, data, client_address=OUTSIDE_CLIENT).code == 451
    assert lab.send("", address, data, client_address=OUTSIDE_CLIENT).accepted
    assert arrived_with(lab, subject).recipients == (sender,)


# ---- requeues


@pytest.mark.parametrize(
    ("sender", "pool"), [("erin@signed.example", "normal"), ("erin@strict.example", "relay"), ("", "high-risk")]
)
@pytest.mark.parametrize("way", WAYS)
def test_requeue_of_a_deferred_forward_rewrites_no_address_twice_and_keeps_the_pool(
    lab: Lab, way: str, sender: str, pool: str
):
    lab.receiver.clear()
    with answering(lab, DEFER):
        subject = forward(lab, way, sender)
        lab.postfix.wait_until_deferred(1)
        before = lab.postfix.queue()[0]["sender"]
        for _ in range(2):
            lab.postfix.requeue()
            lab.postfix.wait_until_deferred(1)
        assert lab.postfix.queue()[0]["sender"] == before
    lab.postfix.requeue()
    message = arrived_with(lab, subject)
    assert (lab.pool_of(message), message.envelope_sender or "MAILER-DAEMON") == (pool, before)
    assert is_rewritten(message.envelope_sender, sender) == (pool == "normal")
    assert {address in POOLS[pool] for address, _ in lab.receiver.not_accepted} == {True}


def test_notice_of_a_forward_that_was_requeued_reaches_the_original_sender(lab: Lab):
    sender = fresh("signed.example")
    with answering(lab, DEFER):
        forward(lab, "virtual", sender)
        lab.postfix.wait_until_deferred(1)
    with answering(lab, REFUSE):
        lab.postfix.requeue()
        assert notice_to(lab, sender).source_address in HIGH_RISK


def test_requeue_of_a_deferred_notice_keeps_recipient_and_pool(lab: Lab):
    sender, subject = fresh("signed.example"), fresh_subject()
    address = srs_address(lab, sender)
    lab.receiver.answer(sender, DEFER)
    data = mail("mailer-daemon@example.net", Subject=subject)
    assert lab.send("", address, data, client_address=OUTSIDE_CLIENT).accepted
    lab.postfix.wait_until_deferred(1)
    lab.postfix.requeue()
    lab.postfix.wait_until_deferred(1)
    lab.receiver.answer(sender, ACCEPT)
    lab.postfix.requeue()
    message = arrived_with(lab, subject)
    assert (message.recipients, message.source_address in HIGH_RISK) == ((sender,), True)


# ---- secrets


def rotate(lab: Lab, keep: int) -> None:
    """Put a new secret on top of the file, keep some old ones, and tell the daemons."""
    path = lab.directory / SRS_FILE
    lines = [secrets.token_urlsafe(24), *path.read_text().split()[:keep]]
    path.write_text("".join(f"{line}\n" for line in lines))
    for daemon in (lab.milter, lab.policy):
        reloads = daemon.log().count("settings reloaded")
        daemon.send_signal(signal.SIGHUP)
        wait_until(
            lambda daemon=daemon, reloads=reloads: daemon.log().count("settings reloaded") > reloads,
            timeout_seconds=10,
            what=f"reload of {daemon.name}",
        )


def test_addresses_made_before_a_rotation_of_the_secrets_lead_back_until_the_old_one_is_removed(
    make_lab: Callable[..., Lab],
):
    lab = make_lab(site=SITE)
    sender = fresh("signed.example")
    old = srs_address(lab, sender)
    rotate(lab, keep=1)
    wait_until(lambda: srs_address(lab, sender) != old, timeout_seconds=20, what="addresses with the new secret")
    new = srs_address(lab, sender)
    for address in (old, new):
        subject = fresh_subject()
        data = mail("mailer-daemon@example.net", Subject=subject)
        assert lab.send("", address, data, client_address=OUTSIDE_CLIENT).accepted
        assert arrived_with(lab, subject).recipients == (sender,)
    rotate(lab, keep=1)
    code, said = answer_to(lab, old)
    assert (code, "was not made here" in said) == (550, True)
    assert answer_to(lab, new)[0] == 250
