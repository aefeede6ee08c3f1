"""Authentication on arrival, Authentication-Results and rewritten senders, as Postfix sees them: a real process."""

import dataclasses
import re

import pytest
from daemons import ZONES
from mail import HEADERS, TAG, Mail, connected, received

from deliverypools.core.facts import Answer
from deliverypools.lab.dns_server import DnsFailure
from deliverypools.lab.waiting import wait_until

CLIENT = "203.0.113.1"
RESULTS = "Authentication-Results"
OUTSIDE = Mail(
    sender=b"<erin@spf.example>",
    recipients=(b"<carol@example.org>",),
    headers=((b"From", b"Erin <erin@spf.example>"), *HEADERS[1:]),
)
FORGED = Mail(
    sender=b"<erin@strict.example>",
    recipients=(b"<carol@example.org>",),
    headers=((b"From", b"Erin <erin@strict.example>"), *HEADERS[1:]),
)
AUTHENTICATING = ZONES | {
    "spf.example": {"TXT": [f'"v=spf1 ip4:{CLIENT} -all"'], "MX": ["10 mx.example.org."]},
    "strict.example": {"TXT": ['"v=spf1 -all"'], "MX": ["10 mx.example.org."]},
    "_dmarc.strict.example": {"TXT": ['"v=DMARC1; p=reject"']},
    "helo.example": {"TXT": [f'"v=spf1 ip4:{CLIENT} -all"'], "A": [CLIENT]},
}
FIELDS = {"authserv_id": "mx.example.org"}
SRS = {"srs_domain": "srs.example.org", "srs_longest_local_part": 64}
REWRITTEN = re.compile(r"<SRS0=[^=]{4}=[A-Z2-7]{2}=spf\.example=erin@srs\.example\.org>")


@pytest.fixture
def make_milter(make_site, start):
    """Start a milter whose DNS knows the domains above, with SRS."""

    def make_milter(*, forwarding=None, **changes):
        site = make_site()
        for name, records in AUTHENTICATING.items():
            site.dns.set(name, records)
        secrets = site.folder / "srs.secrets"
        secrets.write_text("a secret of this test\n", encoding="ascii")
        secrets.chmod(0o600)
        tables = {"forwarding": SRS | {"srs_secret_file": str(secrets)} | (forwarding or {})}
        site.write(**(FIELDS | tables | changes))
        return start("milter", site)

    return make_milter


@pytest.fixture
def milter(make_milter):
    return make_milter()


def through(milter, mail, daemon_name="smtpd", *, address=CLIENT, helo=b"client.example", **options):
    with connected(milter.socket_path, daemon_name, address) as client:
        client.helo(helo)
        return mail.through(client, **options)


def authenticated(milter, outcome):
    return milter.site.ticket(outcome).origin.authenticated.answer


