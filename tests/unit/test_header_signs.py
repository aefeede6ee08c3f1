"""What a header alone tells: the type of a report, who wrote it."""

import pytest

from deliverypools.core.dsn.signs import Author, Signs, automatic_evidence, report_type
from deliverypools.core.headers import Headers

PERSON = ("From", "Alice <alice@example.org>")


def signs(*fields):
    return Signs(Headers.of(fields))


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
    assert report_type(value) == "delivery-status"


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
    assert report_type(value) != "delivery-status"


def test_the_topmost_of_two_fields_counts():
    two = signs(("Content-Type", "text/plain"), ("content-type", "multipart/report; report-type=delivery-status"))
    assert two.get("Content-Type") == "text/plain"
    assert signs().get("Content-Type") == ""


def test_report_type_is_none_for_other_mail_and_empty_where_it_is_not_named():
    assert report_type("text/plain; report-type=delivery-status") is None
    assert report_type("multipart/report; boundary=b") == ""


def test_report_type_reads_the_beginning_of_a_long_header_only():
    assert report_type("multipart/report" + "(" * 1_000_000 + "; report-type=x") == ""


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
        ((), False),
    ],
)
def test_automatic_reply(fields, answer):
    assert bool(automatic_evidence(signs(*fields))) is answer


@pytest.mark.parametrize(
    ("value", "author"),
    [
        ("Mail Delivery System <MAILER-DAEMON@mx.example.net>", Author.SYSTEM),
        ("MAILER-DAEMON@mx.example.net (Mail Delivery System)", Author.SYSTEM),
        ("<>", Author.SYSTEM),
        ('"" <>', Author.SYSTEM),
        ("  ", Author.SYSTEM),
        ("System Administrator <>", Author.POSTMASTER),
        ("Postmaster", Author.POSTMASTER),
        ('"postmaster"@example.net', Author.POSTMASTER),
        ("Post-Master <post-master+x@example.net>", Author.POSTMASTER),
        ("Postmaster <alice@example.net>", Author.PERSON),
        ("alice@example.net (MAILER-DAEMON)", Author.PERSON),
        ("Alice <>", Author.PERSON),
        ("mailer-daemons@example.net", Author.PERSON),
    ],
)
def test_author(value, author):
    assert signs(("From", value)).author is author


def test_no_author():
    assert signs().author is Author.PERSON


def test_no_more_fields_are_looked_at_than_a_message_can_have():
    assert not signs(*[("X-Any", "x")] * 1000, ("List-Id", "<talk.example.org>")).is_from_list


@pytest.mark.parametrize(
    ("subject", "read"),
    [
        ("  Two\r\n  Lines ", "two lines"),
        ("=?utf-8?q?Re=3A_?= =?UTF-8*en?B?w5xiZXI=?= x", "re: über x"),
        ("=?iso-8859-1?Q?M=F6te?=", "möte"),
        ("=?x-unknown?q?caf=C3=A9?=", "café"),
        # These are codecs of the library too, and none of text.
        ("=?zlib?b?eJw=?=", "x\ufffd"),
        ("=?idna?q?a?=", "a"),
        ("=?utf-8?b?a?=", ""),
        ("=?utf-8?x?a?=", "=?utf-8?x?a?="),
    ],
)
def test_subjects_are_read_as_people_read_them(subject, read):
    assert signs(("Subject", subject)).subject == read
