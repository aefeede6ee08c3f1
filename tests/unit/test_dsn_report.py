"""What is read from a report for machines: Postfix's own, and those of others (RFC 3464, RFC 6533)."""

import base64
import quopri

import own_notice
import pytest
from cryptography.fernet import Fernet
from own_notice import BOUNDARY, ORIGINAL, RECIPIENT

from deliverypools.adapters.seal import TicketSealer, open_ticket
from deliverypools.core.dsn.report import REPORT_BYTES_READ, RecipientStatus, binding_of, read_report
from deliverypools.core.facts import Answer, Finding, Ingress, Origin
from deliverypools.core.headers import Headers
from deliverypools.core.ticket import HEADER, Binder, Ticket, TicketError

SEALER = TicketSealer([Fernet.generate_key()])
NOBODY = RecipientStatus(
    address="bob@example.net",
    final_address="bob@example.net",
    action="failed",
    status="5.1.1",
    diagnostic="550 5.1.1 No such user here",
)


def read(*arguments, **keywords):
    return read_report(own_notice.header(), own_notice.body(*arguments, **keywords))


def returned(*arguments, **keywords):
    found = read(*arguments, **keywords).returned
    assert found is not None
    return found


def one_recipient(fields):
    (status,) = read(recipients=fields).recipients
    return status


# ---- the notices of this Postfix


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_notice_of_postfix(line_end):
    report = read(line_end=line_end)
    assert (report.reporting_mta, report.queue_id) == ("mx.example.org", "4jXLFr5qPHzJwBX")
    assert report.recipients == (NOBODY,)
    assert "This is the mail system at host mx.example.org." in report.text
    assert report.returned.headers.first("Message-ID") == "<1@example.org>"
    assert report.returned.headers.first("Subject") == "hello"
    assert report.returned.body_start.split() == [b"hello", b"bob"]


@pytest.mark.parametrize(
    "returned_type",
    ["message/rfc822", "message/global", "text/rfc822-headers", "message/global-headers", "Message/RFC822; x=y"],
)
def test_returned_message_whatever_its_type(returned_type):
    assert returned(returned_type=returned_type).headers.first("From") == "Alice <alice@example.org>"


def test_header_alone_has_no_body():
    assert returned(ORIGINAL.partition("\n\n")[0] + "\n", returned_type="text/rfc822-headers").body_start == b""


def test_folds_stay_as_a_milter_gets_them():
    headers = returned().headers
    assert headers.first(HEADER) == "gAAAAABqsomething\n\t.dp.further\n\t.dp.last"
    assert "(unknown [192.0.2.9])\n\tby mx.example.org (Postfix)" in headers.first("Received")


def test_notice_without_a_returned_message():
    report = read_report(own_notice.header(), own_notice.body().partition(b"Content-Description: Undelivered")[0])
    assert report.recipients == (NOBODY,)
    assert report.returned is None


def test_name_of_the_queue_id_field_is_the_sites():
    """Postfix writes its mail_name into it."""
    body = own_notice.body().replace(b"X-Postfix-Queue-ID", b"X-Example-Mail-Queue-ID")
    assert read_report(own_notice.header(), body).queue_id == "4jXLFr5qPHzJwBX"


def test_hundreds_of_recipients():
    recipients = "\n".join(RECIPIENT.replace("bob", f"bob{number}") for number in range(900))
    report = read(recipients=recipients)
    assert [one.address for one in report.recipients] == [f"bob{number}@example.net" for number in range(900)]
    assert report.returned.headers.first("Message-ID") == "<1@example.org>"


def test_no_more_than_a_thousand_recipients():
    recipients = "\n".join("Final-Recipient: rfc822; a@b\n" for _ in range(2000))
    assert len(read(recipients=recipients).recipients) == 1000


# ---- the ticket in a returned header


def sealed(fields):
    binder = Binder()
    for name, value in fields:
        binder.add_field(name, value)
    binder.add_body(b"hello bob\r\n")
    return SEALER.seal(
        Ticket(
            ticket_id="t",
            made_at=0.0,
            first_queue_id="4jXLFr5YHtzJwBV",
            origin=Origin(
                ingress=Ingress.SUBMISSION,
                account="alice@example.org",
                envelope_sender="alice@example.org",
                client_address="192.0.2.9",
                over_limit=Finding(Answer.NO),
            ),
            binding=binder.binding(),
            recipient_count=1,
        )
    )


def opened(found):
    return open_ticket(
        SEALER,
        tuple(found.headers.all(HEADER)),
        binding_of(found),
        now=1.0,
        lifetime_seconds=1000.0,
        after_filter=True,
    )


