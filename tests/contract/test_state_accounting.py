"""What a message costs its account, over every store: once, whatever fails on the way, and judged once."""

from types import SimpleNamespace

import pytest

from deliverypools.adapters import enforcement
from deliverypools.adapters.state import Reservation, StateUnavailable
from deliverypools.core.accounts import Account
from deliverypools.core.facts import Answer, Finding, Ingress, Origin
from deliverypools.core.limits import Charge, limits_for, recipients_window, tally_of
from deliverypools.core.settings import Settings
from deliverypools.core.tallies import DAY
from deliverypools.core.ticket import Binding, Ticket
from deliverypools.milter.accounting import count_at_acceptance
from deliverypools.milter.collector import MessageCollector
from deliverypools.milter.egress_accounts import SentOn, with_count

ALICE = Account(Ingress.SUBMISSION, "alice@example.org", "example.org", "example.org")
MESSAGE = MessageCollector("<alice@example.org>").end("4EGRESS")
FAST, SLOW = {"messages_per_minute": 100}, {"messages_per_minute": 1}
"""The burst limit restricts nobody, so it can be exceeded under a policy that restricts."""


def site(*, most=1000, over_limit="high-risk", limits=FAST, **tables):
    pools = {
        name: {"addresses": [f"192.0.2.{number}"], "helo": f"{name}.example.org"}
        for name, number in (("normal", 10), ("high-risk", 20), ("relay", 30))
    }
    policy = {"name": "default", "external_recipients_per_hour": most, "over_limit": over_limit}
    return Settings.model_validate(
        {"accepted_domains": ["example.org"], "pools": pools, "limits": limits, "outbound_policies": [policy], **tables}
    )


class Faulty:
    """A state of which some calls fail; it notes those that count."""

    def __init__(self, state, *failing):
        self._state = state
        self.failing = set(failing)
        self.calls = []

    def __getattr__(self, name):
        call = getattr(self._state, name)

        def noted(*arguments, **options):
            if name in ("reserve", "commit", "cancel", "count_once"):
                self.calls.append(name)
            if name in self.failing:
                raise StateUnavailable(f"{name} meets a busy file")
            return call(*arguments, **options)

        return noted


@pytest.fixture
def faulty(state):
    return Faulty(state)


@pytest.fixture
def make_services(faulty, clock):
    return lambda settings: SimpleNamespace(settings=settings, state=faulty, clock=clock)


@pytest.fixture
def beyond(monkeypatch):
    """The limits that went into the metric."""
    names = []
    monkeypatch.setattr(enforcement, "add", lambda _metric, name: names.append(name))
    return names


def charge(recipients=1):
    return Charge(ALICE, 0, recipients)


def reserve_as_the_policy_service_does(state, settings, queue_id, recipients):
    counted = tally_of(charge(recipients), limits_for(charge(recipients), settings))
    state.reserve([Reservation(queue_id, "an instance", counted)])


def ticket(over_limit, recipients):
    origin = Origin(
        ingress=Ingress.SUBMISSION,
        account=ALICE.name,
        envelope_sender=ALICE.name,
        client_address="198.51.100.7",
        over_limit=over_limit,
    )
    return Ticket(
        ticket_id="ticket",
        made_at=0.0,
        first_queue_id="4FIRST",
        origin=origin,
        binding=Binding("", "", ""),
        recipient_count=recipients,
    )


@pytest.fixture
def sent(state):
    """What the account has sent in a day."""
    return lambda: state.used([recipients_window(ALICE, DAY)])[0]