class TestOnArrival:
    def test_spf_of_the_real_client_goes_into_ticket_and_header(self, milter):
        outcome = through(milter, OUTSIDE)
        assert authenticated(milter, outcome) is Answer.YES
        name, value = outcome.added[-1]
        assert name == RESULTS  # on top of all
        assert value.startswith("mx.example.org;")
        assert "spf=pass smtp.mailfrom=spf.example" in value

    def test_what_fails_is_told(self, milter):
        outcome = through(milter, FORGED)
        assert authenticated(milter, outcome) is Answer.NO
        (value,) = outcome.added_values(RESULTS)
        assert "spf=fail" in value
        assert "dmarc=fail" in value

    def test_null_sender_is_checked_by_the_helo_name(self, milter):
        bounce = dataclasses.replace(OUTSIDE, sender=b"<>")
        (value,) = through(milter, bounce, helo=b"helo.example").added_values(RESULTS)
        assert "spf=pass smtp.helo=helo.example" in value

    @pytest.mark.parametrize(
        "helo", [b"\xff\xfe", b"", b"a" * 2000, b"bad name ;=\t("], ids=["8-bit", "empty", "long", "odd"]
    )
    def test_any_helo_name_will_do(self, milter, helo):
        bounce = dataclasses.replace(OUTSIDE, sender=b"<>")
        outcome = through(milter, bounce, helo=helo)
        assert outcome.reply == b"c"
        assert len(outcome.added_values(RESULTS)) == 1

    def test_without_a_name_of_ours_no_field_is_written(self, make_milter):
        outcome = through(make_milter(authserv_id=None), OUTSIDE)
        assert not outcome.added_values(RESULTS)
        assert outcome.reply == b"c"

    @pytest.mark.parametrize(
        ("daemon_name", "options"),
        [
            ("SUBMISSION", {"sasl_username": "alice"}),
            ("smtpd", {"address": "127.0.0.1"}),
            ("PICKUP", {}),
            ("BOUNCE", {}),
        ],
        ids=["submission", "trusted", "pickup", "bounce"],
    )
    def test_mail_of_our_own_is_not_examined(self, milter, daemon_name, options):
        outcome = through(milter, OUTSIDE, daemon_name, **options)
        assert not outcome.added_values(RESULTS)
        assert authenticated(milter, outcome) is Answer.NOT_ASKED

    def test_switched_off_nothing_is_asked(self, make_milter):
        milter = make_milter(authentication={"enabled": False})
        outcome = through(milter, OUTSIDE)
        assert not outcome.added_values(RESULTS)
        assert authenticated(milter, outcome) is Answer.NOT_ASKED

    def test_results_of_a_trusted_verifier_are_used_instead(self, make_milter):
        verified = FORGED.below(
            (b"Authentication-Results", b"verifier.example.org; dmarc=pass header.from=strict.example")
        )
        trusting = make_milter(trusted_authserv_ids=["verifier.example.org"])
        assert authenticated(trusting, through(trusting, verified)) is Answer.YES

    def test_results_of_anybody_else_are_not(self, milter):
        claimed = FORGED.below(
            (b"Authentication-Results", b"verifier.example.org; dmarc=pass header.from=strict.example")
        )
        assert authenticated(milter, through(milter, claimed)) is Answer.NO


class TestFalseResults:
    OURS = (b"Authentication-Results", b"MX.example.org 1; dmarc=pass header.from=strict.example")
    OTHER = (b"authentication-results", b"mx.example.com; spf=pass smtp.mailfrom=example.com")

    @pytest.mark.parametrize(
        ("daemon_name", "options"),
        [
            ("smtpd", {}),
            ("SUBMISSION", {"sasl_username": "alice"}),
            ("smtpd", {"address": "127.0.0.1"}),
            ("PICKUP", {}),
        ],
        ids=["outside", "submission", "trusted", "pickup"],
    )
    def test_fields_in_our_name_go_others_stay(self, milter, daemon_name, options):
        mail = FORGED.below(self.OURS, self.OTHER, self.OURS, self.OTHER, self.OURS)
        outcome = through(milter, mail, daemon_name, **options)
        assert [index for index, _, _ in outcome.changed] == [5, 3, 1]
        left = mail.after(dataclasses.replace(outcome, added=[])).values(RESULTS)
        assert left == [self.OTHER[1]] * 2

    def test_they_do_not_count(self, milter):
        assert authenticated(milter, through(milter, FORGED.below(self.OURS))) is Answer.NO

    def test_51_of_them_are_refused(self, milter):
        outcome = through(milter, FORGED.below(*[self.OURS] * 51))
        assert outcome.reply == b"y"
        assert outcome.text.startswith("550 5.7.1 Too many")

    def test_our_own_field_stays_when_a_mailbox_sends_the_message_on(self, milter):
        arrived = OUTSIDE.after(through(milter, OUTSIDE))
        assert arrived.values(RESULTS)
        outcome = through(milter, arrived, "PICKUP")
        assert not [name for _, name, _ in outcome.changed if name == RESULTS]

    def test_but_not_when_it_was_changed(self, milter):
        arrived = OUTSIDE.after(through(milter, OUTSIDE)).but("Subject", b"changed")
        assert RESULTS in [name for _, name, _ in through(milter, arrived, "PICKUP").changed]

    @pytest.mark.parametrize("daemon_name", ["smtpd", "PICKUP"])
    def test_nor_does_another_in_its_company(self, milter, daemon_name):
        arrived = FORGED.after(through(milter, FORGED)).below(self.OURS)
        changed = through(milter, arrived, daemon_name).changed
        assert (1, RESULTS, "") in changed
        # What comes from outside a second time is examined anew, and so its first field goes too.
        assert ((2, RESULTS, "") in changed) is (daemon_name == "smtpd")


