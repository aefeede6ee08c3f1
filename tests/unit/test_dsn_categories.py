"""Why a recipient was not reached, by what servers answer."""

import pytest

from deliverypools.core.dsn.categories import category_of
from deliverypools.core.dsn.report import RecipientStatus
from deliverypools.core.surges.events import Category

UNKNOWN_USER, MAILBOX_FULL, SPAM, UNREACHABLE, OTHER = (
    Category.UNKNOWN_USER,
    Category.MAILBOX_FULL,
    Category.SPAM,
    Category.UNREACHABLE,
    Category.OTHER,
)


@pytest.mark.parametrize(
    ("status", "diagnostic", "expected"),
    [
        ("5.1.1", "", UNKNOWN_USER),
        ("5.1.10", "550 5.1.10 RESOLVER.ADR.RecipientNotFound", UNKNOWN_USER),
        ("5.1.6", "550 5.1.6 moved", UNKNOWN_USER),
        ("5.2.1", "550 5.2.1 disabled", UNKNOWN_USER),
        ("4.1.1", "450 4.1.1 <bob@example.net>: unverified address", UNKNOWN_USER),
        ("5.0.0", "550-5.1.1 The email account that you tried to reach does not exist", UNKNOWN_USER),
        ("5.0.0", "550 <bob@example.net>: Recipient address rejected: User unknown in local table", UNKNOWN_USER),
        ("5.7.1", "550 5.7.1 No such user c18si2365148hub", UNKNOWN_USER),
        ("", "sorry, no mailbox here by that name.", UNKNOWN_USER),
        ("", "550 Requested action not taken: mailbox unavailable", UNKNOWN_USER),
        ("", "551 not our customer", UNKNOWN_USER),
        ("5.1.1", "550 5.1.1 <spam@example.net>: unknown user", UNKNOWN_USER),
        ("5.1.1", "host spamhaus.example.net[192.0.2.1] said: 550 5.1.1 unknown user", UNKNOWN_USER),
        ("5.2.2", "552 5.2.2 over quota", MAILBOX_FULL),
        ("4.2.2", "", MAILBOX_FULL),
        ("5.7.0", "The recipient mailbox has exceeded its disk space limit.", MAILBOX_FULL),
        ("", "mailbox is full: retry timeout exceeded", MAILBOX_FULL),
        ("", "552 try later", MAILBOX_FULL),
        ("5.7.1", "550 5.7.1 blocked using zen.spamhaus.example", SPAM),
        ("5.7.1", "554 5.7.1 Your message looks like SPAM to us", SPAM),
        ("5.7.1", "550 5.7.1 rejected: poor reputation of 192.0.2.10", SPAM),
        ("5.1.1", "550 5.1.1 user unknown, your address is on a blacklist", SPAM),
        ("5.7.1", "550 5.7.1 Message content rejected, UBE, id=1", SPAM),
        ("5.7.1", "550 5.7.1 Rejected - bulk email", SPAM),
        ("5.7.1", "554 5.7.1 Relay access denied", OTHER),
        ("5.3.4", "552 5.3.4 message size exceeds the limit of the recipient's mailbox", OTHER),
        ("", "552 message too large", OTHER),
        ("5.4.4", "Host or domain name not found", UNREACHABLE),
        ("4.4.1", "connect to mx.example.net[192.0.2.1]:25: Connection timed out", UNREACHABLE),
        ("4.4.1", "connect to mx.example.net[192.0.2.1]:25: Connection refused", UNREACHABLE),
        ("4.3.0", "host mx.example.net[192.0.2.1] said: 451 4.3.0 try again later", UNREACHABLE),
        ("", "connect to mx.example.net[192.0.2.1]:25: No route to host", UNREACHABLE),
        ("", "421 too many connections", UNREACHABLE),
        ("5.4.6", "mail for example.net loops back to myself", UNREACHABLE),
        ("4.7.1", "450 4.7.1 greylisted, your address has a poor reputation", SPAM),
        ("5.4.1", "550 5.4.1 Recipient address rejected: Access denied", OTHER),
        ("5.0.0", "554 transaction failed, code 421.7", OTHER),
        ("5.7.26", "550 5.7.26 unauthenticated mail is not accepted", OTHER),
        ("", "", OTHER),
    ],
)
def test_category(status, diagnostic, expected):
    assert category_of(RecipientStatus(status=status, diagnostic=diagnostic), "") is expected


def test_text_counts_where_the_server_is_not_quoted():
    assert category_of(RecipientStatus(), "The mailbox of this user is over quota.") is MAILBOX_FULL
    assert category_of(RecipientStatus(diagnostic="554 go away"), "This looks like spam") is OTHER
