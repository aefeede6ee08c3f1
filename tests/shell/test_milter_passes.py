"""Both passes of the milter as Postfix sees them: a real process, asked over its socket."""

import dataclasses

import pytest
from mail import TAG, TICKET, Mail, connected, received

from deliverypools.core.facts import Answer, Ingress
from deliverypools.lab.dns_server import DnsFailure

MAIL = Mail()


@pytest.fixture
def milter(shared_milter):
    return shared_milter


@pytest.fixture
def send(milter):
    """Send one message on a connection of its own; return what the milter wants done."""

    def send(mail, daemon_name="smtpd", *, address="198.51.100.7", **options):
        with connected(milter.socket_path, daemon_name, address) as client:
            return mail.through(client, **options)

    return send


@pytest.fixture
def submitted(send):
    """Send a message through the first pass of an authenticated client; return it with its ticket."""
    return lambda mail: mail.after(send(mail, "SUBMISSION", sasl_username="alice"))


def decision(outcome):
    assert outcome.reply == b"c", outcome
    (pool,) = outcome.added_values(TAG)
    return pool


class TestFirstPass:
    def test_adds_a_ticket_and_no_tag(self, milter, send):
        outcome = send(MAIL, "SUBMISSION", sasl_username="Alice")
        assert (outcome.reply, outcome.changed, outcome.added_values(TAG)) == (b"c", [], [])
        origin = milter.site.ticket(outcome).origin
        assert (origin.ingress, origin.account) == (Ingress.SUBMISSION, "alice")
        assert (origin.envelope_sender, origin.client_address) == ("alice@example.org", "198.51.100.7")

    def test_replaces_forged_tickets_and_tags(self, send):
        forged = MAIL.below(
            (TAG.encode(), b"normal"), (TICKET.lower().encode(), b"gAAAAABforged"), (TAG.upper().encode(), b"relay")
        )
        outcome = send(forged)
        assert [(index, name.lower()) for index, name, _ in outcome.changed] == [
            (2, TAG.lower()),
            (1, TAG.lower()),
            (1, TICKET.lower()),
        ]
        after = forged.after(outcome)
        assert (len(after.values(TAG)), len(after.values(TICKET))) == (0, 1)

    def test_replaces_a_genuine_ticket_that_comes_over_smtp(self, milter, send, submitted):
        outcome = send(submitted(MAIL))
        assert milter.site.ticket(outcome).origin.ingress is Ingress.OUTSIDE

    @pytest.mark.parametrize(
        ("daemon_name", "address", "ingress"),
        [
            ("smtpd", "198.51.100.7", Ingress.OUTSIDE),
            ("smtpd", "2001:db8::7", Ingress.OUTSIDE),
            ("smtpd", "127.0.0.1", Ingress.TRUSTED),
            ("", "127.0.0.1", Ingress.TRUSTED),
            ("PICKUP", "127.0.0.1", Ingress.LOCAL),
            ("BOUNCE", "127.0.0.1", Ingress.BOUNCE),
        ],
    )
    def test_tells_how_a_message_came_in(self, milter, send, daemon_name, address, ingress):
        assert milter.site.ticket(send(MAIL, daemon_name, address=address)).origin.ingress is ingress

    @pytest.mark.parametrize("sender", [b"<>", b""])
    def test_both_forms_of_the_null_sender(self, milter, send, sender):
        outcome = send(dataclasses.replace(MAIL, sender=sender), "BOUNCE")
        assert milter.site.ticket(outcome).origin.envelope_sender == ""

    def test_folds_the_ticket_below_900_characters(self, send):
        many = dataclasses.replace(MAIL, recipients=tuple(b"<user%d@example.net>" % number for number in range(500)))
        (value,) = send(many).added_values(TICKET)
        assert max(map(len, value.split("\n"))) < 900

    def test_refuses_51_forged_tags(self, send):
        outcome = send(MAIL.below(*[(TAG.encode(), b"normal")] * 51))
        assert (outcome.reply, outcome.text, outcome.added) == (
            b"y",
            "550 5.7.1 Too many X-Delivery-Pool or Authentication-Results header fields in our name",
            [],
        )

    def test_strips_50_forged_tags(self, send):
        forged = MAIL.below(*[(TAG.encode(), b"normal")] * 50)
        assert forged.after(send(forged)).values(TAG) == []


