"""The ticket: its content, what binds it to one message, and its form as a header."""

import dataclasses

import pytest
from cryptography.fernet import Fernet

from deliverypools.adapters.seal import TicketSealer, open_ticket
from deliverypools.core.facts import Answer, Finding, Ingress, Origin
from deliverypools.core.ticket import (
    BODY_BYTES,
    Binder,
    BodyDigest,
    Ticket,
    TicketError,
    fold,
    recipient_digests,
    unfold,
)

FIELDS = (
    ("From", "Alice <alice@example.org>"),
    ("Date", "Tue, 21 Nov 2023 10:00:00 +0000"),
    ("Message-ID", "<1@example.org>"),
    ("Subject", "Minutes of the meeting"),
)
KEY = Fernet.generate_key()
NOW = 1_700_000_000.0


def binding(fields=FIELDS, body=b"hello\r\n"):
    binder = Binder()
    for name, value in fields:
        binder.add_field(name, value)
    binder.add_body(body)
    return binder.binding()


TICKET = Ticket(
    ticket_id="AbCdEfGhIjKl",
    made_at=NOW,
    first_queue_id="4SZPlw1CyQz3wkL",
    origin=Origin(
        ingress=Ingress.SUBMISSION,
        account="alice",
        envelope_sender="alice@example.org",
        client_address="2001:db8::7",
        over_limit=Finding(Answer.YES, "alice: 9 recipients"),
        spam="X-Spam: Yes",
    ),
    binding=binding(),
    recipient_count=2,
    recipient_digests=recipient_digests("AbCdEfGhIjKl", ["bob@example.net", "carol@example.net"]),
    pool="high-risk",
    rule="spam",
)


def changed(name, value):
    return tuple((field, value if field == name else old) for field, old in FIELDS)


class TestContent:
    def test_json_gives_the_same_ticket_back(self):
        assert Ticket.from_json(TICKET.to_json()) == TICKET

    def test_json_gives_a_ticket_without_origin_back(self):
        ticket = dataclasses.replace(TICKET, origin=None, origin_problem="no ticket")
        assert Ticket.from_json(ticket.to_json()) == ticket

    def test_json_keeps_what_is_not_utf_8(self):
        ticket = dataclasses.replace(TICKET, origin=dataclasses.replace(TICKET.origin, envelope_sender="\udcff\xe9@x"))
        assert Ticket.from_json(ticket.to_json()) == ticket

    def test_made_at_is_kept_to_the_second(self):
        assert Ticket.from_json(dataclasses.replace(TICKET, made_at=NOW + 0.3).to_json()).made_at == NOW

    def test_another_version_is_refused(self):
        with pytest.raises(TicketError, match="of another version \\(2\\)"):
            Ticket.from_json(TICKET.to_json().replace(b'"v":1', b'"v":2'))

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"{}",
            b"[]",
            b"null",
            b'{"v":1}',
            b"\xff\xfe",
            TICKET.to_json().replace(b"submission", b"admission"),
            TICKET.to_json().replace(b'"n":2', b'"n":"many"'),
            TICKET.to_json().replace(b'"d":["high-risk","spam"]', b'"d":[]'),
        ],
    )
    def test_what_is_no_ticket_is_refused(self, content):
        with pytest.raises(TicketError, match="content cannot be read"):
            Ticket.from_json(content)


class TestRecipients:
    def test_accepted_recipient_in_any_spelling(self):
        assert TICKET.accepted_recipient("<BOB@Example.NET>")

    def test_another_recipient_was_not_accepted(self):
        assert not TICKET.accepted_recipient("dave@example.net")

    def test_digests_mean_nothing_in_another_ticket(self):
        assert not dataclasses.replace(TICKET, ticket_id="another").accepted_recipient("bob@example.net")

    def test_no_more_digests_than_a_header_can_hold(self):
        assert len(recipient_digests("x", (f"user{number}@example.net" for number in range(2500)))) == 2000

    @pytest.mark.parametrize(("count", "uses"), [(0, 1000), (1, 1000), (120, 120_000)])
    def test_uses_grow_with_the_recipients(self, count, uses):
        assert dataclasses.replace(TICKET, recipient_count=count).most_uses == uses


class TestBinding:
    def test_the_same_message_does_not_differ(self):
        assert binding().difference(binding()) == ""

    @pytest.mark.parametrize("name", ["From", "Date", "Message-ID"])
    @pytest.mark.parametrize("after_filter", [False, True])
    def test_fields_differ(self, name, after_filter):
        other = binding(changed(name, "something else"))
        assert binding().difference(other, after_filter=after_filter) == "From/Date/Message-ID"

    def test_a_second_from_differs(self):
        assert binding().difference(binding((("From", "eve@example.net"), *FIELDS)))

    def test_a_missing_field_differs(self):
        assert binding().difference(binding(FIELDS[1:]))

    def test_subject_differs_but_a_filter_may_change_it(self):
        other = binding(changed("Subject", "[EXTERNAL] Minutes"))
        assert binding().difference(other) == "Subject"
        assert binding().difference(other, after_filter=True) == ""

    def test_body_differs_but_a_filter_may_change_it(self):
        other = binding(body=b"hello!\r\n")
        assert binding().difference(other) == "body"
        assert binding().difference(other, after_filter=True) == ""

    def test_white_space_does_not_differ(self):
        folded = binding(changed("Subject", "Minutes of\n\tthe  meeting "), body=b"hel\nlo\n\n \t")
        assert binding().difference(folded) == ""

    def test_other_fields_do_not_differ(self):
        assert binding().difference(binding((("Received", "x"), *FIELDS, ("X-Spam", "Yes")))) == ""

    def test_a_message_without_any_field_has_a_binding(self):
        assert binding(()).difference(binding(())) == ""

    def test_fields_that_are_not_utf_8_differ(self):
        assert binding(changed("From", "\udce9")).difference(binding(changed("From", "\udce8")))