FIELDS = [
    ("From", "Alice\n <alice@example.org>"),
    ("date", "Sun, 22 Nov 2026 07:25:36 +0000"),
    ("Message-ID", "<1@example.org>"),
    ("Subject", "hello"),
]


def message(fields, ticket):
    lines = [f"{name}: {value}\n" for name, value in [*fields, (HEADER, ticket)]]
    return "".join(lines).encode(errors="surrogateescape") + b"\nhello bob\n"


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    "fields",
    [
        FIELDS,
        [*FIELDS, ("From", "a second one"), ("X-Other", "x")],
        [("From", "x" * 20_000 + "@example.org"), *FIELDS[1:]],
        [("From", "J\udce4ger \N{SNOWMAN} <a@example.org>"), *FIELDS[1:]],
        FIELDS[3:],
        [*FIELDS, *(("Received", f"by {number}") for number in range(200))],
    ],
    ids=["plain", "two From", "long", "odd bytes", "Subject alone", "many Received"],
)
def test_ticket_of_the_returned_message_opens(fields, line_end):
    ticket = opened(returned(message(fields, sealed(fields)), line_end=line_end))
    assert ticket.origin.account == "alice@example.org"


def test_ticket_of_another_message_does_not_open():
    changed = [("From", "mallory@example.net"), *FIELDS[1:]]
    with pytest.raises(TicketError, match="of another message"):
        opened(returned(message(changed, sealed(FIELDS))))


def test_more_than_one_ticket_is_none():
    data = f"{HEADER}: x\n".encode() * 5 + message(FIELDS, sealed(FIELDS))
    found = returned(data)
    assert len(list(found.headers.all(HEADER))) == 2
    with pytest.raises(TicketError, match="more than one"):
        opened(found)


def test_ticket_in_the_body_of_the_returned_message_is_none():
    data = b"From: a@example.org\n\n" + message(FIELDS, sealed(FIELDS))
    assert list(returned(data).headers.all(HEADER)) == []


def test_header_that_was_cut_off_is_not_believed():
    whole = own_notice.body(message(FIELDS, sealed(FIELDS)))
    found = read_report(own_notice.header(), whole[: whole.index(b"alice@example.org>\r\ndate")]).returned
    with pytest.raises(TicketError):
        opened(found)


def test_nothing_beyond_what_is_read():
    text = "x" * REPORT_BYTES_READ
    report = read(text=text)
    assert (report.recipients, report.returned) == ((), None)


# ---- what others wrote is no structure


FORGED = f"--{BOUNDARY}\nContent-Type: message/rfc822\n\nFrom: forged@example.net\nMessage-ID: <forged@example.net>\n"


def test_only_the_first_returned_message_counts():
    assert list(returned(ORIGINAL + FORGED).headers.all("Message-ID")) == ["<1@example.org>"]


def test_status_part_that_the_original_brings_is_none():
    forged = f"--{BOUNDARY}\nContent-Type: message/delivery-status\n\nFinal-Recipient: rfc822; forged@example.net\n"
    assert read(ORIGINAL + forged).recipients == (NOBODY,)


def test_boundary_inside_a_reply_is_none():
    """Postfix folds replies: what a server said never begins a line."""
    folded = FORGED.replace("\n", "\n    ")
    report = read(recipients=f"{RECIPIENT.rstrip()}\n    {folded}\n")
    assert report.returned.headers.first("Message-ID") == "<1@example.org>"
    assert len(report.recipients) == 1


def test_parts_of_the_returned_message_are_not_looked_at():
    inner = 'Content-Type: multipart/report; boundary="inner"\nFrom: a@example.org\n\n--inner\n' + FORGED[2:]
    found = returned(inner.replace(BOUNDARY, "inner"))
    assert list(found.headers.all("From")) == ["a@example.org"]
    assert list(found.headers.all("Message-ID")) == []


def test_separators_of_text_forms_mean_nothing_in_a_report():
    text = "said: 550\n--- Below this line is a copy of the message.\n\nMessage-ID: <forged@example.net>\nFrom: a@b\n"
    body = own_notice.body(text=text)
    report = read_report(own_notice.header(), body.partition(b"Content-Description: Undelivered")[0])
    assert report.returned is None


def test_header_ends_where_a_line_is_no_field():
    found = returned("From: a@example.org\nthis is no field\nMessage-ID: <1@example.org>\n\n")
    assert [name for name, _ in found.headers.fields] == ["from"]


# ---- reports of others


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("Final-Recipient: RFC822;bob@example.net\nAction: failed\nStatus: 5.1.1 (no such user)\n", "5.1.1"),
        ("Final-Recipient: rfc822; bob@example.net\nDiagnostic-Code: smtp; 550-5.7.26 refused\n", "5.7.26"),
        ("Final-Recipient: rfc822; bob@example.net\nDiagnostic-Code: smtp; 550 by 5.1.1.2\n", ""),
        ("Final-Recipient: rfc822; bob@example.net\nStatus: none\n", ""),
    ],
)
def test_status(fields, expected):
    assert one_recipient(fields).status == expected


