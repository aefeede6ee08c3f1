"""Whether a DSN is about a message of ours: what proves it, what proves the contrary, and what proves nothing."""

from dataclasses import replace
from email.utils import formatdate

import own_notice
import pytest

from deliverypools.core.dsn.report import Report, read_report
from deliverypools.core.dsn.was_it_ours import Clues, Verdict, clues_of, judge
from deliverypools.core.headers import Headers
from deliverypools.core.records import DecisionRecord

NOW = 1_795_332_336.0
DAY = 86400.0
RECORD = DecisionRecord(
    queue_id="4jXLFr5qPHzJwBX",
    host="mx.example.org",
    pass_name="egress",
    at=NOW - 60,
    ingress="submission",
    account="alice@example.org",
    pool="normal",
    rule="default",
    reasons="",
    envelope_sender="alice@example.org",
    recipients=1,
    client_address="192.0.2.9",
    subject="hello",
    message_id="<1@example.org>",
)
OURS = ("example.org",)
FOREIGN = Clues(message_ids=("<1@forged.example>",), hosts=("mx.example.net",), sender_domains=OURS, sent_at=NOW - DAY)


def judged(clues=FOREIGN, **changes):
    values = {
        "recipients": ("alice@example.org",),
        "record": None,
        "original_sender": "",
        "has_ticket": False,
        "our_hosts": frozenset({"mx.example.org"}),
        "is_our_domain": lambda domain: domain == "example.org",
        "complete_since": NOW - 30 * DAY,
        "now": NOW,
    }
    found = judge(clues, **(values | changes))
    assert found.evidence
    assert found.evidence.isprintable()
    assert len(found.evidence) < 300
    return found.verdict


def clues_about(original, **keywords):
    return clues_of(own_notice.header(), read_report(own_notice.header(), own_notice.body(original, **keywords)))


# ---- clues


def test_clues_of_a_notice():
    assert clues_about(own_notice.ORIGINAL) == Clues(
        message_ids=("<1@example.org>",),
        queue_files=(("mx.example.org", "4jXLFr5qPHzJwBX"), ("mx.example.org", "4jXLFr5YHtzJwBV")),
        ticket_values=("gAAAAABqsomething\n\t.dp.further\n\t.dp.last",),
        hosts=("client.example", "unknown", "mx.example.org", "192.0.2.9"),
        sender_domains=("example.org",),
        sent_at=NOW,
    )


def test_no_clues():
    assert clues_of(Headers(), Report()) == Clues()


@pytest.mark.parametrize(
    ("received", "queue_files", "hosts"),
    [
        (
            "by mx.example.org (Postfix, from userid 1000)\n\tid 4XYZ1234567; date",
            (("mx.example.org", "4XYZ1234567"),),
            ("mx.example.org",),
        ),
        (
            "from a.example (b.example [192.0.2.1])\n\t(No TLS)\n\tby mx.example.org (Postfix) with ESMTPS id 4XYZ1",
            (("mx.example.org", "4XYZ1"),),
            ("a.example", "b.example", "mx.example.org", "192.0.2.1"),
        ),
        (
            "from a.example ([192.0.2.1]) by MX.example.org (Mailer) (authenticated as x) with ESMTP id 12345",
            (),
            ("a.example", "mx.example.org", "192.0.2.1"),
        ),
        (
            "from unknown (HELO mail.x.example) (192.0.2.10) by mx.example.net",
            (),
            ("unknown", "mx.example.net", "192.0.2.10"),
        ),
        ("from [192.0.2.10] (port=1 helo=x) by mx.example.net", (), ("mx.example.net", "192.0.2.10")),
        ("from a ([IPv6:2001:DB8:0::1]) by b; 12:30 (12:30)", (), ("a", "b", "2001:db8::1")),
        ("from mx.example.org by mx.example.net with SMTP; date", (), ("mx.example.org", "mx.example.net")),
        ("(qmail 1234 invoked by uid 1); date", (), ()),
    ],
)
def test_received(received, queue_files, hosts):
    clues = clues_about(f"Received: {received}\nFrom: a@example.org\n")
    assert clues.queue_files[1:] == queue_files
    assert clues.hosts == hosts


@pytest.mark.parametrize(
    ("fields", "sent_at"),
    [
        ("Date: Sun, 22 Nov 2026 07:25:36 +0000\n", NOW),
        ("Date: Sun,\n 22 Nov 2026 08:25:36 +0100 (CET)\n", NOW),
        ("", None),
        ("Date: yesterday\n", None),
        ("Date: Sun, 22 Nov 2026 07:25:36 +0000\n" * 2, None),
        ("Date: Sun, 22 Nov 99999999999 07:25:36 +0000\n", None),
    ],
)
def test_date(fields, sent_at):
    assert clues_about(f"From: a@example.org\n{fields}").sent_at == sent_at


def test_message_id_is_as_records_have_it():
    clues = clues_about(f"From: a@b\nMessage-ID:\n <1@example.org>\nMessage-ID: <{'x' * 500}@a>\nMessage-ID:\n")
    assert clues.message_ids == ("<1@example.org>", "<" + "x" * 196 + "...")


def test_clues_are_bounded():
    received = "".join(f"Received: by h{number}.example (Postfix) id 4XYZ{number:05}\n" for number in range(500))
    message_ids = "".join(f"Message-ID: <{number}@a>\n" for number in range(500))
    clues = clues_about(f"{message_ids}{received}")
    assert (len(clues.queue_files), len(clues.hosts), len(clues.message_ids)) == (51, 50, 5)


# ---- genuine


def test_message_on_record_whose_sender_gets_the_dsn():
    assert judged(record=RECORD, original_sender="alice@example.org") is Verdict.GENUINE


