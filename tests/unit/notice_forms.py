"""Notices of many mail servers, made up in their forms, and the messages around them."""

from typing import NamedTuple

from deliverypools.core.dsn.kinds import is_candidate, kind_of
from deliverypools.core.headers import Headers
from deliverypools.core.message_kind import Kind

DAEMON = "Mail Delivery System <MAILER-DAEMON@mx.example.net>"
POSTMASTER = "postmaster@example.net"
PERSON = "Alice <alice@example.org>"


class Form(NamedTuple):
    name: str
    kind: Kind
    text: str


def judged(fields, body="", *, null=False):
    """Return the kind, as the shells ask for it: the body only of candidates."""
    headers = Headers.of(fields)
    raw = body if isinstance(body, bytes) else body.encode()
    return kind_of(headers, raw if is_candidate(headers, has_null_sender=null) else b"", has_null_sender=null)


def notice(sender=DAEMON, **fields):
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return [("From", sender), *named.items()]


FORMS = [
    Form(
        "qmail",
        Kind.NON_DELIVERY,
        """\
Hi. This is the qmail-send program at mx.example.net.
I'm afraid I wasn't able to deliver your message to the
following addresses.

<bob@example.net>:
Sorry, no mailbox here by that name. (#5.1.1)
""",
    ),
    Form(
        "Exim",
        Kind.NON_DELIVERY,
        """\
This message was created automatically by mail delivery software.

A message that you sent could not be
delivered to one or more of its recipients.

  bob@example.net
    unrouteable address
""",
    ),
    Form(
        "Exim",
        Kind.DELAY,
        """\
This message was created automatically by mail delivery software.
A message that you sent has not yet been
delivered to one or more of its recipients after more than
24 hours on the queue on mx.example.net.
""",
    ),
    Form(
        "Postfix",
        Kind.NON_DELIVERY,
        """\
This is the mail system at host mx.example.net.

I'm sorry to have to inform you that your message could not
be delivered to one or more recipients.
""",
    ),
    Form(
        "Postfix",
        Kind.DELAY,
        """\
This is the mail system at host mx.example.net.

####
# THIS IS A WARNING ONLY.  YOU DO NOT NEED TO RESEND
""",
    ),
    Form(
        "sendmail",
        Kind.NON_DELIVERY,
        """\
The original message was received at Tue, 6 Jan 2026 00:39:02 GMT
from localhost [127.0.0.1]

   ----- The following addresses had permanent fatal errors -----
<bob@example.net>
""",
    ),
    Form(
        "Exchange",
        Kind.NON_DELIVERY,
        """\
Your message

  To: bob@example.net
  Subject: Minutes
  Sent: Tue, 6 Jan 2026 10:00:00 +0100

did not reach the following recipient(s):

bob@example.net on Tue, 6 Jan 2026
""",
    ),
    Form(
        "Exchange",
        Kind.NON_DELIVERY,
        """\
Delivery has failed to these recipients or groups:

bob@example.net
""",
    ),
    Form(
        "Exchange",
        Kind.DELAY,
        """\
Delivery to these recipients or groups is delayed:

bob@example.net
""",
    ),
    Form(
        "Exchange",
        Kind.NON_DELIVERY,
        """\
Fehler bei der Nachrichtenzustellung an folgende Empfänger oder Verteilerlisten:

bob@example.net
""",
    ),
    Form(
        "Domino",
        Kind.NON_DELIVERY,
        """\
Your message

  Subject: Minutes

was not delivered to:

  bob@example.net

because:

  User not listed
""",
    ),
    Form(
        "Gmail",
        Kind.NON_DELIVERY,
        """\
This is an automatically generated Delivery Status Notification

Delivery to the following recipient failed permanently:

     bob@example.net
""",
    ),
    Form(
        "Gmail",
        Kind.DELAY,
        """\
Delivery to the following recipient has been delayed:

     bob@example.net
""",
    ),
    Form(
        "Gmail",
        Kind.NON_DELIVERY,
        """\
** Address not found **

Your message wasn't delivered to bob@example.net because
""",
    ),
    Form(
        "GroupWise",
        Kind.NON_DELIVERY,
        """\
The message that you sent was undeliverable to the following:

	bob@example.net
""",
    ),
    Form(
        "AOL",
        Kind.NON_DELIVERY,
        """\
Sorry alice. Your mail to the following recipients could not be delivered because
""",
    ),
    Form(
        "IMail",
        Kind.NON_DELIVERY,
        """\
User mailbox exceeds allowed size: bob@example.net
""",
    ),
    Form(
        "OpenSMTPD",
        Kind.NON_DELIVERY,
        """\
Hi!

This is the MAILER-DAEMON, please DO NOT REPLY to this email.

An error has
""",
    ),
    Form(
        "a refusal",
        Kind.NON_DELIVERY,
        """\
Delivery of email to this address

"bob@example.net"

has failed due to a full
""",
    ),
    Form(
        "a refusal, in another language",
        Kind.NON_DELIVERY,
        """\
(mx.example.net)
Su mensaje no pudo ser entregado - Sua mensagem nao pode ser enviada.

<bob@example.net>:
""",
    ),
    Form(
        "a refusal, in another language",
        Kind.NON_DELIVERY,
        """\
Ihre Nachricht an bob@example.net konnte nicht zugestellt werden.
""",
    ),
    Form(
        "a refusal, in another language",
        Kind.NON_DELIVERY,
        """\
Votre message n'a pas pu être remis à bob@example.net.
""",
    ),
    Form(
        "a delay",
        Kind.DELAY,
        """\
Ihre E-Mail konnte bisher nicht zugestellt werden, wir versuchen es weiter.
""",
    ),
    Form(
        "a delivery",
        Kind.DELIVERY,
        """\
Your message was successfully delivered to the following recipients: bob@example.net
""",
    ),
    Form(
        "sendmail",
        Kind.DELAY,
        """\
    **********************************************
    **      THIS IS A WARNING MESSAGE ONLY      **
    **  YOU DO NOT NEED TO RESEND YOUR MESSAGE  **
    **********************************************

The original message was received at Tue, 6 Jan 2026 00:39:02 GMT
""",
    ),
    Form(
        "Domino",
        Kind.DELAY,
        """\
Your message

  Subject: Minutes

has not yet been delivered to:

  bob@example.net
""",
    ),
    Form(
        "XWall",
        Kind.NON_DELIVERY,
        """\
Your message

  Subj: Minutes
  Sent: 2026-01-06 10:23

has encountered a delivery problem.
""",
    ),
    Form(
        "Yahoo",
        Kind.NON_DELIVERY,
        """\
Sorry, we were unable to deliver your message to the following address.

<bob@example.net>:
No mx record found for domain=example.net
""",
    ),
    Form(
        "MDaemon",
        Kind.NON_DELIVERY,
        """\
The following addresses did NOT receive a copy of your message:

> bob@example.net - no such user here
""",
    ),
    Form(
        "amavis",
        Kind.NON_DELIVERY,
        """\
Your message to: bob@example.net
was blocked by our Spam Firewall. The email you sent with the following subject has NOT BEEN DELIVERED:
""",
    ),
    Form(
        "Courier",
        Kind.NON_DELIVERY,
        """\
This is a delivery status notification from mx.example.net,
running the Courier mail server. Delivery to these addresses failed:
""",
    ),
]