class TestRewrittenSender:
    def forwarded(self, milter, mail, **changes):
        arrived = mail.after(through(milter, mail, queue_id="4OUTSIDE01z"))
        leaving = {"recipients": (b"<dave@example.net>",)} | changes
        return dataclasses.replace(arrived.below(received(queue_id="4OUTSIDE01z")), **leaving)

    def test_authenticated_forward_leaves_with_it(self, milter):
        outcome = through(milter, self.forwarded(milter, OUTSIDE), "EGRESS", address="127.0.0.1")
        assert outcome.added_values(TAG) == ["relay"]
        assert REWRITTEN.fullmatch(outcome.new_sender)

    def test_requeued_it_stays(self, milter):
        first = self.forwarded(milter, OUTSIDE)
        again = first.after(through(milter, first, "EGRESS", address="127.0.0.1")).below(
            received(queue_id="4AGAIN0001z")
        )
        assert REWRITTEN.fullmatch(again.sender.decode())
        outcome = through(milter, again, "EGRESS", address="127.0.0.1")
        assert outcome.new_sender is None
        assert outcome.added_values(TAG) == ["relay"]

    def test_other_forward_leaves_as_it_is(self, milter):
        outcome = through(milter, self.forwarded(milter, FORGED), "EGRESS", address="127.0.0.1")
        assert (outcome.new_sender, outcome.added_values(TAG)) == (None, ["relay"])

    def test_ticket_of_another_message_authenticates_nothing(self, milter):
        stolen = self.forwarded(milter, OUTSIDE).but("Subject", b"another one")
        outcome = through(milter, stolen, "EGRESS", address="127.0.0.1")
        assert outcome.reply == b"y"
        assert outcome.new_sender is None

    def test_in_shadow_mode_nothing_is_rewritten_or_refused(self, make_milter):
        milter = make_milter(shadow=True, forwarding={"unauthenticated_forward": "reject"})
        for mail in (OUTSIDE, FORGED):
            outcome = through(milter, self.forwarded(milter, mail), "EGRESS", address="127.0.0.1")
            assert (outcome.reply, outcome.new_sender, outcome.added_values(TAG)) == (b"c", None, ["normal"])

    def test_what_dns_could_not_tell_is_asked_again(self, make_milter):
        milter = make_milter(dns={"servfail_cache_seconds": 0})
        dns = milter.site.dns
        dns.fail("spf.example", DnsFailure.SERVFAIL, "TXT")
        mail = self.forwarded(milter, OUTSIDE)
        undecided = through(milter, mail, "EGRESS", address="127.0.0.1")
        assert undecided.text.startswith("451 4.7.1")
        dns.fail("spf.example", None, "TXT")
        # Answers are kept for a second.
        wait_until(lambda: self.is_rewritten(milter, mail), timeout_seconds=10, what="the sender to be rewritten")

    def is_rewritten(self, milter, mail):
        outcome = through(milter, mail, "EGRESS", address="127.0.0.1")
        return outcome.new_sender is not None and REWRITTEN.fullmatch(outcome.new_sender)


class TestTicketOfOtherMail:
    """A ticket that says "authenticated" is worth nothing on mail that was changed, or that somebody else sends."""

    @pytest.mark.parametrize(
        ("daemon_name", "address"), [("PICKUP", CLIENT), ("smtpd", "127.0.0.1"), ("REINJECT", CLIENT)]
    )
    def test_changed_mail(self, milter, daemon_name, address):
        arrived = OUTSIDE.after(through(milter, OUTSIDE)).but("From", b"ceo@strict.example")
        outcome = through(milter, arrived, daemon_name, address=address)
        ticket = milter.site.ticket(outcome)
        assert ticket.origin.authenticated.answer is Answer.NO
        assert ticket.is_of_changed_mail

    def test_mail_whose_authentication_was_unknown_is_not_asked_about_again(self, make_milter):
        milter = make_milter(dns={"servfail_cache_seconds": 0})
        milter.site.dns.fail("spf.example", DnsFailure.SERVFAIL, "TXT")
        arrived = OUTSIDE.after(through(milter, OUTSIDE)).but("Subject", b"changed")
        outcome = through(milter, arrived, "PICKUP")
        assert authenticated(milter, outcome) is Answer.NO

    def test_another_sender_is_not_rewritten(self, milter):
        forwarding = TestRewrittenSender()
        for sender in (b"<alice@example.org>", b"<ceo@strict.example>"):
            mail = forwarding.forwarded(milter, OUTSIDE, sender=sender)
            outcome = through(milter, mail, "EGRESS", address="127.0.0.1")
            assert (outcome.new_sender, outcome.added_values(TAG)) == (None, ["relay"])


