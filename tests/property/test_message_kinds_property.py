"""Recognising kinds is total: whatever the header and the body, there is an answer, and it is printable."""

from hypothesis import example, given
from hypothesis import strategies as st

from deliverypools.core.dsn.kinds import KIND_FIELDS, is_candidate, kind_of
from deliverypools.core.headers import Headers
from deliverypools.core.message_kind import Kind

WORDS = st.sampled_from(
    [
        *("multipart/report", "multipart/mixed", "report-type", "delivery-status", "boundary", "charset", "text/html"),
        *(
            "MAILER-DAEMON",
            "postmaster",
            "<>",
            "<",
            ">",
            "@",
            "(",
            ")",
            '"',
            ";",
            "=",
            "\\",
            "\n",
            "\r\n",
            "\0",
            "\ud800",
        ),
        *("=?", "?=", "?q?", "?b?", "utf-8", "auto-replied", "Undelivered Mail", "Report Domain:", "submitter:", "!"),
    ]
)
VALUES = st.lists(st.one_of(WORDS, st.text(max_size=20)), max_size=12).map("".join)
FIELDS = st.lists(st.tuples(st.one_of(st.sampled_from(KIND_FIELDS), st.text(max_size=10)), VALUES), max_size=12)
PIECES = st.sampled_from(
    [
        *(b"--b\n", b"--b--\n", b"--c\n", b"\n", b"\r\n", b"\0", b" ", b"<", b">", b"=", b"\xff", b"> "),
        *(b"Content-Type: multipart/mixed; boundary=c\n", b"Content-Type: message/delivery-status\n"),
        *(b"Content-Type: text/html; charset=utf-16\n", b"Content-Transfer-Encoding: base64\n", b"Action: failed\n"),
        *(
            b"Hi. This is the qmail-send program at x\n",
            b"Your message ",
            b"did not reach the following recipient(s):\n",
        ),
        *(b"Failed addresses follow:\n", b"bob@example.net\n", b", a@b.example, ", b"transcript of session follows\n"),
    ]
)
BODIES = st.lists(st.one_of(PIECES, st.binary(max_size=30)), max_size=40).map(b"".join)
TYPES = st.sampled_from(
    [
        "multipart/mixed; boundary=b",
        "multipart/report; report-type=delivery-status; boundary=b",
        "text/plain; charset=utf-7",
        "",
    ]
)
SENDERS = st.sampled_from(["MAILER-DAEMON@example.net", "postmaster@example.net", "", "\ud800", "a@b", "<>"])


@given(FIELDS, BODIES, st.booleans())
def test_any_header_and_body(fields, body, null):
    headers = Headers.of(fields)
    found = kind_of(headers, body, has_null_sender=null)
    assert found.evidence.isprintable()
    assert bool(found.evidence) == (found.kind is not Kind.ORDINARY)
    assert found == kind_of(headers, body, has_null_sender=null)
    if not is_candidate(headers, has_null_sender=null):
        assert not found.is_dsn


@given(SENDERS, TYPES, BODIES, st.booleans())
@example("MAILER-DAEMON@example.net", "", b"--" * 30_000, True)
@example("MAILER-DAEMON@example.net", "multipart/mixed; boundary=b", b"\n--bx" * 13_000, True)
@example("MAILER-DAEMON@example.net", "", b"fail " + b",x@" * 20_000, True)
@example("MAILER-DAEMON@example.net", "text/html", b"<" * 65_536, True)
def test_any_body_of_a_candidate(sender, content_type, body, null):
    fields = [("From", sender), ("Content-Type", content_type), ("X-Mailer", "Novell GroupWise")]
    assert kind_of(Headers.of(fields), body, has_null_sender=null).evidence.isprintable()


@given(st.lists(BODIES, max_size=3), st.binary(max_size=200))
def test_what_follows_the_machine_readable_part_changes_nothing(parts, tail):
    """What the sender of the returned message wrote comes after it."""
    header = [
        ("From", "MAILER-DAEMON@example.net"),
        ("Content-Type", "multipart/report; report-type=delivery-status; boundary=b"),
    ]
    begin = b"--b\n\nSee below.\n--b\nContent-Type: message/delivery-status\n\nAction: delayed\n"
    returned = b"".join(b"--b\nContent-Type: message/rfc822\n\n" + part for part in parts)
    for body in (begin, begin + b"\n" + returned + tail if parts else begin):
        assert kind_of(Headers.of(header), body, has_null_sender=True).kind is Kind.DELAY
