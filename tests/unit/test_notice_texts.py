"""Notices in words: of mail systems, of what may be one, and of nobody else."""

import pytest
from notice_forms import DAEMON, FORMS, PERSON, POSTMASTER, judged, notice

from deliverypools.core.dsn.texts import DELAYS, FAILURES, SUCCESSES
from deliverypools.core.message_kind import ORDINARY, Kind, MessageKind


@pytest.mark.parametrize(("form", "kind", "text"), FORMS, ids=[f"{form.name}, {form.kind}" for form in FORMS])
class TestTexts:
    def test_a_mail_system_with_a_sender(self, form, kind, text):
        assert judged(notice(DAEMON), text) == MessageKind(kind, f"text of {form}")

    def test_postmaster_with_a_sender_if_it_begins_in_the_words_of_a_mail_server(self, form, kind, text):
        is_vague = form.startswith("a ")
        assert judged(notice(POSTMASTER), text) == (ORDINARY if is_vague else MessageKind(kind, f"text of {form}"))

    def test_postmaster_with_a_sender_if_the_subject_is_that_of_a_notice(self, form, kind, text):
        assert judged(notice(POSTMASTER, Subject="Mail delivery failure"), text) == MessageKind(kind, f"text of {form}")

    def test_anybody_with_the_null_reverse_path_if_it_begins_so(self, form, kind, text):
        found = judged(notice("Servicio <correo@example.net>"), text, null=True)
        assert found == MessageKind(kind, f"text of {form}")

    def test_in_the_first_part_of_a_multipart(self, form, kind, text):
        returned = "--=_b\nContent-Type: message/rfc822\n\nSubject: Minutes\n--=_b--\n"
        body = f"This is MIME.\n--=_b\nContent-Type: text/plain; charset=utf-8\n\n{text}\n{returned}"
        found = judged(notice(Content_Type='multipart/mixed; boundary="=_b"'), body)
        assert found == MessageKind(kind, f"text of {form}")

    def test_not_from_a_person(self, form, kind, text):
        assert judged([("From", PERSON), ("Subject", "Undelivered Mail Returned to Sender")], text) == ORDINARY

    def test_not_where_postmaster_replies_or_forwards(self, form, kind, text):
        for prefix in ("Re", "Fwd", "AW", "WG", "=?utf-8?q?Re?="):
            assert judged(notice(POSTMASTER, Subject=f"{prefix}: Undelivered Mail"), text) == ORDINARY

    def test_not_where_it_is_quoted(self, form, kind, text):
        quoted = "\n".join(f"> {line}" for line in text.splitlines())
        assert judged(notice(POSTMASTER), f"Bob asks what this is:\n\n{quoted}") == ORDINARY

    def test_not_behind_an_explanation_of_postmaster(self, form, kind, text):
        talk = (
            "Dear colleagues, since yesterday some of you get messages like the one below. This is what I found out: "
            * 2
        )
        assert judged(notice(POSTMASTER), talk + text) == ORDINARY

    def test_not_on_a_list(self, form, kind, text):
        fields = notice(DAEMON, List_Id="<talk.example.org>")
        assert judged(fields, text) == MessageKind(Kind.LIST_MAIL, "List-Id")


def test_every_form_of_the_table_has_a_message_here():
    table = {(form.name, form.kind) for form in (*DELAYS, *SUCCESSES, *FAILURES)}
    assert table == {(form.name, form.kind) for form in FORMS}