class TestSendersInOurSrsDomain:
    @pytest.mark.parametrize(
        "sender",
        [
            b"<ceo@srs.example.org>",
            b"<SRS0=aaaa=AA=x.example=y@srs.example.org>",
            b"<ceo%srs.example.org>",
            b"<srs.example.org!ceo>",
            b'<"ceo@srs.example.org">',
            b"<ceo%srs.example.org@example.org>",
        ],
    )
    def test_strangers_are_refused(self, milter, sender):
        outcome = through(milter, dataclasses.replace(FORGED, sender=sender))
        assert outcome.text == "550 5.7.1 Nobody outside sends with a sender in this domain"

    def test_a_forward_of_ours_that_comes_back_leaves_with_the_original_sender(self, milter):
        forwarding = TestRewrittenSender()
        rewritten = through(milter, forwarding.forwarded(milter, OUTSIDE), "EGRESS", address="127.0.0.1").new_sender
        back = dataclasses.replace(FORGED, sender=rewritten.encode())
        outcome = through(milter, forwarding.forwarded(milter, back), "EGRESS", address="127.0.0.1")
        assert outcome.new_sender == "<erin@spf.example>"


class TestRefused:
    def test_unauthenticated_forward_goes_back_to_the_mailbox(self, make_milter):
        milter = make_milter(forwarding={"unauthenticated_forward": "reject"})
        mail = TestRewrittenSender().forwarded(milter, FORGED)
        outcome = through(milter, mail, "EGRESS", address="127.0.0.1")
        assert (outcome.reply, outcome.added_values(TAG)) == (b"c", ["refused"])
        assert outcome.new_sender == "<carol@example.org>"

    def test_or_to_the_postmaster_where_the_mailbox_cannot_be_told(self, make_milter):
        milter = make_milter(forwarding={"unauthenticated_forward": "reject"})
        two = dataclasses.replace(FORGED, recipients=(b"<carol@example.org>", b"<dave@example.org>"))
        outcome = through(milter, TestRewrittenSender().forwarded(milter, two), "EGRESS", address="127.0.0.1")
        assert outcome.new_sender == "<postmaster@example.org>"

    def test_mailbox_that_may_not_forward(self, make_milter):
        milter = make_milter(outbound_policies=[{"name": "default", "automatic_forwarding": "off"}])
        mail = TestRewrittenSender().forwarded(milter, OUTSIDE).below((b"Delivered-To", b"carol@example.org"))
        outcome = through(milter, mail, "EGRESS", address="127.0.0.1")
        assert outcome.text.startswith("550 5.7.1 The mailbox that forwards this message may not do so.")

    def test_the_reply_is_plain_ascii_whatever_the_contact(self, make_milter):
        milter = make_milter(
            outbound_policies=[{"name": "default", "automatic_forwarding": "off"}],
            alerts={"contact": "Jörg <helpdesk@example.org>, 100% sure"},
        )
        mail = TestRewrittenSender().forwarded(milter, OUTSIDE).below((b"Delivered-To", b"carol@example.org"))
        outcome = through(milter, mail, "EGRESS", address="127.0.0.1")
        assert outcome.text.endswith("may not do so. Ask J?rg ?helpdesk@example.org?, 100? sure")

    def test_name_of_a_mailbox_with_odd_bytes_becomes_no_sender(self, make_milter):
        milter = make_milter(forwarding={"unauthenticated_forward": "reject"})
        mail = TestRewrittenSender().forwarded(milter, FORGED).below((b"Delivered-To", b"x\xff\n y@example.org"))
        outcome = through(milter, mail, "EGRESS", address="127.0.0.1")
        assert outcome.new_sender == "<carol@example.org>"

    def test_mailbox_behind_an_alias(self, make_milter):
        milter = make_milter(outbound_policies=[{"name": "default", "automatic_forwarding": "off"}])
        mail = TestRewrittenSender().forwarded(milter, OUTSIDE).below((b"Delivered-To", b"games@example.org"))
        assert through(milter, mail, "EGRESS", address="127.0.0.1").text.startswith("550 5.7.1 The mailbox")

    def test_forged_sender_is_not_told(self, make_milter):
        milter = make_milter(outbound_policies=[{"name": "default", "automatic_forwarding": "off"}])
        mail = TestRewrittenSender().forwarded(milter, FORGED).below((b"Delivered-To", b"carol@example.org"))
        outcome = through(milter, mail, "EGRESS", address="127.0.0.1")
        assert (outcome.reply, outcome.added_values(TAG)) == (b"c", ["refused"])
        assert outcome.new_sender == "<postmaster@example.org>"

    def test_copies_for_an_archive_leave(self, make_milter):
        milter = make_milter(forwarding={"unauthenticated_forward": "reject"})
        archive = (b"<archive@example.net> NOTIFY=NEVER",)
        mail = dataclasses.replace(TestRewrittenSender().forwarded(milter, FORGED), recipients=archive)
        outcome = through(milter, mail, "EGRESS", address="127.0.0.1")
        assert (outcome.added_values(TAG), outcome.new_sender, outcome.recipients) == (["relay"], None, [])

    def test_a_sender_that_wants_no_notice_does_not_make_mail_vanish(self, make_milter):
        milter = make_milter(forwarding={"unauthenticated_forward": "reject"})
        silent = dataclasses.replace(FORGED, recipients=(b"<carol@example.org> NOTIFY=NEVER",))
        mail = TestRewrittenSender().forwarded(milter, silent, recipients=(b"<dave@example.net> NOTIFY=NEVER",))
        outcome = through(milter, mail, "EGRESS", address="127.0.0.1")
        assert outcome.added_values(TAG) == ["refused"]
        assert outcome.recipients == [("-", "<dave@example.net>"), ("2", "<dave@example.net>", "NOTIFY=FAILURE")]

    def test_virtual_alias_is_not_the_mailbox_s_own_doing(self, make_milter):
        milter = make_milter(outbound_policies=[{"name": "default", "automatic_forwarding": "off"}])
        outcome = through(milter, TestRewrittenSender().forwarded(milter, OUTSIDE), "EGRESS", address="127.0.0.1")
        assert outcome.added_values(TAG) == ["relay"]


