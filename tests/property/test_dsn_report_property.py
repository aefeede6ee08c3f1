"""Whatever arrives in the place of a notice: it is read without an error, what is found is bounded and printable."""

from dataclasses import astuple

from hypothesis import given
from hypothesis import strategies as st

from deliverypools.core.dsn.categories import category_of
from deliverypools.core.dsn.report import binding_of, read_report
from deliverypools.core.dsn.was_it_ours import Verdict, clues_of, judge
from deliverypools.core.headers import Headers

PIECES = [
    *(b"\n", b"\r\n", b"\r", b" ", b"\t", b"--b", b"--b--", b"--", b":", b";", b"<", b">", b"@", b"=\n", b"=20"),
    *(b"\xff", b"\x00", b"a", b"a: ", b"QQ==", b"utf-8; ", b"\\x{110000}", b"a@b.c", b"5.1.1", b"user unknown"),
    *(b"Content-Type: ", b"message/rfc822\n\n", b"message/delivery-status\n\n", b"text/plain\n\n", b"message/global\n"),
    *(b"multipart/mixed; boundary=b\n", b"Content-Transfer-Encoding: ", b"base64\n\n", b"quoted-printable\n\n"),
    *(b"Final-Recipient: ", b"Original-Recipient: ", b"Status: ", b"Diagnostic-Code: smtp; ", b"Reporting-MTA: dns; "),
    *(b"X-Postfix-Queue-ID: 12345\n", b"From: ", b"Date: ", b"Message-ID: ", b"X-Delivery-Pool-Ticket: x\n"),
    *(b"Received: from a (b [", b"by a (Postfix) with b id 12345", b"<a@b.c>:\n"),
    b"--- Below this line is a copy of the message.\n",
]
BODIES = st.one_of(st.lists(st.sampled_from(PIECES), max_size=60).map(b"".join), st.binary(max_size=300))
CONTENT_TYPES = st.one_of(
    st.sampled_from(["multipart/report; boundary=b", 'multipart/mixed; boundary="b"', "text/plain", "message/rfc822"]),
    st.text(max_size=50),
)
ENCODINGS = st.sampled_from(["", "base64", "quoted-printable", "8bit"])


def texts_of(report):
    yield from (report.reporting_mta, report.queue_id)
    for one in report.recipients:
        yield from astuple(one)


@given(CONTENT_TYPES, ENCODINGS, st.text(max_size=40), BODIES)
def test_anything_is_read(content_type, encoding, failed, body):
    fields = [("Content-Type", content_type), ("Content-Transfer-Encoding", encoding), ("X-Failed-Recipients", failed)]
    report = read_report(Headers.of(fields), body)
    for text in texts_of(report):
        assert len(text) <= 500
        assert text.isprintable()
    if report.returned is not None:
        binding_of(report.returned)
    for one in report.recipients:
        category_of(one, report.text)
    judgement = judge(
        clues_of(Headers.of([("To", failed)]), report),
        recipients=("alice@example.org",),
        record=None,
        original_sender="alice@example.org",
        has_ticket=False,
        our_hosts=frozenset({"a"}),
        is_our_domain=lambda domain: domain != "a",
        complete_since=0.0,
        now=1.8e9,
    )
    assert judgement.verdict is not Verdict.GENUINE
    assert judgement.evidence.isprintable()


@given(BODIES.filter(lambda reply: b"--b" not in reply), st.integers(1, 4))
def test_no_reply_of_a_server_poses_as_structure(reply, indent):
    """Replies are quoted as Postfix does it: folded, each line after the first indented."""
    folded = b" ".join(reply.replace(b"\r", b"\n").split(b"\n")).replace(b" ", b"\n" + b" " * indent)
    body = (
        b"--b\nContent-Type: text/plain\n\n<bob@example.net>: " + folded + b"\n--b\n"
        b"Content-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example.org\n\n"
        b"Final-Recipient: rfc822; bob@example.net\nDiagnostic-Code: smtp; " + folded + b"\n\n--b\n"
        b"Content-Type: message/rfc822\n\nMessage-ID: <1@example.org>\n\nhello\n--b--\n"
    )
    report = read_report(Headers.of([("Content-Type", "multipart/report; boundary=b")]), body)
    assert [one.address for one in report.recipients] == ["bob@example.net"]
    assert report.reporting_mta == "mx.example.org"
    assert list(report.returned.headers.all("Message-ID")) == ["<1@example.org>"]
    assert report.returned.body_start == b"hello"
