"""What kind of message it is: reports of all sorts, replies, lists, and people who talk about bounces."""

import pytest
from notice_forms import DAEMON, FORMS, PERSON, POSTMASTER, judged, notice

from deliverypools.core.dsn.kinds import BODY_BYTES_READ, is_candidate, kind_of
from deliverypools.core.headers import Headers
from deliverypools.core.message_kind import ORDINARY, Kind, MessageKind

REPORT = 'multipart/report; report-type=delivery-status; boundary="=_b"'
RETURNED = """\
--=_b
Content-Type: message/rfc822

From: alice@example.org
Subject: Minutes

Action: delivered
--=_b--
"""


def report(status, *, text="One moment, please.", media_type="message/delivery-status", encoding="7bit"):
    return (
        f"--=_b\nContent-Type: text/plain\n\n{text}\n\n"
        f"--=_b\nContent-Type: {media_type}\nContent-Transfer-Encoding: {encoding}\n\n{status}\n{RETURNED}"
    )


STATUS = "Reporting-MTA: dns; mx.example.net\n\nFinal-Recipient: rfc822; bob@example.net\n{}\n"
FAILED = STATUS.format("Action: failed\nStatus: 5.1.1")


class TestReports:
    @pytest.mark.parametrize(
        ("lines", "kind"),
        [
            ("Action: failed\nStatus: 5.1.1", Kind.NON_DELIVERY),
            ("action : FAILED (really)\nStatus: 5.1.1", Kind.NON_DELIVERY),
            ("Action: error", Kind.NON_DELIVERY),
            ("Action: delayed\nStatus: 4.4.1", Kind.DELAY),
            ("Action: delivered\nStatus: 2.1.5", Kind.DELIVERY),
            ("Action: relayed", Kind.DELIVERY),
            ("Action: expanded", Kind.DELIVERY),
            ("Action: delivered\n\nFinal-Recipient: rfc822; eve@example.net\nAction: failed", Kind.NON_DELIVERY),
            ("Action: delivered\n\nFinal-Recipient: rfc822; eve@example.net\nAction: delayed", Kind.DELAY),
            # Without Action the class of the status tells (RFC 3463 section 3.1).
            ("Status: 5.2.2", Kind.NON_DELIVERY),
            ("Status: 4.2.2", Kind.DELAY),
            ("Status: 2.0.0", Kind.DELIVERY),
            ("Nothing: that says it", Kind.NON_DELIVERY),
        ],
    )
    @pytest.mark.parametrize("sender", [DAEMON, "somebody@example.com"])
    @pytest.mark.parametrize("null", [True, False])
    def test_the_machine_readable_part_decides(self, lines, kind, sender, null):
        body = report(STATUS.format(lines))
        assert judged(notice(sender, Content_Type=REPORT), body, null=null).kind is kind
        assert judged(notice(sender, Content_Type=REPORT), body.replace("\n", "\r\n"), null=null).kind is kind

    def test_the_evidence_names_the_action(self):
        found = judged(notice(Content_Type=REPORT), report(FAILED))
        assert found == MessageKind(Kind.NON_DELIVERY, "multipart/report, Action: failed")
        assert found.is_dsn

    @pytest.mark.parametrize(
        ("encoding", "written"),
        [
            ("8bit", "Final-Recipient: utf-8; jürgen@example.net\nAction: delayed\n"),
            ("quoted-printable", "Final-Recipient: utf-8; j=C3=BCrgen@example.net\nAct=\nion: delayed\n"),
            ("BASE64", "RmluYWwtUmVjaXBpZW50OiB1dGYtODsgasO8cmdlbkBl\neGFtcGxlLm5ldApBY3Rpb246IGRlbGF5ZWQK\n"),
        ],
    )
    def test_internationalised_report(self, encoding, written):
        # RFC 6533 section 4: the type of its own, and other transfer encodings.
        body = report(written, media_type="message/global-delivery-status", encoding=encoding)
        for named in ("delivery-status", "global-delivery-status"):
            content_type = f'multipart/report; report-type={named}; boundary="=_b"'
            assert judged(notice(Content_Type=content_type), body).kind is Kind.DELAY

    def test_report_without_its_type(self):
        # Sun's servers: RFC 6522 section 3 demands the parameter, and here it is not.
        untyped = 'multipart/report; boundary="=_b"'
        assert judged(notice(POSTMASTER, Content_Type=untyped), report(FAILED)).kind is Kind.NON_DELIVERY
        assert judged(notice(PERSON, Content_Type=untyped), "--=_b\n\nSales of May\n--=_b--\n") == ORDINARY

    @pytest.mark.parametrize(
        "content_type",
        [
            REPORT.replace('boundary="=_b"', "bo"),
            REPORT.replace("=_b", "another"),
            REPORT.replace('"=_b"', "=_b Message-Id: <1@example.net>"),
            "multipart/report (a bounce); report-type=delivery-status",
        ],
    )
    def test_a_boundary_that_is_cut_or_wrong_is_found_in_the_body(self, content_type):
        body = report(STATUS.format("Action: delayed"))
        assert judged(notice(Content_Type=content_type), body).kind is Kind.DELAY

    def test_what_the_sender_wrote_does_not_decide(self):
        # The returned message says "Action: delivered", and brings a report of its own.
        lie = RETURNED.replace("Action: delivered", f"Content-Type: message/delivery-status\n\n{FAILED}")
        body = f"--=_b\n\nSee below\n--=_b\nContent-Type: message/delivery-status\n\nAction: delayed\n{lie}"
        assert judged(notice(Content_Type=REPORT), body).kind is Kind.DELAY

    def test_a_report_without_machine_readable_part_goes_by_its_text(self):
        body = "--=_b\n\nThis is a warning message only. You need not send it again.\n" + RETURNED
        assert judged(notice(Content_Type=REPORT), body).kind is Kind.DELAY
        assert judged(notice(Content_Type=REPORT), "--=_b\n\n<<< No Message Collected >>>\n").kind is Kind.NON_DELIVERY
        assert judged(notice(Content_Type=REPORT), "").kind is Kind.NON_DELIVERY

    def test_a_report_that_a_gateway_has_wrapped(self):
        wrapped = f"--=_o\nContent-Type: {REPORT}\n\n{report(FAILED)}\n--=_o\n\nChecked for viruses\n--=_o--\n"
        content_type = 'multipart/mixed; boundary="=_o"'
        assert judged(notice(POSTMASTER, Content_Type=content_type), wrapped).kind is Kind.NON_DELIVERY
        assert judged(notice(PERSON, Content_Type=content_type), wrapped) == ORDINARY
        assert judged(notice(PERSON, Content_Type=content_type), wrapped, null=True).kind is Kind.NON_DELIVERY

    def test_a_status_part_in_what_a_mail_system_wrote(self):
        content_type = 'multipart/mixed; boundary="=_b"'
        assert judged(notice(Content_Type=content_type), report(FAILED)).kind is Kind.NON_DELIVERY


