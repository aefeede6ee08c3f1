"""Notices in the form in which Postfix's bounce(8) writes them."""

from deliverypools.core.headers import Headers

BOUNDARY = "4jXLFr5qPHzJwBX.1795332336/mx.example.org"
ORIGINAL = """\
Return-Path: <alice@example.org>
Received: from client.example (unknown [192.0.2.9])
\tby mx.example.org (Postfix) with ESMTPSA id 4jXLFr5YHtzJwBV
\tfor <bob@example.net>; Sun, 22 Nov 2026 07:25:36 +0000 (UTC)
From: Alice <alice@example.org>
To: bob@example.net
Date: Sun, 22 Nov 2026 07:25:36 +0000
Message-ID: <1@example.org>
Subject: hello
X-Delivery-Pool-Ticket: gAAAAABqsomething
\t.dp.further
\t.dp.last

hello bob
"""
RECIPIENT = """\
Final-Recipient: rfc822; bob@example.net
Original-Recipient: rfc822;bob@example.net
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx.example.net
Diagnostic-Code: smtp; 550 5.1.1 No such user here
"""


def header(**fields):
    """The header of a notice, names with underscores for hyphens."""
    named = {"Content_Type": f'multipart/report; report-type=delivery-status;\n\tboundary="{BOUNDARY}"'} | fields
    return Headers.of((name.replace("_", "-"), value) for name, value in named.items())


def body(
    original=ORIGINAL,
    recipients=RECIPIENT,
    *,
    returned_type="message/rfc822",
    status_type="message/delivery-status",
    text="<bob@example.net>: host mx.example.net[192.0.2.25] said: 550 5.1.1 No such user here\n",
    line_end="\r\n",
    closed=True,
):
    """The body of a notice; what is a str is encoded."""
    head = f"""\
This is a MIME-encapsulated message.

--{BOUNDARY}
Content-Description: Notification
Content-Type: text/plain; charset=us-ascii

This is the mail system at host mx.example.org.

{text}
--{BOUNDARY}
Content-Description: Delivery report
Content-Type: {status_type}

Reporting-MTA: dns; mx.example.org
Original-Envelope-Id: abc+1
X-Postfix-Queue-ID: 4jXLFr5qPHzJwBX
X-Postfix-Sender: rfc822; alice@example.org
Arrival-Date: Sun, 22 Nov 2026 07:25:36 +0000 (UTC)

{recipients}
--{BOUNDARY}
Content-Description: Undelivered Message
Content-Type: {returned_type}

"""
    raw = original if isinstance(original, bytes) else original.encode()
    whole = head.encode() + raw + (f"\n--{BOUNDARY}--\n".encode() if closed else b"")
    return whole.replace(b"\n", line_end.encode())