class TestSrsRecipients:
    @pytest.mark.parametrize("daemon_name", ["smtpd", "SUBMISSION", "PICKUP"])
    def test_only_bounces_may_go_to_them(self, milter, daemon_name):
        outcome = through(milter, TestRewrittenSender().forwarded(milter, OUTSIDE), "EGRESS", address="127.0.0.1")
        recipients = (b"<carol@example.org>", outcome.new_sender.encode())
        mail = dataclasses.replace(FORGED, recipients=recipients)
        options = {"sasl_username": "alice"} if daemon_name == "SUBMISSION" else {}
        assert through(milter, mail, daemon_name, **options).text.startswith(
            "550 5.7.1 SRS addresses take bounces only"
        )
        bounce = dataclasses.replace(mail, sender=b"<>")
        assert through(milter, bounce, daemon_name, **options).reply == b"c"

    @pytest.mark.parametrize(
        "route",
        [
            "{}%srs.example.org",
            "srs.example.org!{}",
            "{}%srs.example.org@example.org",
            '"{}@srs.example.org"@example.org',
        ],
    )
    def test_no_way_round_leads_to_them(self, milter, route):
        outcome = through(milter, TestRewrittenSender().forwarded(milter, OUTSIDE), "EGRESS", address="127.0.0.1")
        local_part = outcome.new_sender.strip("<>").partition("@")[0]
        for sender in (b"<>", b"<erin@strict.example>"):
            mail = dataclasses.replace(FORGED, sender=sender, recipients=(f"<{route.format(local_part)}>".encode(),))
            assert through(milter, mail).text == "550 5.7.1 SRS addresses take no routed mail"

    def test_forged_ones_are_refused(self, milter):
        mail = dataclasses.replace(
            FORGED, sender=b"<>", recipients=(b"<SRS0=aaaa=BB=victim.example=user@srs.example.org>",)
        )
        assert through(milter, mail).text.startswith("550 5.7.7 The SRS address of the recipient was not made here")
