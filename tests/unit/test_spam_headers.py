"""What a header says of spam."""

import pytest

from deliverypools.core.headers import Headers
from deliverypools.core.spam_headers import spam_evidence

SIGNS = ("X-Spam-Flag: YES", "X-Spam: Yes", "X-Spam-Status: Yes")


def headers(*fields):
    return Headers.of(fields)


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
