"""What a header says: delivery status report, automatic reply, spam."""

import pytest

from deliverypools.core.headers import Headers
from deliverypools.core.reports import (
    is_automatic_reply,
    is_delivery_status_report,
    refused_in_notice,
    report_type,
    spam_evidence,
)

PERSON = ("From", "Alice <alice@example.org>")
SIGNS = ("X-Spam-Flag: YES", "X-Spam: Yes", "X-Spam-Status: Yes")


def headers(*fields):
    return Headers.of(fields)


def typed(value):
    return headers(("Content-Type", value))


@pytest.mark.parametrize(
    "value",
    [
        'multipart/report; report-type=delivery-status; boundary="b"',
        'multipart/report; boundary="b"; report-type="delivery-status"',
        "MULTIPART/Report;\n\treport-type=Delivery-Status;\n\tboundary=b",
        "multipart/report ; report-type = delivery-status",
        "multipart/report (a bounce); (what for) report-type=delivery-status",
        "multipart/report;report-type=delivery-status;",
        'multipart/report; boundary="a;b=c"; report-type=delivery-status',
        'multipart/report; report-type="delivery-status; boundary=b',
        "multipart/report; report-type='delivery-status'; boundary=b",
        "multipart/report (a (nested) comment); report-type=delivery-status",
        "multipart/report; report-type*=us-ascii'en'delivery-status",
        "multipart/report boundary=b report-type=delivery-status",
    ],
)
def test_delivery_status_report_in_any_spelling(value):
    assert is_delivery_status_report(typed(value))


@pytest.mark.parametrize(
    "value",
    [
        "multipart/report",
        "multipart/report; report-type=disposition-notification",
        "multipart/report; report-type=feedback-report",
        "multipart/mixed; report-type=delivery-status",
        "message/delivery-status",
        "text/plain; x=multipart/report; report-type=delivery-status",
        "",
        ";;;=",
    ],
)
def test_no_delivery_status_report(value):
    assert not is_delivery_status_report(typed(value))


def test_no_report_without_a_content_type():
    assert not is_delivery_status_report(headers())


def test_the_topmost_content_type_counts():
    two = headers(("Content-Type", "text/plain"), ("content-type", "multipart/report; report-type=delivery-status"))
    assert not is_delivery_status_report(two)


def test_report_type_is_none_for_other_mail_and_empty_where_it_is_not_named():
    assert report_type(typed("text/plain; report-type=delivery-status")) is None
    assert report_type(typed("multipart/report; boundary=b")) == ""


def test_report_type_reads_the_beginning_of_a_long_header_only():
    assert report_type(typed("multipart/report" + "(" * 1_000_000 + "; report-type=x")) == ""


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        ((("Auto-Submitted", "auto-replied"), PERSON), True),
        ((("Auto-Submitted", "Auto-Replied; owner-email=x"), PERSON), True),
        ((("Auto-Submitted", "auto-replied (vacation)"), PERSON), True),
        ((("Auto-Submitted", "auto-replied"), ("From", "Mail Delivery System <Mailer-Daemon@example.org>")), False),
        ((("Auto-Submitted", "auto-replied"), ("From", "POSTMASTER@example.org")), False),
        ((("Auto-Submitted", "auto-replied"), PERSON, ("X-Failed-Recipients", "bob@example.net")), False),
        ((("Auto-Submitted", "auto-replied"),), False),
        ((("Auto-Submitted", "auto-generated"), PERSON), False),
        ((("Auto-Submitted", "no"), PERSON), False),
        ((("Content-Type", "multipart/report; report-type=disposition-notification"),), True),
        ((("Content-Type", "multipart/report; report-type=feedback-report"),), True),
        ((("Content-Type", "multipart/report; report-type=delivery-status"),), False),
        ((("Content-Type", "multipart/report"),), False),
        (
            (
                ("Auto-Submitted", "auto-replied"),
                PERSON,
                ("Content-Type", "multipart/report; report-type=delivery-status"),
            ),
            False,
        ),
        ((), False),
    ],
)
def test_automatic_reply(fields, answer):
    assert is_automatic_reply(headers(*fields)) is answer


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Spam-Flag", "YES"),
        ("x-spam-flag", " yes "),
        ("X-Spam", "Yes"),
        ("X-Spam-Status", "Yes, score=15.0 required=5.0"),
        ("X-Spam-Status", "YES;\n\tscore=9"),
    ],
)
def test_spam_header_in_any_spelling(name, value):
    assert spam_evidence(headers((name, value)), SIGNS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Spam-Flag", "NO"),
        ("X-Spam-Flag", ""),
        ("X-Spam-Flag", "yesterday"),
        ("X-Spam-Status", "No, score=1.0 Yes"),
        ("X-Spam-Score", "99"),
        ("Subject", "X-Spam-Flag: YES"),
    ],
)
def test_no_spam_header(name, value):
    assert spam_evidence(headers((name, value)), SIGNS) == ""