class TestFailedRecipients:
    FIELD = ("X-Failed-Recipients", "bob@example.net")

    def test_it_is_enough(self):
        fields = [("From", PERSON), self.FIELD, ("Auto-Submitted", "auto-replied")]
        assert judged(fields, "Sorry") == MessageKind(Kind.NON_DELIVERY, "X-Failed-Recipients")

    def test_the_text_may_say_that_it_is_a_delay(self):
        assert judged([("From", DAEMON), self.FIELD], FORMS[2].text).kind is Kind.DELAY

    def test_list_traffic_is_list_traffic(self):
        assert judged([("From", DAEMON), self.FIELD, ("List-Id", "<t.example.org>")], "").kind is Kind.LIST_MAIL


class TestPeopleAboutBounces:
    """Ordinary people forward bounces, quote them, and discuss them on lists."""

    def test_attached(self):
        bounce = f"Content-Type: {REPORT}\n\n{report(FAILED)}"
        body = f"--=_o\n\nWhat does this mean?\n--=_o\nContent-Type: message/rfc822\n\n{bounce}"
        for null in (True, False):
            fields = notice(PERSON, Subject="Fwd: Undelivered Mail", Content_Type='multipart/mixed; boundary="=_o"')
            assert judged(fields, body, null=null) == ORDINARY

    def test_its_parts_attached_one_by_one(self):
        fields = notice(PERSON, Subject="Fwd: Undelivered Mail", Content_Type='multipart/mixed; boundary="=_b"')
        assert judged(fields, report(FAILED)) == ORDINARY

    def test_the_whole_message_is_a_forwarded_bounce(self):
        fields = notice(PERSON, Subject="Fwd: failure notice", Content_Type="message/rfc822")
        assert judged(fields, f"From: {DAEMON}\nContent-Type: {REPORT}\n\n{report(FAILED)}") == ORDINARY

    def test_quoted(self):
        text = "\n".join(["Alice wrote:", *(f"> {line}" for line in FORMS[1].text.splitlines()), "", "It is full."])
        for null in (True, False):
            assert not judged(notice(PERSON, Subject="Re: Mail delivery failed"), text, null=null).is_dsn

    def test_a_vacation_reply_to_one(self):
        fields = notice(PERSON, Subject="Re: Undelivered Mail", Auto_Submitted="auto-replied")
        assert judged(fields, FORMS[3].text, null=True) == MessageKind(
            Kind.AUTOMATIC_REPLY, "Auto-Submitted: auto-replied"
        )

    def test_a_report_that_a_list_sent_to_its_members(self):
        fields = notice(DAEMON, Content_Type=REPORT, List_Id="<talk.example.org>", Precedence="list")
        assert judged(fields, report(FAILED)) == MessageKind(Kind.LIST_MAIL, "List-Id")
        # A list never sends with a null reverse-path: this came by no list.
        assert judged(fields, report(FAILED), null=True).kind is Kind.NON_DELIVERY


