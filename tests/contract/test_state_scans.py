"""The contract of the shared state, over every store: what scanners have said."""

import pytest
from invented import ODD_NAMES

from deliverypools.core.scanning.answers import MOST_SYMBOLS, Scanner, ScannerAnswer, ScanVerdict
from deliverypools.core.tallies import HOUR


def test_nothing_is_known_at_first(state):
    assert state.known_scans([]) == {}
    assert state.known_scans(["one", "two"]) == {}


def test_what_was_said_is_known_to_all(opened):
    opened().remember_scan("one", "spam", 100)
    assert opened().known_scans(["one", "two"]) == {"one": "spam"}


def test_several_are_looked_up_at_once(state):
    for number in range(5):
        state.remember_scan(f"key {number}", f"answer {number}", 100)
    assert state.known_scans(["key 1", "key 9", "key 3", "key 1"]) == {"key 1": "answer 1", "key 3": "answer 3"}


def test_the_last_word_counts(state):
    state.remember_scan("one", "ham", 100)
    state.remember_scan("one", "spam", 100)
    assert state.known_scans(["one"]) == {"one": "spam"}


def test_it_is_forgotten_after_its_time(state, clock):
    state.remember_scan("one", "ham", 100)
    state.remember_scan("two", "spam", 101)
    clock.now += 99
    assert state.known_scans(["one", "two"]) == {"one": "ham", "two": "spam"}
    clock.now += 1
    assert state.known_scans(["one", "two"]) == {"two": "spam"}


def test_said_again_its_time_begins_again(state, clock):
    state.remember_scan("one", "ham", 100)
    clock.now += 60
    state.remember_scan("one", "ham", 100)
    clock.now += 60
    assert state.known_scans(["one"]) == {"one": "ham"}


@pytest.mark.parametrize("name", [*ODD_NAMES, ""])
def test_any_text_is_kept_as_it_is(state, name):
    state.remember_scan(name, name, 100)
    state.remember_scan(f"{name} other", "other", 100)
    assert state.known_scans([name]) == {name: name}


def test_the_longest_answer_there_is(state):
    answer = ScannerAnswer(
        scanner=Scanner.RSPAMD,
        verdict=ScanVerdict.SPAM,
        score=-12.345,
        is_forced=True,
        action="add header",
        symbols=("\N{SNOWMAN}" * 80,) * MOST_SYMBOLS,
    )
    state.remember_scan("one", answer.to_text(), HOUR)
    assert ScannerAnswer.from_text(state.known_scans(["one"])["one"]) == answer