@pytest.mark.parametrize("spelling", ["alice@EXAMPLE.org", "<Alice@example.org>", "ALICE@example.org."])
def test_spelling_of_the_sender_does_not_matter(spelling):
    assert judged(record=RECORD, original_sender=spelling) is Verdict.GENUINE


def test_ticket_proves_it_too():
    clues = Clues(ticket_values=("x",))
    assert judged(clues, has_ticket=True, original_sender="alice@example.org") is Verdict.GENUINE


# ---- somebody else's message


@pytest.mark.parametrize("sender", ["bob@example.org", "alice+list@example.org", "alice@example.com", ""])
def test_message_of_somebody_else_proves_nothing(sender):
    assert judged(record=RECORD, original_sender=sender) is Verdict.UNKNOWN
    assert judged(has_ticket=True, original_sender=sender) is Verdict.UNKNOWN


@pytest.mark.parametrize("recipients", [(), ("alice@example.org", "bob@example.org")])
def test_every_recipient_has_to_be_the_sender(recipients):
    assert judged(record=RECORD, original_sender="alice@example.org", recipients=recipients) is Verdict.UNKNOWN


def test_sender_without_a_proof_is_not_enough():
    assert judged(original_sender="alice@example.org", complete_since=None) is Verdict.UNKNOWN


# ---- backscatter


@pytest.mark.parametrize(
    "clues",
    [
        FOREIGN,
        Clues(sender_domains=OURS, message_ids=FOREIGN.message_ids, sent_at=FOREIGN.sent_at),
        Clues(sender_domains=OURS, hosts=("mx.example.net",), sent_at=FOREIGN.sent_at),
    ],
    ids=["both", "Message-ID", "Received"],
)
def test_message_that_nobody_here_has_sent(clues):
    assert judged(clues) is Verdict.BACKSCATTER


@pytest.mark.parametrize(
    ("sent_at", "verdict"),
    [
        (NOW - 30 * DAY - 1, Verdict.UNKNOWN),
        (NOW - 30 * DAY + 3599, Verdict.UNKNOWN),
        (NOW - 30 * DAY + 3600, Verdict.BACKSCATTER),
        (NOW + DAY, Verdict.BACKSCATTER),
        (NOW + DAY + 1, Verdict.UNKNOWN),
        (0.0, Verdict.UNKNOWN),
        (-1e12, Verdict.UNKNOWN),
        (None, Verdict.UNKNOWN),
    ],
)
def test_decision_log_has_to_tell_of_the_time(sent_at, verdict):
    assert judged(Clues(sender_domains=OURS, message_ids=("<1@forged.example>",), sent_at=sent_at)) is verdict


def test_decision_log_that_cannot_be_read_proves_nothing():
    assert judged(complete_since=None) is Verdict.UNKNOWN


@pytest.mark.parametrize(
    "clues",
    [
        Clues(sender_domains=OURS),
        Clues(sender_domains=OURS, sent_at=NOW - DAY),
        Clues(sender_domains=OURS, queue_files=(("mx.example.net", "4XYZ1234567"),), sent_at=NOW - DAY),
    ],
)
def test_nothing_returned_proves_nothing(clues):
    assert judged(clues) is Verdict.UNKNOWN


def test_ticket_that_does_not_fit_proves_nothing():
    clues = Clues(sender_domains=OURS, message_ids=FOREIGN.message_ids, ticket_values=("x",), sent_at=FOREIGN.sent_at)
    assert judged(clues) is Verdict.UNKNOWN


@pytest.mark.parametrize(
    "received",
    [
        "from x.example by mx.example.org (Postfix) with ESMTP id 4XYZ1234567; Sat, 21 Nov 2026 07:25:36 +0000",
        "from MX.example.org by mx.example.net; date",
        "from x.example (mx.example.org [192.0.2.1]) by mx.example.net; date",
    ],
)
def test_received_that_names_our_host_proves_nothing(received):
    """Whoever forges it gets no verdict at all: neither genuine, nor backscatter."""
    clues = clues_about(
        f"Received: {received}\nFrom: alice@example.org\nMessage-ID: <1@forged.example>\n"
        f"Date: {formatdate(NOW - DAY)}\n"
    )
    assert judged(clues) is Verdict.UNKNOWN
    without = clues_about(f"From: alice@example.org\nMessage-ID: <1@forged.example>\nDate: {formatdate(NOW - DAY)}\n")
    assert judged(without) is Verdict.BACKSCATTER


def test_evidence_is_printable():
    clues = Clues(sender_domains=OURS, message_ids=("<\x1b[1m\r\n" + "x" * 1000,), sent_at=NOW - DAY)
    assert judged(clues) is Verdict.BACKSCATTER


# ---- in whose name


@pytest.mark.parametrize(
    ("fields", "to", "domains"),
    [
        ("From: a@x.example\n", "", ("x.example",)),
        (
            "From: a@x.example\nSender: b@y.example\nReturn-Path: <c@z.example>\n",
            "",
            ("x.example", "y.example", "z.example"),
        ),
        ("From: a@x.example\n", "Alice <alice@EXAMPLE.org>", ("example.org", "x.example")),
        ("Subject: none\n", "undisclosed-recipients:;", ()),
    ],
)
def test_domains_in_whose_name_it_was_sent(fields, to, domains):
    report = read_report(own_notice.header(), own_notice.body(fields))
    headers = Headers.of([("To", to)] if to else [])
    assert clues_of(headers, report).sender_domains == domains


@pytest.mark.parametrize("domains", [(), ("other.example",), ("sub.example.org",)])
def test_bounce_of_somebody_elses_mail_that_was_forwarded_here_is_no_backscatter(domains):
    assert judged(replace(FOREIGN, sender_domains=domains)) is Verdict.UNKNOWN
