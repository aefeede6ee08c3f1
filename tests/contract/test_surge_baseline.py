"""What is usual, as the stores count it."""

import pytest
from invented import START, ndr_event

from deliverypools.core.surges.baseline import (
    EVERYTHING,
    REFUSED_AS_SPAM,
    account_stream,
    domain_stream,
    noted,
    usual_numbers,
)
from deliverypools.core.surges.events import Category, Way
from deliverypools.core.surges.flows import Flow
from deliverypools.core.tallies import DAY, HOUR, Entry

STREAM = domain_stream(Flow.NOT_OURS, "example.org")


@pytest.fixture
def days(state, clock):
    """Count so much in each of some days, oldest first; then ask for what is usual, at the end of the last one."""

    def count(*amounts, last_hour=0):
        for day, amount in enumerate(amounts):
            clock.now = START + day * DAY
            note(state, amount)
        clock.now = START + max(0, len(amounts) - 1) * DAY + 2 * HOUR
        note(state, last_hour)
        return usual_numbers([STREAM], state.used)[STREAM]

    return count


def note(state, amount, **values):
    for number in range(amount):
        state.count(noted(ndr_event(f"mx/{number}", **arrived() | values)))


def arrived():
    return {"way": Way.ARRIVED, "verdict": "backscatter", "domain": "example.org", "account": ""}


def test_a_new_installation_has_nothing_that_is_usual(days):
    assert days(last_hour=20) == 0


def test_before_a_whole_day_is_over_nothing_is_usual(days):
    assert days(20, last_hour=20) == 0


def test_the_middle_of_the_days_that_are_known(days):
    assert days(0, 10, 2, 4, 10) == pytest.approx(4 / 24)


def test_one_bad_day_changes_nothing(days):
    assert days(3, 3, 3, 3, 3, 3, 300) == pytest.approx(3 / 24)


def test_what_goes_on_for_most_of_a_week_is_usual(days):
    assert days(1, 0, 0, 20, 20, 20, 20) == pytest.approx(20 / 24)


def test_the_hour_that_is_looked_at_is_not_part_of_it(days):
    assert days(3, 3, 3, last_hour=300) == pytest.approx(3 / 24)


def test_a_week_is_all_that_is_kept(state, clock, days):
    days(20, 20, 20)
    clock.now += 8 * DAY
    assert usual_numbers([STREAM], state.used) == {STREAM: 0}


def test_other_streams_are_not_mixed_in(state, clock):
    for day in range(7):
        clock.now = START + day * DAY
        note(state, 10)
    clock.now += 2 * HOUR
    others = [
        domain_stream(Flow.OUTSIDE, "example.org"),
        domain_stream(Flow.NOT_OURS, "example.com"),
        account_stream("alice"),
    ]
    usual = usual_numbers([*others, STREAM], state.used)
    assert [usual[stream] for stream in others] == [0, 0, 0]
    assert usual[STREAM] > 0


def test_what_an_event_counts_in():
    genuine = ndr_event(
        "mx/1", **arrived() | {"verdict": "genuine", "account": "alice", "remote": "r.example", "amount": 3}
    )
    assert [(entry.stream, entry.amount) for entry in noted(genuine).entries] == [
        (EVERYTHING, 3),
        ("ndr/own/domain/example.org", 3),
        ("ndr/own/account/alice", 3),
        ("ndr/own/destination/r.example", 3),
    ]
    refused = ndr_event("mx/1", way=Way.MADE, verdict="genuine", account="alice", category=Category.SPAM, amount=3)
    assert Entry(REFUSED_AS_SPAM, 3, noted(refused).entries[0].keep_seconds) in noted(refused).entries
    forged = ndr_event("mx/1", **arrived() | {"amount": 3})
    assert [(entry.stream, entry.amount) for entry in noted(forged).entries] == [
        (EVERYTHING, 1),
        ("ndr/not-ours/domain/example.org", 1),
    ]
