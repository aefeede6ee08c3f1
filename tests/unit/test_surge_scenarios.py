"""Invented hours with a known cause, from fixed seeds: each is told once. `make bench-surges` has more of them."""

import pytest

from deliverypools.core.surges.causes import Cause
from surge_hours import Hour, is_all_right
from surge_scenarios import QUIET, invent

SEEDS = range(9100, 9104)
PAIRS = [
    (Cause.SPOOFING_CAMPAIGN, Cause.DIRECTORY_HARVEST),
    (Cause.SPAM_ATTACK, Cause.ROGUE_SERVER),
    (Cause.SPAM_ATTACK, Cause.OLD_LIST),
    (Cause.SPOOFING_CAMPAIGN, Cause.SPAM_ATTACK),
]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("label", [*Cause, QUIET])
def test_one_incident_or_none(label, seed):
    hour = Hour(invent(seed, [] if label == QUIET else [Cause(label)]))
    assert is_all_right(hour.scenario, hour.watch(300.0)), (hour.scenario.incidents, hour.told)


@pytest.mark.parametrize("causes", PAIRS, ids=" and ".join)
def test_two_incidents_at_the_same_time_are_two(causes):
    hour = Hour(invent(9200, causes))
    told = hour.watch(300.0)
    assert is_all_right(hour.scenario, told), (hour.scenario.incidents, told)


def test_the_same_seed_is_the_same_hour():
    first, second = (Hour(invent(9300, [Cause.ROGUE_SERVER])) for _ in range(2))
    assert first.scenario.events == second.scenario.events
    assert first.watch(300.0) == second.watch(300.0)