class TestOtherKinds:
    @pytest.mark.parametrize(
        ("fields", "evidence"),
        [
            ({"Auto_Submitted": "auto-replied"}, "Auto-Submitted: auto-replied"),
            ({"Auto_Submitted": "Auto-Replied; owner-email=x"}, "Auto-Submitted: auto-replied"),
            ({"Auto_Submitted": "(vacation) auto-replied"}, "Auto-Submitted: auto-replied"),
            ({"X_Autoreply": "yes"}, "X-Autoreply"),
            ({"Precedence": "auto_reply"}, "Precedence: auto_reply"),
            ({"Subject": "Automatic reply: Minutes"}, "subject of an automatic reply"),
            ({"Subject": "Out of Office: Minutes"}, "subject of an automatic reply"),
            ({"Subject": "AUTO: Alice is out of the office (returning 06/01/2026)"}, "subject of an automatic reply"),
            ({"Subject": "Re: Minutes (Automatic Response)"}, "subject of an automatic reply"),
            ({"Subject": "=?iso-8859-2?Q?[Automatyczna_odpowied=BC]_test?="}, "subject of an automatic reply"),
        ],
    )
    @pytest.mark.parametrize("null", [True, False])
    def test_automatic_replies(self, fields, evidence, null):
        assert judged(notice(PERSON, **fields), "I am away.", null=null) == MessageKind(Kind.AUTOMATIC_REPLY, evidence)

    @pytest.mark.parametrize(
        "fields",
        [
            {"Auto_Submitted": "auto-generated"},
            {"Auto_Submitted": "no"},
            {"X_Autoreply": "no"},
            {"Precedence": "bulk"},
            {"Subject": "Out of office hours"},
            {"Subject": "Auto: preiswert abzugeben"},
            {"Subject": "Vacation photos"},
            {"In_Reply_To": "<1@example.org>"},
        ],
    )
    def test_no_automatic_replies(self, fields):
        assert judged(notice(PERSON, **fields), "Hello") == ORDINARY

    @pytest.mark.parametrize("name", ["Auto_Submitted", "In_Reply_To", "Precedence"])
    def test_a_persons_answer_with_a_null_reverse_path(self, name):
        found = judged(notice(PERSON, **{name: "x", "Subject": "Thank you"}), "I will answer soon.", null=True)
        assert found == MessageKind(Kind.AUTOMATIC_REPLY, f"null reverse-path, {name.replace('_', '-')}")

    def test_a_persons_words_with_a_null_reverse_path(self):
        assert judged(notice(PERSON), "I am out of the office.", null=True).kind is Kind.AUTOMATIC_REPLY
        assert judged(notice(PERSON), "Hello", null=True) == ORDINARY

    @pytest.mark.parametrize(
        ("named", "kind"),
        [
            ("disposition-notification", Kind.DISPOSITION),
            ("global-disposition-notification", Kind.DISPOSITION),
            ("feedback-report", Kind.COMPLAINT),
            ("tlsrpt", Kind.TLS_REPORT),
        ],
    )
    @pytest.mark.parametrize("null", [True, False])
    @pytest.mark.parametrize("sender", [PERSON, DAEMON])
    def test_other_reports(self, named, kind, null, sender):
        fields = notice(
            sender, Subject="Undelivered Mail", Content_Type=f"multipart/report; report-type={named}; boundary=b"
        )
        found = judged(fields, "--b\n\nDelivery has failed to these recipients\n--b--\n", null=null)
        assert found == MessageKind(kind, f"multipart/report of type {named}")

    def test_a_failure_report_of_dmarc(self):
        # RFC 6591: a feedback report about an authentication failure.
        body = "--b\n\nSee below\n--b\nContent-Type: message/feedback-report\n\nFeedback-Type: auth-failure\n--b--\n"
        fields = notice(POSTMASTER, Content_Type="multipart/report; report-type=feedback-report; boundary=b")
        assert judged(fields, body).kind is Kind.DMARC_REPORT
        assert judged(fields, body.replace("auth-failure", "abuse")).kind is Kind.COMPLAINT

    @pytest.mark.parametrize(
        ("fields", "kind"),
        [
            ({"Subject": "Report Domain: example.org Submitter: example.net Report-ID: <1>"}, Kind.DMARC_REPORT),
            (
                {"Content_Type": 'application/gzip; name="example.net!example.org!1767600000!1767686399.xml.gz"'},
                Kind.DMARC_REPORT,
            ),
            ({"TLS_Report_Domain": "example.org"}, Kind.TLS_REPORT),
            ({"Content_Type": "application/tlsrpt+gzip"}, Kind.TLS_REPORT),
            ({"Subject": "complaint about message from 192.0.2.7"}, Kind.COMPLAINT),
            ({"List_Id": "<talk.example.org>"}, Kind.LIST_MAIL),
            ({"List_Unsubscribe": "<https://example.org/>"}, Kind.LIST_MAIL),
            ({"Precedence": "list"}, Kind.LIST_MAIL),
            ({"Subject": "Please confirm your message"}, Kind.CHALLENGE),
        ],
    )
    def test_kinds_that_the_header_tells(self, fields, kind):
        found = judged(notice("reports@example.net", **fields))
        assert found.kind is kind
        assert found.evidence
        assert not found.is_dsn

    @pytest.mark.parametrize(
        "subject", ["Please confirm your address", "confirm 0123456789abcdef", "Budget (action required)"]
    )
    def test_subscriptions_are_no_challenges(self, subject):
        assert judged(notice("list-request@example.net", Subject=subject)) == ORDINARY

    CHALLENGE = "Hello Alice,\n\nyour message has been waitlisted. Please add yourself to my Guest List: https://example.net/c\n"

    def test_a_challenge_in_the_shape_of_a_report(self):
        fields = notice("noreply@example.net", Content_Type=REPORT)
        for null in (True, False):
            assert judged(fields, report(FAILED, text=self.CHALLENGE), null=null).kind is Kind.CHALLENGE

    def test_a_challenge_in_words(self):
        assert judged(notice("bob@example.net"), self.CHALLENGE, null=True).kind is Kind.CHALLENGE
        assert judged(notice("bob@example.net", Auto_Submitted="auto-replied"), self.CHALLENGE).kind is Kind.CHALLENGE

    def test_a_server_that_asks_to_confirm_does_not_hide_an_ndr(self):
        text = (
            FORMS[3].text + "\n<bob@example.net>: host mx said: 550 requires confirmation. Visit https://example.net/"
        )
        assert judged(notice(Content_Type=REPORT), report(FAILED, text=text), null=True).kind is Kind.NON_DELIVERY


