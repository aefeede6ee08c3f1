"""Ordinary mail of businesses and postmasters, in whose words a bounce could be written: none of it is one."""

import pytest
from notice_forms import judged

from deliverypools.core.message_kind import DSN_KINDS, Kind

ORDINARY = {
    "a name that begins with bounce": (
        "Bounce House Rentals <bounce-house@example.com>",
        "Delivery failed?",
        "We could not deliver your bounce castle: message could not be delivered to your phone.",
    ),
    "a sender of one's own for each recipient": (
        "Alumni Office <bounce-1234@alumni.example>",
        "Alumni dinner",
        "Dear alumni, several letters were returned to sender: address unknown. Please update your address.",
    ),
    "parcel service": (
        "Parcels <postmaster@parcels.example>",
        "Delivery failed: package 1Z999",
        "Dear customer,\ndelivery of package 1Z999 failed today. It is returned to sender if you do not collect it.",
    ),
    "invoice": (
        "Example Hosting <postmaster@hosting.example>",
        "Your invoice 2026-113",
        "Hello, attached is your invoice. Our last e-mail could not be delivered to billing@; please tell us why.",
    ),
    "postmaster answers a person": (
        "Jo Admin <postmaster@example.org>",
        "your mail to the dean",
        "Hi, your message was not delivered because the mailbox is full; I have raised the quota.",
    ),
    "postmaster asks a person": (
        "Jo Admin <postmaster@example.org>",
        "question about the dean",
        "Hello, the user is unknown to us. Could you check the spelling?\nJo",
    ),
    "quota warning": (
        "postmaster@example.org",
        "Your mailbox is 95% full",
        "Your mailbox is now 95% full. Mail to you is returned to sender when full.",
    ),
}
AUTOMATIC = {
    "ticket system": (
        "Postmaster Team <postmaster@example.org>",
        "[#12345] we received your request",
        'Dear customer,\nwe have received your request "Mail failed".\nYour message was not delivered, you say.',
        "auto-replied",
    ),
    "cron": (
        "postmaster@example.org (Cron Daemon)",
        "Cron <postmaster@mx> mailq-report",
        "4XYZ 1234 Mon a@example.com\nmessage could not be delivered",
        "auto-generated",
    ),
}


@pytest.mark.parametrize("name", ORDINARY)
def test_no_bounce(name):
    author, subject, body = ORDINARY[name]
    found = judged([("From", author), ("To", "bob@example.com"), ("Subject", subject)], body)
    assert found.kind is Kind.ORDINARY, found


@pytest.mark.parametrize("name", AUTOMATIC)
def test_no_bounce_of_a_program(name):
    author, subject, body, submitted = AUTOMATIC[name]
    found = judged([("From", author), ("Subject", subject), ("Auto-Submitted", submitted)], body)
    assert found.kind not in DSN_KINDS, found


def test_aggregate_report_with_words_before_the_domain():
    subject = "Dmarc Aggregate Report Domain: {example.com} Submitter: {example.org} Date: {2026-01-01}"
    assert judged([("From", "postmaster@example.org"), ("Subject", subject)], "").kind is Kind.DMARC_REPORT