class TestEgressPass:
    def test_tags_and_refreshes_the_ticket(self, milter, send, submitted):
        before = submitted(MAIL)
        outcome = send(before, "EGRESS", address="127.0.0.1")
        assert decision(outcome) == "normal"
        fresh = milter.site.ticket(outcome)
        assert (fresh.pool, fresh.rule, fresh.origin.account) == ("normal", "default", "alice")
        after = before.after(outcome)
        assert (len(after.values(TICKET)), after.values(TICKET) == before.values(TICKET)) == (1, False)

    def test_decides_the_same_again_after_a_requeue(self, milter, send):
        mail = MAIL.after(send(MAIL))
        for _ in range(3):
            outcome = send(mail.below(received()), "EGRESS")
            assert decision(outcome) == "relay"
            mail = mail.after(outcome)
        assert len(mail.values(TAG)) == 1

    def test_ticket_lives_on_under_its_id(self, milter, send):
        first = send(MAIL)
        second = send(MAIL.after(first), "EGRESS")
        assert milter.site.ticket(first).ticket_id == milter.site.ticket(second).ticket_id
        assert milter.site.ticket(first).made_at == milter.site.ticket(second).made_at

    def test_replaces_a_forged_tag(self, send, submitted):
        forged = submitted(MAIL).below((TAG.encode(), b"normal"), (TAG.encode(), b"relay"))
        after = forged.after(send(forged, "EGRESS"))
        assert after.values(TAG) == [b"normal"]

    @pytest.mark.parametrize(
        ("sender", "fields", "pool"),
        [
            (b"<>", (), "high-risk"),
            (b"", (), "high-risk"),
            (b"<eve@example.net>", (), "relay"),
            (b"<eve@nothing.example>", (), "high-risk"),
            (b"<eve@nowhere.invalid>", (), "high-risk"),
            (b"<alice@EXAMPLE.org>", (), "normal"),
            (b"<alice@example.org>", ((b"X-Spam-Flag", b"YES"),), "high-risk"),
            (b"<alice@example.org>", ((b"X-Spam-Flag", b"NO"),), "normal"),
            (
                b"<alice@example.org>",
                ((b"Content-Type", b"multipart/report; report-type=delivery-status"),),
                "high-risk",
            ),
        ],
    )
    def test_pool_of_submitted_mail(self, send, submitted, sender, fields, pool):
        mail = dataclasses.replace(MAIL, sender=sender).below(*fields)
        assert decision(send(submitted(mail), "EGRESS")) == pool

    def test_spam_verdict_of_the_first_pass_counts_though_the_header_is_gone(self, send, submitted):
        flagged = submitted(MAIL.below((b"X-Spam-Flag", b"YES")))
        cleaned = flagged.with_headers(field for field in flagged.headers if field[0] != b"X-Spam-Flag")
        assert decision(send(cleaned, "EGRESS")) == "high-risk"

    @pytest.mark.parametrize("name", ["Subject", "From", "Date", "Message-ID"])
    def test_ticket_on_a_message_with_another_field_is_not_believed(self, send, submitted, name):
        other = submitted(MAIL).but(name, b"something else").below(received())
        outcome = send(other, "EGRESS")
        assert (outcome.reply, outcome.added) == (b"y", [])
        assert outcome.text.startswith("451 4.7.1 Not yet decided")

    def test_ticket_on_another_body_is_not_believed(self, milter, send, submitted):
        other = dataclasses.replace(submitted(MAIL), body=b"buy this\r\n").below(received())
        assert send(other, "EGRESS", queue_id="4ANOTHER01z").reply == b"y"
        milter.wait_for_log(
            '4ANOTHER01z: pass=egress pool=undecided rule=undecided reasons="ticket of another message (body differs)"'
        )

    def test_two_tickets_are_not_believed(self, send, submitted):
        mail = submitted(MAIL)
        assert send(mail.below((TICKET.encode(), mail.values(TICKET)[0]), received()), "EGRESS").reply == b"y"

    def test_forged_ticket_is_not_believed(self, send):
        assert send(MAIL.below((TICKET.encode(), b"gAAAAABforged"), received()), "EGRESS").reply == b"y"

    def test_spam_without_a_ticket_need_not_wait(self, send):
        assert decision(send(MAIL.below((b"X-Spam", b"Yes"), received()), "EGRESS")) == "high-risk"

    def test_mail_without_a_ticket_leaves_by_high_risk_after_its_time(self, milter, send):
        outcome = send(MAIL.below(received(seconds_ago=4 * 3600 + 10)), "EGRESS")
        assert decision(outcome) == "high-risk"
        assert milter.site.ticket(outcome).origin is None

    def test_mail_without_a_ticket_waits_until_then(self, send):
        assert send(MAIL.below(received(seconds_ago=4 * 3600 - 60)), "EGRESS").reply == b"y"

    def test_mail_that_nothing_is_known_of_leaves_by_high_risk_at_once(self, send):
        assert decision(send(MAIL, "EGRESS")) == "high-risk"

    def test_the_ticket_of_the_egress_pass_does_not_make_unknown_mail_known(self, send):
        mail = MAIL.below(received())
        late = mail.with_headers((received(seconds_ago=5 * 3600), *MAIL.headers))
        tagged = late.after(send(late, "EGRESS"))
        assert decision(send(tagged, "EGRESS")) == "high-risk"

    def test_log_has_one_line_a_decision(self, milter, send, submitted):
        send(submitted(MAIL), "EGRESS", queue_id="4LOGLINE01z")
        milter.wait_for_log(
            '4LOGLINE01z: pass=egress pool=normal rule=default reasons="no other rule matched"'
            " account=alice kind=ordinary message-id=<1@example.org>"
        )


