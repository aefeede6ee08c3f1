"""What a forger does so that backscatter is sent all the same; notices of honest senders that must not be lost."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Iterator
from email.utils import formatdate
from ipaddress import ip_address

import pytest
from mailing import arrived, fresh, fresh_subject, from_outside, mail, running, submit
from test_arrived_dsn import bounce
from test_drop_backscatter import FULL, OUT, SITE, dropped_for, ledger, sent_to

from deliverypools.core.dns_lists import query_name
from deliverypools.lab.lab import Lab
from deliverypools.lab.signing import signed
from deliverypools.lab.waiting import wait_until

NOC = "noc@strict.example"


@pytest.fixture(scope="module")
def dropping() -> Iterator[Lab]:
    main = {"notify_classes": "bounce", "bounce_notice_recipient": NOC}
    site = dataclasses.replace(SITE, main={**SITE.main, **main})
    with running(site=site, settings={"bounces": {"drop_backscatter": True}}) as lab:
        lab.receiver.answer(OUT, FULL)
        yield lab


@pytest.fixture(scope="module")
def rejecting() -> Iterator[Lab]:
    with running(settings={"bounces": {"reject_backscatter": True}}) as lab:
        from_outside(lab, "bob@example.org")
        submit(lab, fresh())
        lab.wait_until_queue_is_empty()
        # As if the decision log were ten days old.
        with sqlite3.connect(lab.directory / "state.db") as database:
            database.execute("UPDATE log_times SET last_at = last_at - 864000 WHERE keep_seconds = 0")
        database.close()
        yield lab


class TestDrop:
    @pytest.mark.parametrize(
        ("fields", "options"),
        [
            pytest.param(b"X-" + b"a" * 90 + b": 1\r\n", [], id="long name"),
            pytest.param(b"X-Pad: " + b"y" * 5000 + b"\r\n", ["RET=HDRS"], id="long line, header alone"),
            pytest.param(b"X-Pad: 1\r\n" * 2000, [], id="many fields"),
        ],
    )
    def test_fields_that_hide_the_ticket(self, dropping: Lab, fields: bytes, options: list[str]):
        sender = fresh("strict.example")
        data = mail(sender).replace(b"Subject:", fields + b"Subject:", 1)
        assert dropping.send(sender, "command@example.org", data, mail_options=options).accepted
        dropped_for(dropping, sender)

    @pytest.mark.parametrize("name", ["X-Pad", "From", "Date"])
    def test_long_line_in_a_large_message_of_which_the_header_alone_comes_back(self, dropping: Lab, name: str):
        sender = fresh("strict.example")
        data = mail(sender, body=("x" * 70 + "\r\n") * 1000)
        long = name.encode() + b": " + b"y" * 5000 + b"\r\n"
        assert dropping.send(sender, "command@example.org", long + data).accepted
        dropped_for(dropping, sender)

    @pytest.mark.parametrize(
        "form",
        [
            '"{}"@strict.example',
            "\\{}@strict.example",
            "{}%strict.example",
            "strict.example!{}",
            "{}%strict.example@mx.example.org",
            "{}@strict.example@mx.example.org",
            "strict.example!{}@mx.example.org",
            "{}%strict.example@[192.0.2.1]",
        ],
    )
    def test_spelling_of_the_forged_sender(self, dropping: Lab, form: str):
        victim, subject = fresh("strict.example"), fresh_subject()
        data = mail(victim, Subject=subject)
        assert dropping.send(form.format(victim.partition("@")[0]), "command@example.org", data).accepted
        dropped = lambda: [one for one in ledger(dropping) if one.subject == subject]  # noqa: E731
        wait_until(lambda: bool(dropped()), timeout_seconds=30, what="entry")
        dropping.wait_until_queue_is_empty()
        assert len(dropped()) == 1
        assert not [message for message in dropping.messages if victim in message.recipients]

    def test_notice_of_a_megabyte(self, dropping: Lab):
        sender = fresh("strict.example")
        recipients = [f"command+{number}{'x' * 400}@example.org" for number in range(500)]
        assert dropping.send(sender, recipients, mail(sender)).accepted
        dropped_for(dropping, sender)

    def test_owner_of_a_list_whose_domain_publishes_nothing(self, dropping: Lab):
        # The author's DMARC fails, as on many lists; the envelope sender has failed nothing.
        assert dropping.send("one-bounces@example.com", "command@example.org", mail("erin@strict.example")).accepted
        sent_to(dropping, "one-bounces@example.com")

    def test_owner_of_a_list_that_signs_in_its_own_name(self, dropping: Lab):
        # It came through a forwarder, so SPF fails.
        data = signed(mail("erin@example.com"), "sealer.example")
        assert dropping.send("two-bounces@sealer.example", "command@example.org", data).accepted
        sent_to(dropping, "two-bounces@sealer.example")

    def test_copy_for_the_postmaster_whom_somebody_forged(self, dropping: Lab):
        subject = fresh_subject()
        assert dropping.send(NOC, "command@example.org", mail(NOC, Subject=subject)).accepted
        dropping.wait_for(lambda message: NOC in message.recipients and subject.encode() in message.data)
        assert [one.sender for one in ledger(dropping) if one.subject == subject] == [NOC]


class TestReject:
    def test_bounce_of_a_mailbox_elsewhere_that_forwards_to_us(self, rejecting: Lab):
        received = (
            f"Received: from pc by mx.other.example (Postfix) with ESMTPSA id 4ABCDEF123;\r\n\t{formatdate()}\r\n"
        )
        data = bounce(received.encode() + mail("alice@other.example"), subject=fresh_subject())
        elsewhere = data.replace(b"To: alice@example.org", b"To: alice@other.example")
        assert rejecting.send("", "alice@example.org", elsewhere).accepted
        # In alice's name here it would be backscatter: that is what makes the difference.
        assert rejecting.send("", "alice@example.org", data).code == 550

    def test_bounce_of_a_message_with_a_folded_message_id(self, rejecting: Lab):
        recipient = fresh()
        submit(rejecting, recipient, mail().replace(b"Message-ID: <", b"Message-ID: <long.part.\r\n "))
        sent = arrived(rejecting, recipient).data
        start = sent.index(b"Message-ID:")
        kept = [sent[start : sent.index(b">", start) + 3]]
        for name in (b"From:", b"Date:"):
            at = sent.index(name)
            kept.append(sent[at : sent.index(b"\r\n", at) + 2])
        assert rejecting.send("", "alice@example.org", bounce(b"".join(kept), subject=fresh_subject())).accepted


def test_list_that_names_everybody_is_not_believed():
    listed = {query_name(ip_address(address), "dead.example") for address in ("203.0.113.1", "127.0.0.1", "127.0.0.2")}
    zones = {name: {"A": ["127.0.0.2"]} for name in listed}
    with running(zones=zones, settings={"bounces": {"backscatter_lists": ["dead.example"]}}) as lab:
        assert lab.send("", "bob@example.org", mail("mailer-daemon@example.com")).accepted
        assert "names everybody" in lab.policy.log()