class TestNotCountedWhenItWasAccepted:
    """The policy service reserved it, and the milter's commit failed: the egress pass counts it."""

    SETTINGS = site(most=300)

    @pytest.fixture
    def services(self, make_services):
        return make_services(self.SETTINGS)

    def test_the_reservation_does_not_count_beside_it(self, services, faulty, sent):
        reserve_as_the_policy_service_does(faulty, self.SETTINGS, "4FIRST", 300)
        faulty.failing = {"commit"}
        found = count_at_acceptance(charge(300), "4FIRST", services).over_limit
        assert found.answer is Answer.UNKNOWN
        origin, held = with_count(ticket(found, 300), MESSAGE, SentOn(), services)
        assert origin.over_limit.answer is Answer.NO, origin.over_limit.evidence
        assert {one.used for one in held} == {0}
        assert sent() == 300

    def test_each_further_pass_says_the_same_and_counts_nothing(self, services, faulty, sent):
        reserve_as_the_policy_service_does(faulty, self.SETTINGS, "4FIRST", 300)
        unknown = ticket(Finding(Answer.UNKNOWN), 300)
        answers = [with_count(unknown, MESSAGE, SentOn(), services)[0].over_limit for _ in range(3)]
        assert answers == [Finding(Answer.NO)] * 3
        assert sent() == 300

    @pytest.mark.parametrize("failing", ["cancel", "count_once"])
    def test_it_waits_until_both_could_be_done(self, services, faulty, sent, failing):
        reserve_as_the_policy_service_does(faulty, self.SETTINGS, "4FIRST", 300)
        unknown = ticket(Finding(Answer.UNKNOWN), 300)
        faulty.failing = {failing}
        assert with_count(unknown, MESSAGE, SentOn(), services)[0].over_limit.answer is Answer.UNKNOWN
        faulty.failing = set()
        assert with_count(unknown, MESSAGE, SentOn(), services)[0].over_limit.answer is Answer.NO
        assert sent() == 300

    def test_what_another_message_under_that_queue_id_has_committed_stays(self, services, sent):
        """Postfix uses short queue ids again."""
        count_at_acceptance(charge(100), "4FIRST", services)
        with_count(ticket(Finding(Answer.UNKNOWN), 20), MESSAGE, SentOn(), services)
        assert sent() == 120

    def test_what_another_message_under_that_queue_id_has_reserved_is_counted_by_its_commit(
        self, services, faulty, sent
    ):
        reserve_as_the_policy_service_does(faulty, self.SETTINGS, "4FIRST", 100)
        with_count(ticket(Finding(Answer.UNKNOWN), 20), MESSAGE, SentOn(), services)
        assert count_at_acceptance(charge(100), "4FIRST", services).over_limit.answer is Answer.NO
        assert sent() == 120

    def test_what_was_counted_when_it_was_accepted_costs_no_write(self, services, faulty):
        with_count(ticket(Finding(Answer.NO), 300), MESSAGE, SentOn(), services)
        with_count(ticket(Finding(Answer.NOT_ASKED), 300), MESSAGE, SentOn(), services)
        assert faulty.calls == ["count_once"]


class TestUnderAPolicyThatRestricts:
    def test_what_is_over_a_limit_that_does_not_restrict_is_judged_once(self, make_services, faulty, beyond, sent):
        services = make_services(site(over_limit="restrict", limits=SLOW))
        assert count_at_acceptance(charge(), "4Q1", services).over_limit.answer is Answer.NO
        counted = count_at_acceptance(charge(), "4Q2", services)
        assert (counted.over_limit.answer, counted.restriction) == (Answer.YES, None)
        assert beyond == ["messages_per_minute"]
        assert faulty.calls == ["reserve", "commit"] * 2
        assert sent() == 2

    def test_it_is_told_what_the_windows_held(self, make_services):
        services = make_services(site(over_limit="restrict"))
        count_at_acceptance(charge(7), "4Q1", services)
        counted = count_at_acceptance(charge(), "4Q2", services)
        assert {one.limit.name: one.used for one in counted.held}["external_recipients_per_hour"] == 7

    def test_the_message_that_exceeds_a_limit_is_not_counted(self, make_services, beyond, sent):
        services = make_services(site(most=10, over_limit="restrict"))
        counted = count_at_acceptance(charge(11), "4Q1", services)
        assert counted.restriction
        assert beyond == ["external_recipients_per_hour"]
        assert sent() == 0

    def test_a_message_that_could_not_be_reserved_is_not_judged_when_it_can_no_longer_be_given_back(
        self, make_services, faulty, beyond, sent
    ):
        services = make_services(site(most=10, over_limit="restrict"))
        faulty.failing = {"reserve"}
        counted = count_at_acceptance(charge(11), "4Q1", services)
        assert (counted.over_limit.answer, counted.restriction) == (Answer.UNKNOWN, None)
        assert beyond == []
        assert sent() == 0

    def test_what_was_reserved_and_not_committed_is_not_counted_yet(self, make_services, faulty, sent):
        services = make_services(site(over_limit="restrict"))
        faulty.failing = {"commit"}
        found = count_at_acceptance(charge(3), "4FIRST", services).over_limit
        assert found.answer is Answer.UNKNOWN, "the reservation lapses"
        with_count(ticket(found, 3), MESSAGE, SentOn(), services)
        assert sent() == 3

    def test_a_reservation_that_cannot_be_given_back_spares_nobody(self, make_services, faulty):
        services = make_services(site(most=10, over_limit="restrict"))
        faulty.failing = {"cancel"}
        assert count_at_acceptance(charge(11), "4Q1", services).restriction