class TestLocalMail:
    def test_is_charged_in_the_egress_pass_to_the_user_who_called_sendmail(self, milter, send):
        outcome = send(MAIL, "PICKUP", queue_id="4PICKUP001z")
        assert milter.site.ticket(outcome).origin.over_limit.answer is Answer.NOT_ASKED
        field = b"by mx.example.org (Postfix, from userid 4711)\n\tid 4PICKUP001z; " + received()[1].split(b"; ")[1]
        forged = b"by mx.example.org (Postfix, from userid 4712)\n\tid 4FORGED001z; " + received()[1].split(b"; ")[1]
        queued = MAIL.after(outcome).below((b"Received", forged), (b"Received", field))
        for _ in range(2):
            fresh = send(queued, "EGRESS")
            queued = queued.after(fresh)
        assert milter.site.ticket(fresh).origin.account == "uid:4711"
        assert milter.site.recipients_counted("uid:4711", Ingress.LOCAL) == 1
        assert milter.site.recipients_counted("uid:4712", Ingress.LOCAL) == 0

    def test_outside_mail_that_sendmail_sends_on_stays_outside_mail(self, send):
        mail = MAIL.after(send(MAIL))
        mail = mail.after(send(mail, "PICKUP"))
        assert len(mail.values(TICKET)) == 1
        assert decision(send(mail, "EGRESS")) == "relay"

    def test_pickup_keeps_a_bounce_ticket_but_strips_a_tag(self, send):
        bounce = dataclasses.replace(MAIL, sender=b"")
        mail = bounce.after(send(bounce, "BOUNCE")).below((TAG.encode(), b"normal"))
        after = mail.after(send(mail, "PICKUP"))
        assert (after.values(TAG), len(after.values(TICKET))) == ([], 1)
        assert decision(send(after, "EGRESS")) == "high-risk"

    def test_pickup_replaces_a_submission_ticket(self, milter, send, submitted):
        mail = submitted(MAIL)
        outcome = send(mail, "PICKUP")
        assert milter.site.ticket(outcome).origin.ingress is Ingress.LOCAL
        assert len(mail.after(outcome).values(TICKET)) == 1

    @pytest.mark.parametrize("way", [{"daemon_name": "PICKUP"}, {"address": "127.0.0.1"}, {"daemon_name": "REINJECT"}])
    @pytest.mark.parametrize("name", ["Subject", "Message-ID", "Date"])
    def test_outside_mail_that_was_changed_on_its_way_through_us_stays_outside_mail(self, milter, send, way, name):
        mail = MAIL.after(send(MAIL)).but(name, b"something else")
        mail = mail.after(send(mail, **way))
        assert len(mail.values(TICKET)) == 1
        assert decision(send(mail, "EGRESS")) == "relay"

    def test_mailbox_that_forwarded_is_one_that_we_accepted_for(self, milter, send):
        two = (b"<carol@example.org>", b"<frank@example.org>")
        outside = dataclasses.replace(MAIL, recipients=two).below((b"Delivered-To", b"frank@example.org"))
        mail = outside.after(send(outside, queue_id="4OUTSIDE01z")).below(received(queue_id="4OUTSIDE01z"))
        no_recipient = (b"Delivered-To", b"dave@example.org")
        mail = mail.below(no_recipient, (b"Delivered-To", b"Carol@example.org"))
        send(mail, "EGRESS", queue_id="4FORWARD01z")
        milter.wait_for_log('reasons="arrived from outside (198.51.100.7); forwarded by dave@example.org; ')

    def test_what_the_stranger_wrote_names_no_mailbox(self, milter, send):
        two = (b"<carol@example.org>", b"<frank@example.org>")
        outside = dataclasses.replace(MAIL, recipients=two).below((b"Delivered-To", b"frank@example.org"))
        mail = outside.after(send(outside, queue_id="4OUTSIDE02z")).below(received(queue_id="4OUTSIDE02z"))
        send(mail, "EGRESS", queue_id="4FORWARD02z")
        milter.wait_for_log(
            '4FORWARD02z: pass=egress pool=relay rule=forwarded reasons="arrived from outside (198.51.100.7); not auth'
        )


