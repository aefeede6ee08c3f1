"""How long one more question to a scanner would wait."""

import pytest

from deliverypools.core.scanning.turns import Turns


def turns(at_once=2, taken=0, answers=()):
    made = Turns(at_once)
    for seconds in answers:
        made.note_answer(seconds)
    for _ in range(taken):
        made.take()
    return made


@pytest.mark.parametrize(
    ("at_once", "taken", "seconds"),
    [(1, 0, 0), (1, 1, 4), (1, 2, 8), (2, 1, 0), (2, 2, 2), (2, 3, 4), (8, 7, 0), (8, 8, 0.5), (8, 15, 4)],
)
def test_it_is_the_time_of_those_who_wait_before_it_and_its_own_shared_by_all_threads(at_once, taken, seconds):
    assert turns(at_once, taken, [4.0]).wait_seconds == seconds


def test_before_there_was_an_answer_nobody_knows():
    assert turns(taken=1000).wait_seconds == 0


def test_a_turn_that_was_given_back_is_free():
    one = turns(at_once=1, taken=2, answers=[4.0])
    one.give_back()
    assert one.wait_seconds == 4
    one.give_back()
    assert one.wait_seconds == 0


def test_the_first_answers_have_the_same_weight():
    assert turns(at_once=1, taken=1, answers=[8.0, 1.0, 3.0]).wait_seconds == 4


def test_one_slow_answer_among_many_weighs_little():
    assert turns(at_once=1, taken=1, answers=[1.0] * 50 + [9.0]).wait_seconds == 2


def test_how_it_was_long_ago_is_forgotten():
    assert turns(at_once=1, taken=1, answers=[60.0] * 50 + [0.0] * 100).wait_seconds < 0.001