def test_binding_does_not_depend_on_how_a_long_field_is_folded():
    text = "x" * 5000
    folded = "\n ".join(text[start : start + 900] for start in range(0, 5000, 900))
    assert binding(changed("Subject", text)) == binding(changed("Subject", folded))


def test_binding_sees_the_end_of_a_long_field():
    assert binding(changed("Subject", "x" * 5000)) != binding(changed("Subject", "x" * 5001))


class TestBodyDigest:
    def test_what_lies_beyond_the_first_part_does_not_count(self):
        assert binding(body=b"x" * BODY_BYTES) == binding(body=b"x" * BODY_BYTES + b"more")

    def test_the_last_byte_of_the_first_part_counts(self):
        assert binding(body=b"x" * BODY_BYTES) != binding(body=b"x" * (BODY_BYTES - 1) + b"y")

    @pytest.mark.parametrize("chunk_bytes", [1, 7, 4096, 65535])
    def test_chunks_do_not_count(self, chunk_bytes):
        body = bytes(range(256)) * 300
        digest = BodyDigest()
        for start in range(0, len(body), chunk_bytes):
            digest.feed(body[start : start + chunk_bytes])
        whole = BodyDigest()
        whole.feed(body)
        assert digest.hexdigest() == whole.hexdigest()
        assert digest.is_full

    def test_is_full_only_at_the_end_of_the_first_part(self):
        digest = BodyDigest()
        digest.feed(b"x" * (BODY_BYTES - 1) + b" \r\n")
        assert not digest.is_full
        digest.feed(b"y")
        assert digest.is_full


class TestHeaderForm:
    def test_lines_are_short_and_unfold_gives_the_token_back(self):
        token = "abcdefghij" * 1000
        assert max(map(len, fold(token).split("\n"))) < 900
        assert unfold(fold(token)) == token

    def test_white_space_of_transport_is_ignored(self):
        assert unfold(" ab\r\n  cd\n\tef ") == "abcdef"

    def test_a_ticket_of_2000_recipients_is_far_below_the_header_size_limit(self):
        many = recipient_digests("x", (f"user{number}@example.net" for number in range(2000)))
        value = TicketSealer([KEY]).seal(dataclasses.replace(TICKET, recipient_digests=many))
        assert len(value) < 60_000


class TestSealing:
    def test_open_gives_the_ticket_back(self):
        sealer = TicketSealer([KEY])
        assert sealer.open(sealer.seal(TICKET)) == TICKET

    def test_an_older_key_opens(self):
        value = TicketSealer([KEY]).seal(TICKET)
        assert TicketSealer([Fernet.generate_key(), KEY]).open(value) == TICKET

    def test_another_key_does_not_open(self):
        value = TicketSealer([KEY]).seal(TICKET)
        with pytest.raises(TicketError, match="not made by us, or changed"):
            TicketSealer([Fernet.generate_key()]).open(value)

    def test_nothing_of_the_content_can_be_read(self):
        value = unfold(TicketSealer([KEY]).seal(TICKET))
        assert "alice" not in value
        assert "example" not in value

    def test_every_character_counts(self):
        value = unfold(TicketSealer([KEY]).seal(TICKET))
        middle = len(value) // 2
        forged = value[:middle] + ("A" if value[middle] != "A" else "B") + value[middle + 1 :]
        with pytest.raises(TicketError, match="not made by us, or changed"):
            TicketSealer([KEY]).open(forged)


class TestOpenTicket:
    sealer = TicketSealer([KEY])
    value = sealer.seal(TICKET)

    def opened(self, *values, bound_to=None, now=NOW, lifetime_seconds=100.0, after_filter=False):
        return open_ticket(
            self.sealer,
            values,
            bound_to or binding(),
            now=now,
            lifetime_seconds=lifetime_seconds,
            after_filter=after_filter,
        )

    def test_the_ticket_of_this_message(self):
        assert self.opened(self.value) == TICKET

    def test_no_ticket(self):
        with pytest.raises(TicketError, match=r"^no ticket$"):
            self.opened()

    def test_two_tickets_though_both_are_ours(self):
        with pytest.raises(TicketError, match=r"^more than one ticket$"):
            self.opened(self.value, self.value)

    def test_ticket_of_another_message(self):
        with pytest.raises(TicketError, match=r"^ticket of another message \(Subject differs\)$"):
            self.opened(self.value, bound_to=binding(changed("Subject", "x")))

    def test_a_filter_may_have_changed_subject_and_body(self):
        other = binding(changed("Subject", "x"), body=b"y")
        assert self.opened(self.value, bound_to=other, after_filter=True) == TICKET

    def test_valid_to_the_end_of_its_lifetime(self):
        assert self.opened(self.value, now=NOW + 100.0) == TICKET

    def test_too_old(self):
        with pytest.raises(TicketError, match=r"^ticket is too old \(2 days\)$"):
            self.opened(self.value, now=NOW + 2 * 86_400)