def test_ticket_that_comes_in_too_many_queue_files_is_not_believed_any_more(milter, submitted):
    mail = submitted(MAIL)
    with connected(milter.socket_path, "EGRESS") as client:
        outcomes = [mail.below(received(queue_id=f"4USED{n:05d}z")).through(client).reply for n in range(1001)]
        again = mail.below(received(queue_id="4USED00000z")).through(client).reply
    assert (set(outcomes[:1000]), outcomes[1000], again) == ({b"c"}, b"y", b"c")


class TestReinjected:
    def test_binds_anew_what_a_filter_has_changed(self, milter, send, submitted):
        filtered = dataclasses.replace(submitted(MAIL).but("Subject", b"[EXTERNAL] Minutes"), body=b"with a footer\r\n")
        outcome = send(filtered, "REINJECT", address="127.0.0.1")
        assert milter.site.ticket(outcome).origin.account == "alice"
        rebound = filtered.after(outcome)
        assert len(rebound.values(TICKET)) == 1
        assert decision(send(rebound, "EGRESS")) == "normal"

    def test_keeps_id_and_age(self, milter, send):
        first = send(MAIL)
        second = send(MAIL.after(first), "REINJECT")
        one, two = milter.site.ticket(first), milter.site.ticket(second)
        assert (one.ticket_id, one.made_at, one.first_queue_id) == (two.ticket_id, two.made_at, two.first_queue_id)

    @pytest.mark.parametrize("name", ["From", "Date", "Message-ID"])
    def test_a_submission_ticket_of_another_message_is_removed(self, send, submitted, name):
        other = submitted(MAIL).but(name, b"something else")
        outcome = send(other, "REINJECT")
        assert other.after(outcome).values(TICKET) == []

    def test_mail_without_a_ticket_gets_none(self, send):
        assert send(MAIL, "REINJECT", address="127.0.0.1").added == []


class TestOneConnection:
    def test_nothing_of_a_spam_message_is_left_for_the_next(self, milter, submitted):
        spam, ham = submitted(MAIL.below((b"X-Spam", b"Yes"))), submitted(MAIL)
        with connected(milter.socket_path, "EGRESS") as client:
            assert decision(spam.through(client)) == "high-risk"
            assert decision(ham.through(client)) == "normal"
            assert decision(spam.through(client)) == "high-risk"

    def test_recipients_are_those_of_one_message(self, milter):
        many = dataclasses.replace(MAIL, recipients=(b"<a@example.net>", b"<b@example.net>", b"<c@example.net>"))
        with connected(milter.socket_path) as client:
            assert milter.site.ticket(many.through(client)).recipient_count == 3
            assert milter.site.ticket(MAIL.through(client)).recipient_count == 1

    @pytest.mark.parametrize("steps", range(5))
    def test_nothing_of_an_aborted_message_is_left_for_the_next(self, milter, submitted, steps):
        ham = submitted(MAIL)
        with connected(milter.socket_path, "EGRESS") as client:
            for step in (
                lambda: client.mail(b"<eve@nothing.example>"),
                lambda: client.rcpt(b"<a@example.net>"),
                lambda: client.header(b"X-Spam", b"Yes"),
                lambda: client.header(TAG.encode(), b"normal"),
                lambda: client.body(b"spam\r\n"),
            )[: steps + 1]:
                step()
            client.abort()
            assert decision(ham.through(client)) == "normal"

    def test_a_message_without_an_abort_before_it(self, milter, submitted):
        ham = submitted(MAIL)
        with connected(milter.socket_path, "EGRESS") as client:
            client.mail(b"<>")
            client.rcpt(b"<bob@example.net>")
            client.header(b"X-Spam", b"Yes")
            assert decision(ham.through(client)) == "normal"

    def test_authentication_is_that_of_one_message(self, milter):
        with connected(milter.socket_path, "SUBMISSION") as client:
            assert milter.site.ticket(MAIL.through(client, sasl_username="alice")).origin.account == "alice"
            assert milter.site.ticket(MAIL.through(client, sasl_username="bob")).origin.account == "bob"


