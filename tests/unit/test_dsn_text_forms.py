"""What is read from notices for people alone: recipients, and the message below the program's own line."""

import pytest

from deliverypools.core.dsn.report import read_report
from deliverypools.core.headers import Headers

ORIGINAL = """\
Return-Path: <alice@example.org>
Received: from mx.example.org (mx.example.org [192.0.2.1])
  by mx.example.net with SMTP; 22 Nov 2026 07:25:36 -0000
From: alice@example.org
To: bob@example.net
Message-ID: <1@example.org>
Subject: hello

hello bob
"""

QMAIL = """\
Hi. This is the qmail-send program at mx.example.net.
I'm afraid I wasn't able to deliver your message to the following addresses.
This is a permanent error; I've given up. Sorry it didn't work out.

<bob@example.net>:
192.0.2.25 does not like recipient.
Remote host said: 550 5.1.1 unknown user

--- Below this line is a copy of the message.

"""
EXIM = """\
This message was created automatically by mail delivery software.

A message that you sent could not be delivered to one or more of its
recipients. This is a permanent error. The following address(es) failed:

  bob@example.net
    SMTP error from remote mail server after RCPT TO:<bob@example.net>:
    550 5.1.1 unknown user

------ This is a copy of the message, including all the headers. ------

"""
EXIM_LONG = (
    EXIM
    + """\
------ The body of the message is 5384741 characters long; only the first
------ 106496 or so are included here.

"""
)
SENDMAIL = """\
The original message was received at Sun, 22 Nov 2026 07:25:36 GMT

   ----- The following addresses had permanent fatal errors -----
<bob@example.net>
    (reason: 550 5.1.1 unknown user)

   ----- Transcript of session follows -----
550 5.1.1 <bob@example.net>... User unknown

   ----- Original message follows -----

"""
GMAIL = """\
Delivery to the following recipient failed permanently:

     bob@example.net

Technical details of permanent failure:
550 5.1.1 unknown user

   ----- Original message -----

"""
EXCHANGE = """\
Delivery has failed to these recipients or distribution lists:

bob@example.net<mailto:bob@example.net>
The e-mail address was not found: 550 5.1.1 unknown user

Diagnostic information for administrators:

Generating server: mx.example.net

Original message headers:

"""
HOSTER = """\
The following address failed:

    bob@example.net:
        SMTP error from remote server: 550 5.1.1 unknown user

--- The header of the original message is following. ---

"""
FORMS = {
    "qmail": QMAIL,
    "Exim": EXIM,
    "Exim, cut": EXIM_LONG,
    "sendmail": SENDMAIL,
    "Gmail": GMAIL,
    "Exchange": EXCHANGE,
    "hoster": HOSTER,
}


def read(text, **fields):
    headers = Headers.of((name.replace("_", "-"), value) for name, value in fields.items())
    return read_report(headers, text.encode())


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_form(form, line_end):
    report = read((form + ORIGINAL).replace("\n", line_end))
    assert [one.address for one in report.recipients] == ["bob@example.net"]
    assert report.recipients[0].status == "5.1.1"
    assert "unknown user" in report.recipients[0].diagnostic
    assert report.returned.headers.first("Message-ID") == "<1@example.org>"
    assert report.returned.body_start.strip() == b"hello bob"
    assert "hello bob" not in report.text
    assert report.text.splitlines()[0] == form.splitlines()[0]


def test_text_in_a_part_and_the_message_in_another():
    text = QMAIL.partition("---")[0]
    body = f"--b\n\n{text}\n--b\nContent-Type: message/rfc822\n\n{ORIGINAL}\n--b--\n"
    report = read(body, Content_Type="multipart/mixed; boundary=b")
    assert [one.address for one in report.recipients] == ["bob@example.net"]
    assert report.returned.headers.first("Message-ID") == "<1@example.org>"


def test_encoded_text():
    text = (QMAIL + ORIGINAL).replace("=", "=3D").replace("permanent", "perma=\nnent")
    report = read(text, Content_Type="text/plain; charset=utf-8", Content_Transfer_Encoding="quoted-printable")
    assert "permanent error" in report.text
    assert report.returned.headers.first("Message-ID") == "<1@example.org>"


def test_recipients_of_the_header_are_all_of_them():
    text = EXIM.replace("  bob@", "  other@example.com\n    rejected\n\n  bob@")
    report = read(text, X_Failed_Recipients="bob@example.net,\n carol@example.net")
    assert [(one.address, bool(one.diagnostic)) for one in report.recipients] == [
        ("bob@example.net", True),
        ("carol@example.net", False),
    ]


def test_first_separator_counts():
    returned = read(QMAIL + ORIGINAL + QMAIL + ORIGINAL.replace("<1@", "<2@")).returned
    assert list(returned.headers.all("Message-ID")) == ["<1@example.org>"]


@pytest.mark.parametrize(
    "text",
    [
        ORIGINAL,
        QMAIL.partition("---")[0] + ORIGINAL,
        "he wrote: --- Below this line is a copy of the message.\n\n" + ORIGINAL,
        QMAIL,
        QMAIL + "this is\nno header\n",
        QMAIL + "X-Other: x\n\n",
        "> --- Below this line is a copy of the message.\n\n" + ORIGINAL,
    ],
    ids=["no separator", "text alone", "inside a line", "nothing below", "no header", "no field we know", "quoted"],
)
def test_no_returned_message(text):
    assert read(text).returned is None


def test_a_hundred_recipients_at_most():
    text = "".join(f"<bob{number}@example.net>:\nunknown user\n\n" for number in range(500))
    assert len(read(text).recipients) == 100


def test_prose_names_no_recipients():
    text = "alice@example.org wrote to bob@example.net\nTo: carol@example.net\nhello dave@example.net\n"
    assert read(text).recipients == ()
