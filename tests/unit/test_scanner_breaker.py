"""A scanner that fails is left alone, and probed with one message."""

import pytest

from deliverypools.core.scanning.breaker import (
    FAILURES_IN_A_ROW,
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    Breaker,
    Permission,
)

NOW = 1000.0


@pytest.fixture
def breaker():
    return Breaker()


def fail(breaker, times, now=NOW):
    return [breaker.fail(breaker.permit(now), now) for _ in range(times)]


@pytest.fixture
def opened(breaker):
    fail(breaker, FAILURES_IN_A_ROW)
    return breaker


def probe(breaker, now):
    """Ask for the probe; return its permission."""
    permission = breaker.permit(now)
    assert permission is Permission.PROBE
    return permission


class TestWell:
    def test_everybody_may_ask(self, breaker):
        assert [breaker.permit(NOW) for _ in range(100)] == [Permission.ORDINARY] * 100

    def test_the_fifth_failure_in_a_row_opens_it(self, breaker):
        assert fail(breaker, 4) == [0.0] * 4
        assert not breaker.refuses(NOW)
        assert fail(breaker, 1) == [30.0]
        assert breaker.is_open
        assert breaker.permit(NOW) is Permission.REFUSED

    def test_an_answer_between_failures_begins_the_count_again(self, breaker):
        fail(breaker, 4)
        breaker.succeed()
        assert fail(breaker, 4) == [0.0] * 4
        assert not breaker.is_open


class TestPause:
    @pytest.mark.parametrize(
        ("seconds", "permission"),
        [(0, Permission.REFUSED), (29.9, Permission.REFUSED), (30, Permission.PROBE), (86_400, Permission.PROBE)],
    )
    def test_it_lasts_for_30_seconds(self, opened, seconds, permission):
        assert opened.refuses(NOW + seconds) is (permission is Permission.REFUSED)
        assert opened.permit(NOW + seconds) is permission

    def test_to_ask_whether_it_refuses_takes_nothing(self, opened):
        assert [opened.refuses(NOW + 30) for _ in range(3)] == [False] * 3
        assert opened.permit(NOW + 30) is Permission.PROBE

    def test_failures_of_what_was_asked_before_do_not_lengthen_it(self, breaker):
        early = [breaker.permit(NOW) for _ in range(FAILURES_IN_A_ROW + 20)]
        assert [breaker.fail(one, NOW) for one in early] == [0.0] * 4 + [30.0] + [0.0] * 20
        assert breaker.permit(NOW + 30) is Permission.PROBE

    def test_an_answer_to_what_was_asked_before_ends_it(self, breaker):
        late = breaker.permit(NOW)
        fail(breaker, FAILURES_IN_A_ROW)
        assert late is Permission.ORDINARY
        breaker.succeed()
        assert breaker.permit(NOW) is Permission.ORDINARY


class TestProbe:
    def test_the_others_do_without_until_it_is_answered(self, opened):
        probe(opened, NOW + 30)
        assert [opened.permit(NOW + 30 + wait) for wait in (0, 10, 1000)] == [Permission.REFUSED] * 3

    def test_success_closes_the_breaker(self, opened):
        probe(opened, NOW + 30)
        opened.succeed()
        assert not opened.is_open
        assert fail(opened, 4) == [0.0] * 4
        assert fail(opened, 1) == [FIRST_PAUSE_SECONDS]

    def test_each_failure_doubles_the_pause_up_to_five_minutes(self, opened):
        now, pauses = NOW + 30, []
        for _ in range(6):
            pauses.append(opened.fail(probe(opened, now), now))
            assert opened.refuses(now + pauses[-1] - 0.1)
            now += pauses[-1]
        assert pauses == [60.0, 120.0, 240.0, *[LONGEST_PAUSE_SECONDS] * 3]

    def test_what_was_asked_before_the_pause_is_not_taken_for_it(self, breaker):
        late = breaker.permit(NOW)
        fail(breaker, FAILURES_IN_A_ROW)
        probe(breaker, NOW + 30)
        assert breaker.fail(late, NOW + 31) == 0.0
        assert breaker.refuses(NOW + 31)

    def test_one_that_fails_after_somebody_had_an_answer_is_a_failure_as_any(self, opened):
        late = probe(opened, NOW + 30)
        opened.succeed()
        assert opened.fail(late, NOW + 31) == 0.0
        assert fail(opened, 4) == [0.0] * 3 + [FIRST_PAUSE_SECONDS]
