"""Shadow mode as Postfix sees it: whatever would be refused is accepted, and it is on record what would have been."""

import time

import pytest
from mail import TAG, Mail, connected, received

from deliverypools.core.evidence import read_evidence
from deliverypools.core.restrictions import Restriction
from deliverypools.lab.dns_server import DnsFailure

FLOODED = Mail().below(*[(TAG.encode(), b"normal")] * 60)
RESTRICTION = Restriction(account="alice", since=0.0, reason="too much")


@pytest.fixture
def milter(make_site, start):
    return start("milter", make_site(shadow=True))


@pytest.fixture
def restrict(milter):
    with milter.site.opened_state() as state:
        state.restrict(RESTRICTION, by_hand=True)


@pytest.fixture
def send(milter):
    def send(mail, daemon_name="SUBMISSION", **options):
        address = "127.0.0.1" if daemon_name == "EGRESS" else "198.51.100.7"
        with connected(milter.socket_path, daemon_name, address) as client:
            return mail.through(client, **options)

    return send


@pytest.fixture
def row(milter):
    def row(queue_id):
        with milter.site.opened_state() as state:
            return state.record_of("mx.example.org", queue_id)

    return row


def left(outcome):
    return outcome.reply, outcome.added_values(TAG)


@pytest.mark.usefixtures("restrict")
def test_a_restricted_account_sends_on_and_is_counted(milter, send, row):
    outcome = send(Mail(), sasl_username="alice", queue_id="4RESTR0001z")
    assert outcome.reply == b"c"
    milter.wait_for_log("4RESTR0001z: pass=first reply=reject rule=restricted_sender")
    milter.wait_for_log("shadow=accepted")
    assert milter.site.recipients_counted("alice") == 1
    first = row("4RESTR0001z")
    assert (first.pool, first.rule, first.went_on) == ("", "restricted_sender", True)
    assert first.reasons.startswith("would be refused: ")
    assert read_evidence(first.details).would in first.reasons

    hop = send(Mail().after(outcome).below(received(queue_id="4RESTR0001z")), "EGRESS", queue_id="4RESTR0002z")
    assert left(hop) == (b"c", ["normal"])
    egress = row("4RESTR0002z")
    assert (egress.pool, egress.rule, egress.leaves_by) == ("high-risk", "restricted_sender", "normal")
    assert egress.is_in_shadow


def test_a_flood_of_our_headers_goes_on_without_them(milter, send):
    outcome = send(FLOODED, sasl_username="alice")
    assert outcome.reply == b"c"
    assert FLOODED.after(outcome).values(TAG) == []
    milter.wait_for_log("shadow=accepted")


def test_what_cannot_be_decided_leaves_at_once_and_is_on_record(milter, send, row):
    milter.site.dns.fail("example.org", DnsFailure.SERVFAIL, "MX")
    milter.site.dns.fail("example.org", DnsFailure.SERVFAIL, "A")
    stranger = Mail().below(received())
    assert left(send(stranger, "EGRESS", queue_id="4UNDEC0001z")) == (b"c", ["normal"])
    found = row("4UNDEC0001z")
    assert (found.pool, found.rule, found.leaves_by, found.went_on) == ("", "undecided", "normal", True)


class TestWithoutShadow:
    """The same mail is refused, or waits."""

    @pytest.fixture
    def milter(self, make_site, start):
        return start("milter", make_site())

    @pytest.mark.usefixtures("restrict")
    def test_restricted(self, send, row):
        assert send(Mail(), sasl_username="alice", queue_id="4RESTR0001z").text.startswith("550 5.7.1")
        assert row("4RESTR0001z") is None

    def test_flooded(self, send):
        assert send(FLOODED, sasl_username="alice").text.startswith("550 5.7.1")

    def test_why_it_waits_is_known_by_the_queue_file_that_waits(self, milter, send, row):
        stranger = Mail().below(received(queue_id="4WAITS0001z"))
        assert send(stranger, "EGRESS", queue_id="4UNDEC0001z").text.startswith("451 4.7.1")
        assert row("4UNDEC0001z") is None, "there are as many of those as tries"
        with milter.site.opened_state() as state:
            for name in ("4WAITS0001z", "<1@example.org>"):
                waiting = state.waiting(name)
                assert (waiting.queue_id, waiting.pool, waiting.rule) == ("4UNDEC0001z", "", "undecided")
                assert waiting.reasons
                assert read_evidence(waiting.details).asked
            assert waiting.at <= time.time()