@pytest.mark.parametrize("value", ["yes", "TRUE", "spam", "1", "Yes, 7 points", "yes;x"])
def test_bare_name_matches_what_means_yes(value):
    assert spam_evidence(headers(("X-Ours", value)), ("X-Ours",))


@pytest.mark.parametrize("value", ["no", "false", "0", "10", "", "not spam", "yessir"])
def test_bare_name_does_not_match_anything_else(value):
    assert spam_evidence(headers(("X-Ours", value)), ("X-Ours",)) == ""


def test_a_later_field_of_the_same_name_is_seen():
    assert spam_evidence(headers(("X-Spam", "No"), ("X-Spam", "Yes")), SIGNS) == "X-Spam: Yes"


def test_evidence_is_short_and_printable():
    evidence = spam_evidence(headers(("X-Spam", "Yes\r\n\x07\udcff" + "x" * 500)), SIGNS)
    assert evidence.isprintable()
    assert len(evidence) <= len("X-Spam: ") + 80


NOTICE = (
    b"This is the mail system at host mx.example.org.\r\n\r\n"
    b"<bob@example.net>: host mx.example.net said: 550 5.1.1 unknown\r\n\r\n"
    b"--b\r\nContent-Description: Delivery report\r\nContent-Type: message/delivery-status\r\n\r\n"
    b"Reporting-MTA: dns; mx.example.org\r\nX-Postfix-Queue-ID: 4dXyZ12345z0abc\r\n"
    b"X-Postfix-Sender: rfc822; alice@example.org\r\n\r\n"
    b"Final-Recipient: rfc822; bob@example.net\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n"
    b"Final-Recipient: rfc822; eve@example.net\r\nAction: failed\r\nStatus: 5.7.1\r\n\r\n"
    b"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: hello\r\n\r\nhello\r\n"
)


class TestRefusedInNotice:
    def test_queue_file_and_number_of_recipients(self):
        assert refused_in_notice(NOTICE) == ("4dXyZ12345z0abc", 2)

    def test_also_with_bare_line_feeds(self):
        assert refused_in_notice(NOTICE.replace(b"\r\n", b"\n")) == ("4dXyZ12345z0abc", 2)

    def test_another_mail_name(self):
        assert refused_in_notice(NOTICE.replace(b"X-Postfix-Queue", b"X-Our-Mailer-Queue")) == ("4dXyZ12345z0abc", 2)

    @pytest.mark.parametrize(
        "notice",
        [
            pytest.param(NOTICE.replace(b"failed", b"delayed").replace(b"5.", b"4."), id="delay warning"),
            pytest.param(NOTICE.replace(b"failed", b"delivered").replace(b"5.", b"2."), id="success"),
            pytest.param(NOTICE.replace(b"Status: 5", b"Status: 4"), id="expired, not refused"),
            pytest.param(NOTICE.replace(b"X-Postfix-Queue-ID", b"X-Other"), id="no queue id"),
            pytest.param(NOTICE.replace(b"message/delivery-status", b"text/plain"), id="no report"),
            pytest.param(b"", id="empty"),
        ],
    )
    def test_what_tells_of_no_refusal(self, notice):
        assert refused_in_notice(notice) is None

    def test_what_remote_servers_said_and_the_sender_wrote_does_not_count(self):
        lie = b"X-Postfix-Queue-ID: 4other0000z0abc\r\nAction: failed\r\nStatus: 5.0.0\r\n"
        assert refused_in_notice(lie + NOTICE + lie) == ("4dXyZ12345z0abc", 2)

    def test_hostile_body_takes_no_time(self):
        body = b"Content-Type: message/delivery-status\r\n" + b"X-" + b"a" * 60_000 + b"-Queue-ID:" + b" " * 4000
        assert refused_in_notice(body) is None