class TestOddMail:
    @pytest.mark.parametrize(
        "mail",
        [
            MAIL.but("From", b"J\xf6rg <alice@example.org>"),
            MAIL.but("Subject", b"\xff\xfe \xc3\xa9 \xc3"),
            MAIL.below((b"X-Spam-Status", b"No, \xe9t\xe9")),
            MAIL.below((b"Received", b"\xff" * 500)),
            MAIL.but("Message-ID", b"x" * 1500),
            MAIL.but("From", b"a" * 1488 + b"@example.org"),
            MAIL.but("Subject", b"word " * 300),
            MAIL.but("Date", b""),
            MAIL.with_headers(()),
            MAIL.below((b"X" * 1500, b"y")),
            MAIL.below(*[(b"Received", b"by x")] * 400),
            dataclasses.replace(MAIL, body=b""),
            dataclasses.replace(MAIL, body=bytes(range(1, 256)) * 400),
            dataclasses.replace(
                MAIL, recipients=(b"<b\xf6b@example.net>", b'<"a b@c"@example.net>', b"<" + b"x" * 900 + b">")
            ),
        ],
        ids=lambda mail: "",
    )
    def test_goes_through_both_passes(self, send, submitted, mail):
        assert decision(send(submitted(mail), "EGRESS")) == "normal"

    @pytest.mark.parametrize(
        "sender", [b"<j\xf6rg@example.org>", b"<j\xc3\xb6rg@example.org>", b'<"a@b c"@example.org>']
    )
    def test_odd_sender_of_ours_is_ours(self, send, submitted, sender):
        assert decision(send(submitted(dataclasses.replace(MAIL, sender=sender)), "EGRESS")) == "normal"

    @pytest.mark.parametrize(
        "sender", [b"<@>", b"<root>", b"<\xff>", b"<a@\xff>", b"<a@b\x01c>", b"<" + b"x" * 2000 + b">"]
    )
    def test_odd_sender_of_nobody_never_leaves_by_normal(self, send, submitted, sender):
        assert decision(send(submitted(dataclasses.replace(MAIL, sender=sender)), "EGRESS")) in ("high-risk", "relay")

    def test_more_headers_than_are_read_never_leave_by_normal(self, send, submitted):
        flood = submitted(MAIL).below(received(), *[(b"X-Spam", b"No")] * 600)
        assert decision(send(flood, "EGRESS")) == "high-risk"

    def test_postfix_may_fold_long_lines_between_the_passes(self, send, submitted):
        mail = submitted(MAIL.but("Subject", b"x" * 1500).but("From", b"y" * 1500))
        folded = mail.but("Subject", b"x" * 988 + b"\n " + b"x" * 512).but("From", b"y" * 988 + b"\n " + b"y" * 512)
        assert decision(send(folded, "EGRESS")) == "normal"

    @pytest.mark.parametrize("chunk_bytes", [1, 7, 4096])
    def test_chunks_do_not_change_the_binding(self, milter, send, chunk_bytes):
        mail = dataclasses.replace(MAIL, body=b"0123456789abcdef\r\n" * 300)
        whole = milter.site.ticket(send(mail, chunk_bytes=65535))
        parts = milter.site.ticket(send(mail, chunk_bytes=chunk_bytes))
        assert whole.binding == parts.binding

    def test_the_rest_of_a_large_body_is_not_asked_for(self, milter):
        with connected(milter.socket_path) as client:
            client.mail(b"<alice@example.org>")
            client.rcpt(b"<bob@example.net>")
            client.header(b"Subject", b"large")
            assert [client.body(b"x" * 65_535) for _ in range(2)] == [b"c", b"s"]
            assert client.end("4LARGE0001z").reply == b"c"

    def test_what_differs_beyond_64_kb_is_the_same_message(self, send, submitted):
        mail = submitted(dataclasses.replace(MAIL, body=b"x" * 70_000))
        assert decision(send(dataclasses.replace(mail, body=b"x" * 70_000 + b"a footer"), "EGRESS")) == "normal"


def test_mail_waits_while_dns_fails(milter, send, submitted):
    milter.site.dns.fail("servfail.example", DnsFailure.SERVFAIL)
    mail = submitted(dataclasses.replace(MAIL, sender=b"<eve@servfail.example>"))
    outcome = send(mail, "EGRESS")
    assert (outcome.reply, outcome.text[:9], outcome.added) == (b"y", "451 4.7.1", [])
