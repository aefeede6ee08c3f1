"""The notices that a real Postfix makes are read, and the ticket in the header that they return opens."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence

import pytest
from mailing import ALICE, fresh, fresh_subject, mail, running

from deliverypools.adapters.key_file import read_keys
from deliverypools.adapters.seal import TicketSealer, open_ticket
from deliverypools.core.dsn.header_reader import FieldReader
from deliverypools.core.dsn.report import Report, binding_of, read_report
from deliverypools.core.headers import Headers
from deliverypools.core.ticket import HEADER, Ticket
from deliverypools.lab.lab import Lab
from deliverypools.lab.receiver import ACCEPT, DEFER, REFUSE, Reply
from deliverypools.lab.settings_file import TICKET_FILE
from deliverypools.lab.waiting import wait_until

LARGE_BYTES = 20_000
POSTMASTER = "bob"
MAIN = {
    "bounce_size_limit": str(LARGE_BYTES),
    "delay_warning_time": "1s",
    "queue_run_delay": "2s",
    "minimal_backoff_time": "2s",
    "notify_classes": "bounce,delay",
    "bounce_notice_recipient": f"{POSTMASTER}@example.org",
    "delay_notice_recipient": f"{POSTMASTER}@example.org",
}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with running(settings={"limits": {"messages_per_minute": 0}}) as lab:
        lab.postfix.set_main(MAIN)
        yield lab


def submit_failing(
    lab: Lab,
    recipients: str | Sequence[str],
    reply: Reply = REFUSE,
    body: str = "hello\r\n",
    sender: str = "alice@example.org",
    **parameters: Sequence[str] | bool,
) -> str:
    """Send a message as alice whose recipients get that reply; return its subject."""
    subject = fresh_subject()
    listed = [recipients] if isinstance(recipients, str) else recipients
    for recipient in listed:
        lab.receiver.answer(recipient, reply)
    data = mail(sender, body, Subject=subject)
    assert lab.send(ALICE[0], listed, data, port=587, auth=ALICE, **parameters).accepted  # type: ignore[arg-type]
    return subject


def reports_about(lab: Lab, subject: str, mailbox: str = "alice") -> list[Report]:
    """Return the notices in a local mailbox that return a message with that subject."""
    found = []
    for message in lab.mailbox(mailbox):
        data = message.as_bytes()
        reader = FieldReader(data)
        headers = Headers.of((name, value.decode().strip()) for name, value in reader)
        reader.skip_empty_lines()
        report = read_report(headers, data[reader.at :])
        if report.returned and report.returned.headers.first("Subject") == subject:
            found.append(report)
    return found


def wait_for_reports(lab: Lab, subject: str, mailbox: str = "alice", count: int = 1) -> list[Report]:
    wait_until(
        lambda: len(reports_about(lab, subject, mailbox)) >= count,
        timeout_seconds=30,
        what=f"{count} notices about {subject} in {mailbox}",
    )
    return reports_about(lab, subject, mailbox)


def ticket_in(lab: Lab, report: Report) -> Ticket:
    assert report.returned is not None
    return open_ticket(
        TicketSealer(read_keys(str(lab.directory / TICKET_FILE))),
        tuple(report.returned.headers.all(HEADER)),
        binding_of(report.returned),
        now=time.time(),
        lifetime_seconds=3600.0,
        after_filter=True,
    )


def assert_about_alice(lab: Lab, report: Report) -> None:
    ticket = ticket_in(lab, report)
    assert ticket.origin is not None
    assert ticket.origin.account == "alice@example.org"
    assert report.queue_id
    assert report.reporting_mta == "mx.example.org"


def returned_body(report: Report) -> bytes:
    assert report.returned is not None
    return report.returned.body_start


@pytest.mark.parametrize(
    ("has_body", "make"),
    [
        pytest.param(True, lambda lab: submit_failing(lab, fresh()), id="whole message"),
        pytest.param(False, lambda lab: submit_failing(lab, fresh(), mail_options=["RET=HDRS"]), id="RET=HDRS"),
        pytest.param(False, lambda lab: submit_failing(lab, fresh(), body="x\r\n" * LARGE_BYTES), id="large message"),
        pytest.param(True, lambda lab: submit_failing(lab, f"j\xf6rg{fresh()}", smtputf8=True), id="SMTPUTF8"),
        pytest.param(
            False,
            lambda lab: submit_failing(lab, f"j\xf6rg{fresh()}", smtputf8=True, mail_options=["RET=HDRS"]),
            id="SMTPUTF8, RET=HDRS",
        ),
        pytest.param(
            True,
            lambda lab: submit_failing(lab, fresh(), sender="J\xf6rg\r\n  Alice <alice@example.org>"),
            id="folded From",
        ),
    ],
)
def test_failure_notice(lab: Lab, has_body: bool, make: Callable[[Lab], str]):
    for report in wait_for_reports(lab, make(lab)):
        assert_about_alice(lab, report)
        assert [(one.action, one.status, one.diagnostic) for one in report.recipients] == [
            ("failed", "5.1.1", "550 5.1.1 No such user here")
        ]
        assert bool(returned_body(report)) == has_body


def test_copy_for_the_postmaster(lab: Lab):
    (report,) = wait_for_reports(lab, submit_failing(lab, fresh()), POSTMASTER)
    assert_about_alice(lab, report)
    assert report.recipients[0].action == "failed"
    assert returned_body(report) == b""


def test_delay_warning(lab: Lab):
    recipient = fresh()
    (report,) = wait_for_reports(lab, submit_failing(lab, recipient, DEFER))
    lab.receiver.answer(recipient, ACCEPT)
    lab.postfix.flush()
    assert_about_alice(lab, report)
    assert [(one.address, one.action, one.status) for one in report.recipients] == [(recipient, "delayed", "4.3.0")]


def test_success_report(lab: Lab):
    (report,) = wait_for_reports(lab, submit_failing(lab, "bob@example.org", ACCEPT, rcpt_options=["NOTIFY=SUCCESS"]))
    assert_about_alice(lab, report)
    assert [(one.address, one.status) for one in report.recipients] == [("bob@example.org", "2.0.0")]


def test_many_recipients_with_long_replies(lab: Lab):
    recipients = [fresh() for _ in range(120)]
    reply = Reply(550, "5.7.1 " + "--x Content-Type: message/rfc822 Message-ID: <forged@example.net> " * 8)
    subject = submit_failing(lab, recipients, reply)
    wait_until(
        lambda: sum(len(report.recipients) for report in reports_about(lab, subject)) >= len(recipients),
        timeout_seconds=60,
        what="all recipients",
    )
    reports = reports_about(lab, subject)
    assert sorted(one.address for report in reports for one in report.recipients) == sorted(recipients)
    for report in reports:
        assert_about_alice(lab, report)
        assert report.returned is not None
        assert "forged" not in "".join(itertools.chain(report.returned.headers.all("Message-ID")))


def test_original_recipient(lab: Lab):
    recipient = fresh()
    options = ["ORCPT=rfc822;first+2Bone@example.com", "NOTIFY=FAILURE"]
    subject = submit_failing(lab, recipient, rcpt_options=options)
    (report,) = wait_for_reports(lab, subject)
    assert [(one.address, one.final_address) for one in report.recipients] == [("first+one@example.com", recipient)]
