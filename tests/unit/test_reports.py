"""What a header says: delivery status report, automatic reply, spam."""

import pytest

from deliverypools.core.headers import Headers
from deliverypools.core.reports import is_automatic_reply, is_delivery_status_report, report_type, spam_evidence

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