class TestMailSystems:
    @pytest.mark.parametrize(
        "sender",
        [
            "MAILER-DAEMON",
            "MAILER-DAEMON@mx.example.net (Mail Delivery System)",
            '"Mail Delivery Subsystem" <mailer-daemon@mx.example.net>',
            "<>",
            "",
            "MAILER DAEMON <>",
            "mailer_daemon@example.net",
            "MDaemon@example.net",
            "bounce@example.net",
            "Microsoft Outlook <MicrosoftExchange329e71ec88ae4615bbc36ab6ce41109e@example.net>",
        ],
    )
    def test_who_only_a_mail_system_is(self, sender):
        body = "You sent mail to bob@example.net. That's not a valid user here."
        assert judged(notice(sender), body).kind is Kind.NON_DELIVERY
        assert judged(notice(sender, Subject="Undeliverable: Minutes"), "Sorry").kind is Kind.NON_DELIVERY

    @pytest.mark.parametrize(
        "sender",
        [
            "Mail Delivery System <alice@example.net>",
            "MAILER-DAEMON <alice@example.net>",
            "alice@mailer-daemon.example.net",
            "Alice <>",
            "bouncer@example.net",
            "postmastersfriend@example.net",
        ],
    )
    def test_who_is_none(self, sender):
        body = "You sent mail to bob@example.net. That's not a valid user here."
        assert judged(notice(sender, Subject="Undeliverable: Minutes"), body) == ORDINARY

    def test_no_from_at_all(self):
        assert judged([("Subject", "failure notice")], FORMS[0].text) == ORDINARY
        assert judged([("Subject", "failure notice")], FORMS[0].text, null=True).kind is Kind.NON_DELIVERY

    def test_the_topmost_from_counts(self):
        assert judged([("From", PERSON), ("From", DAEMON)], FORMS[0].text) == ORDINARY

    @pytest.mark.parametrize(
        "subject",
        [
            "Undelivered Mail Returned to Sender",
            "[talk] Returned mail: see transcript for details",
            "failure notice",
            "Delivery Status Notification (Failure)",
            "=?utf-8?B?VW5kZWxpdmVyYWJsZTogTWludXRlcw==?=",
            "=?iso-8859-1?Q?Olevererbart:_M=F6te?=",
            "Unzustellbar: Protokoll",
        ],
    )
    def test_its_subject_beside_a_text_that_nobody_knows(self, subject):
        for fields, null in ((notice(DAEMON, Subject=subject), False), (notice(POSTMASTER, Subject=subject), True)):
            assert judged(fields, "Ei toimi.", null=null).kind is Kind.NON_DELIVERY
        # Postmasters are people too, and can write such a subject.
        assert judged(notice(POSTMASTER, Subject=subject), "Ei toimi.") == ORDINARY
        assert judged(notice(PERSON, Subject=subject), "Ei toimi.") == ORDINARY

    @pytest.mark.parametrize(
        "text",
        [
            "Hello Alice,\n\nyour mailbox holds 3 GB now.\n",
            "A new version was installed.\n",
            "",
        ],
    )
    def test_what_a_mail_system_writes_besides(self, text):
        for null in (True, False):
            assert judged(notice(DAEMON, Subject="For your information"), text, null=null) == ORDINARY

    def test_a_transcript_for_the_postmaster(self):
        fields = notice(DAEMON, Subject="Postfix SMTP server: errors from unknown[192.0.2.7]")
        body = "Transcript of session follows.\n\n Out: 550 5.1.1 <bob@example.net>: User unknown\n"
        assert judged(fields, body, null=True) == ORDINARY

    def test_forms_that_only_flufl_bounce_knows(self):
        text = "Failed addresses follow:\n---\n  bob@example.net ... no such host\n|-- Message text follows: --|\n"
        found = judged(notice(DAEMON), text)
        assert found == MessageKind(Kind.NON_DELIVERY, "text names bob@example.net (flufl.bounce)")
        # Too loose for what somebody else wrote.
        assert judged(notice("info@example.net"), text, null=True) == ORDINARY
        assert judged(notice(POSTMASTER), text) == ORDINARY

    @pytest.mark.parametrize("encoding", ["base64", "Quoted-Printable"])
    def test_a_text_in_a_transfer_encoding(self, encoding):
        written = {
            "base64": "RGVsaXZlcnkgaGFzIGZhaWxlZCB0byB0aGVzZSByZWNpcGllbnRzOg==",
            "Quoted-Printable": "Delivery has failed to=20these recip=\nients:",
        }[encoding]
        assert judged(notice(Content_Transfer_Encoding=encoding), written).evidence == "text of Exchange"

    def test_a_text_in_html(self):
        html = "<html><body><p>Delivery has failed to&nbsp;<b>these</b> recipients</p></body></html>"
        assert judged(notice(Content_Type="text/html"), html).evidence == "text of Exchange"

    def test_a_text_in_another_character_set(self):
        text = "Ihre Nachricht an Jürgen konnte nicht zugestellt werden. Empfänger unbekannt.".encode("iso-8859-1")
        fields = notice(Content_Type="text/plain; charset=ISO-8859-1")
        assert judged(fields, text).evidence == "text of a refusal, in another language"
