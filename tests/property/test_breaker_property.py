"""The breaker under any order of questions, answers and failures."""

from hypothesis import given
from hypothesis import strategies as st

from deliverypools.core.scanning.breaker import PAUSE_SECONDS, Breaker, Permission

EVENTS = st.lists(
    st.one_of(
        st.just(("ask", 0)),
        st.tuples(st.sampled_from(["succeed", "fail"]), st.integers(0, 20)),
        st.tuples(st.just("wait"), st.floats(0, 700)),
    ),
    max_size=200,
)


def run(events):
    """Do as the events say; return the breaker, the time, and the permissions of questions that are still open."""
    breaker, now, open_questions = Breaker(), 0.0, []
    for event, value in events:
        if event == "wait":
            now += value
        elif event == "ask":
            permission = breaker.permission(now)
            if permission is Permission.PROBE:
                breaker.probe()
            if permission in (Permission.ORDINARY, Permission.PROBE):
                open_questions.append(permission)
        elif open_questions:
            permission = open_questions.pop(value % len(open_questions))
            if event == "succeed":
                breaker.succeed()
                assert not breaker.is_open
            else:
                assert not breaker.fail(permission, now) or breaker.permission(now) is Permission.REFUSED
    return breaker, now, open_questions


@given(EVENTS)
def test_it_never_stays_closed_to_a_scanner_that_is_back(events):
    breaker, now, open_questions = run(events)
    for permission in open_questions:
        breaker.fail(permission, now)
    assert breaker.permission(now + PAUSE_SECONDS) in (Permission.ORDINARY, Permission.PROBE)
    breaker.succeed()
    assert breaker.permission(now) is Permission.ORDINARY


@given(EVENTS)
def test_while_it_is_open_one_at_most_may_ask(events):
    breaker, now, _ = run(events)
    if breaker.is_open:
        permissions = []
        for wait in (0, 0, PAUSE_SECONDS, 10 * PAUSE_SECONDS):
            permissions.append(breaker.permission(now + wait))
            if permissions[-1] is Permission.PROBE:
                breaker.probe()
        assert permissions.count(Permission.PROBE) <= 1
        assert Permission.ORDINARY not in permissions