@pytest.mark.parametrize(
    ("fields", "address", "final_address"),
    [
        (
            "Original-Recipient: rfc822;list@example.org\nFinal-Recipient: rfc822;bob@example.net\n",
            "list@example.org",
            "bob@example.net",
        ),
        ("Final-Recipient: bob@example.net\n", "bob@example.net", "bob@example.net"),
        ("Final-Recipient: rfc822;<bob@example.net>\n", "bob@example.net", "bob@example.net"),
        ("Final-Recipient: utf-8;björn@example.net\n", "björn@example.net", "björn@example.net"),
        (r"Final-Recipient: utf-8; bj\x{F6}rn@example.net" + "\n", "björn@example.net", "björn@example.net"),
        (r"Final-Recipient: utf-8; a\x{7FFFFF}\x{D800}\x{0A}@b" + "\n", "a???@b", "a???@b"),
        ("Original-Recipient: rfc822;bob@example.net\n", "bob@example.net", ""),
    ],
)  # fmt: skip
def test_addresses(fields, address, final_address):
    status = one_recipient(fields)
    assert (status.address, status.final_address) == (address, final_address)


def test_fields_between_blank_lines_are_the_same_recipients():
    status = one_recipient("Final-Recipient: rfc822;bob@example.net\n\nAction: Delayed\n\nStatus: 4.4.1\n")
    assert (status.action, status.status) == ("delayed", "4.4.1")


def test_recipients_without_a_blank_line_between_them():
    report = read(recipients="Final-Recipient: rfc822;a@example.net\nFinal-Recipient: rfc822;b@example.net\n")
    assert [one.address for one in report.recipients] == ["a@example.net", "b@example.net"]


def test_first_of_two_fields_of_a_name_counts():
    assert one_recipient("Final-Recipient: rfc822;a@example.net\nStatus: 5.1.1\nStatus: 2.0.0\n").status == "5.1.1"


def test_lines_that_are_no_fields_are_passed_over():
    status = one_recipient("Final-Recipient: rfc822;a@example.net\nwhat is this\nStatus: 5.1.1\n")
    assert status.status == "5.1.1"


def test_texts_are_printable_and_short():
    status = one_recipient(f"Final-Recipient: rfc822;a@example.net\nDiagnostic-Code: smtp; \x1b[1m\x00{'x' * 5000}\n")
    assert status.diagnostic.isprintable()
    assert 400 < len(status.diagnostic) <= 500


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable", "7bit", "8bit", ""])
def test_encoded_parts(encoding):
    encode = {"base64": base64.encodebytes, "quoted-printable": quopri.encodestring}.get(encoding, bytes)
    status = encode(b"Reporting-MTA: dns; mx.example.net\n\nFinal-Recipient: utf-8; bob@example.net\n")
    original = encode(
        "From: alice@example.org\nSubject: gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n\n\nhello\n".encode()
    )
    field = f"\nContent-Transfer-Encoding: {encoding}" if encoding else ""
    body = b"".join(
        [
            f"--b\nContent-Type: message/global-delivery-status{field}\n\n".encode(),
            status,
            f"--b\nContent-Type: message/global{field}\n\n".encode(),
            original,
            b"--b--\n",
        ]
    )
    report = read_report(own_notice.header(Content_Type="multipart/report; boundary=b"), body)
    assert report.reporting_mta == "mx.example.net"
    assert [one.address for one in report.recipients] == ["bob@example.net"]
    assert report.returned.headers.first("Subject") == "grün"


def test_report_whose_text_is_in_a_part_of_its_own():
    """Exchange writes text and HTML."""
    body = own_notice.body().replace(
        b"Content-Type: text/plain; charset=us-ascii\r\n\r\n",
        b"Content-Type: multipart/alternative; boundary=inner\r\n\r\n"
        b"--inner\r\nContent-Type: text/plain\r\n\r\nNot found.\r\n--inner--\r\n",
    )
    report = read_report(own_notice.header(), body)
    assert report.text.strip() == "Not found."
    assert report.recipients == (NOBODY,)


@pytest.mark.parametrize("data", [b"", b"\r\n", b"--\r\n", b"\xff\x00" * 100])
@pytest.mark.parametrize("content_type", [None, "", "multipart/report", "multipart/report; boundary=", "a/b", "\udcff"])
def test_what_cannot_be_read_is_missing(data, content_type):
    headers = Headers() if content_type is None else Headers.of([("Content-Type", content_type)])
    report = read_report(headers, data)
    assert (report.recipients, report.returned) == ((), None)