class TestCandidates:
    def test_what_the_body_is_read_of(self):
        assert is_candidate(Headers.of([]), has_null_sender=True)
        for fields in (
            notice(DAEMON),
            notice(POSTMASTER),
            notice(PERSON, X_Failed_Recipients="bob@example.net"),
            notice(PERSON, Auto_Submitted="auto-replied"),
            notice(PERSON, content_type="Multipart/Report"),
            notice(PERSON, Content_Type="multipart / (x) report; report-type=feedback-report"),
        ):
            assert is_candidate(Headers.of(fields), has_null_sender=False), fields

    def test_most_mail_is_none(self):
        for fields in (
            [],
            notice(
                PERSON, Subject="Undelivered Mail Returned to Sender", Content_Type="multipart/mixed; boundary=report"
            ),
            notice(PERSON, List_Id="<talk.example.org>", Precedence="bulk"),
            notice(PERSON, Auto_Submitted="auto-generated", Content_Type="text/plain; name=multipart/report"),
        ):
            assert not is_candidate(Headers.of(fields), has_null_sender=False), fields

    def test_the_body_of_anything_else_is_not_looked_at(self):
        assert kind_of(Headers.of(notice(PERSON)), FORMS[0].text.encode(), has_null_sender=False) == ORDINARY

    def test_no_more_of_a_body_is_read_than_is_promised(self):
        late = b"--=_b\n\n" + b"x" * BODY_BYTES_READ + report(STATUS.format("Action: delayed")).encode()
        assert kind_of(Headers.of(notice(Content_Type=REPORT)), late, has_null_sender=False).kind is Kind.NON_DELIVERY


def test_evidence_is_one_printable_line():
    fields = notice(DAEMON, Content_Type='multipart/report; report-type="tlsrpt\n"; boundary=b')
    assert judged(fields).evidence.isprintable()
    loose = "Failed addresses follow:\n b\x07ob\x1b[31m@example.net\nMessage text follows:\n"
    assert judged(notice(DAEMON), loose).evidence.isprintable()
