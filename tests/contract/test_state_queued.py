"""The contract of the shared state, over every store: what was queued before the installation."""

import pytest
from invented import ODD_NAMES

DAY = 86_400


def test_nothing_was_queued_at_first(state):
    assert state.queued_since("mx.example.org", "4ABC1") is None


def test_what_was_queued_is_known_to_all_processes_and_of_this_host_only(opened, clock):
    opened().remember_queued("mx.example.org", ["4ABC1", "4ABC2"])
    clock.now += 10
    state = opened()
    assert state.queued_since("mx.example.org", "4ABC1") == clock.now - 10
    assert state.queued_since("mx.example.org", "4ABC2") == clock.now - 10
    assert state.queued_since("mx.example.org", "4ABC3") is None
    assert state.queued_since("mx2.example.org", "4ABC1") is None


def test_asking_notes_nothing(state):
    assert state.queued_since("mx.example.org", "4ABC1") is None
    assert state.queued_since("mx.example.org", "4ABC1") is None


def test_noted_again_the_last_time_stands(state, clock):
    state.remember_queued("mx.example.org", ["4ABC1"])
    clock.now += 29 * DAY
    state.remember_queued("mx.example.org", ["4ABC1"])
    clock.now += 29 * DAY
    assert state.queued_since("mx.example.org", "4ABC1") == clock.now - 29 * DAY


def test_it_is_forgotten_after_thirty_days(state, clock):
    state.remember_queued("mx.example.org", ["4ABC1"])
    clock.now += 30 * DAY
    assert state.queued_since("mx.example.org", "4ABC1") is None


def test_many_and_none_at_once(state):
    state.remember_queued("mx.example.org", [])
    state.remember_queued("mx.example.org", [f"4A{number}" for number in range(1000)])
    assert state.queued_since("mx.example.org", "4A999") is not None


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_text_is_told_apart(state, name):
    state.remember_queued(name, ["4ABC1"])
    assert state.queued_since(name, "4ABC1") is not None
    assert state.queued_since(f"{name} other", "4ABC1") is None
