"""A scanner that fails is left alone, and probed with one message."""

import pytest

from deliverypools.core.scanning.breaker import FAILURES_IN_A_ROW, Breaker, Permission

NOW = 1000.0


@pytest.fixture
def breaker():
    return Breaker()


def fail(breaker, times, now=NOW):
    return [breaker.fail(breaker.permission(now), now) for _ in range(times)]


@pytest.fixture
def opened(breaker):
    fail(breaker, FAILURES_IN_A_ROW)
    return breaker


def probe(breaker, now):
    """Ask for the probe; return its permission."""
    permission = breaker.permission(now)
    assert permission is Permission.PROBE
    breaker.probe()
    return permission


class TestWell:
    def test_everybody_may_ask(self, breaker):
        assert [breaker.permission(NOW) for _ in range(100)] == [Permission.ORDINARY] * 100

    def test_the_fifth_failure_in_a_row_opens_it(self, breaker):
        assert fail(breaker, 4) == [False] * 4
        assert not breaker.is_open
        assert fail(breaker, 1) == [True]
        assert breaker.is_open
        assert breaker.permission(NOW) is Permission.REFUSED

    def test_an_answer_between_failures_begins_the_count_again(self, breaker):
        fail(breaker, 4)
        breaker.succeed()
        assert fail(breaker, 4) == [False] * 4
        assert not breaker.is_open


class TestPause:
    @pytest.mark.parametrize(
        ("seconds", "permission"),
        [(0, Permission.REFUSED), (29.9, Permission.REFUSED), (30, Permission.PROBE), (86_400, Permission.PROBE)],
    )
    def test_it_lasts_for_30_seconds(self, opened, seconds, permission):
        assert opened.permission(NOW + seconds) is permission

    def test_who_does_not_ask_in_the_end_takes_no_probe(self, opened):
        assert [opened.permission(NOW + 30) for _ in range(3)] == [Permission.PROBE] * 3

    def test_failures_of_what_was_asked_before_do_not_lengthen_it(self, breaker):
        early = [breaker.permission(NOW) for _ in range(FAILURES_IN_A_ROW + 20)]
        assert [breaker.fail(one, NOW) for one in early] == [False] * 4 + [True] + [False] * 20
        assert breaker.permission(NOW + 30) is Permission.PROBE

    def test_an_answer_to_what_was_asked_before_ends_it(self, breaker):
        late = breaker.permission(NOW)
        fail(breaker, FAILURES_IN_A_ROW)
        assert late is Permission.ORDINARY
        breaker.succeed()
        assert breaker.permission(NOW) is Permission.ORDINARY


class TestProbe:
    def test_the_others_wait_until_it_is_answered(self, opened):
        probe(opened, NOW + 30)
        assert [opened.permission(NOW + 30 + wait) for wait in (0, 10, 1000)] == [Permission.LATER] * 3

    def test_success_closes_the_breaker(self, opened):
        probe(opened, NOW + 30)
        opened.succeed()
        assert not opened.is_open
        assert fail(opened, 4) == [False] * 4
        assert fail(opened, 1) == [True]

    def test_after_each_failure_the_pause_is_the_same(self, opened):
        now = NOW
        for _ in range(20):
            now += 30
            assert opened.fail(probe(opened, now), now) is True
            assert opened.permission(now + 29.9) is Permission.REFUSED

    def test_what_was_asked_before_the_pause_is_not_taken_for_it(self, breaker):
        late = breaker.permission(NOW)
        fail(breaker, FAILURES_IN_A_ROW)
        probe(breaker, NOW + 30)
        assert breaker.fail(late, NOW + 31) is False
        assert breaker.permission(NOW + 31) is Permission.LATER

    def test_one_that_fails_after_somebody_had_an_answer_is_a_failure_as_any(self, opened):
        late = probe(opened, NOW + 30)
        opened.succeed()
        assert opened.fail(late, NOW + 31) is False
        assert fail(opened, 4) == [False] * 3 + [True]
