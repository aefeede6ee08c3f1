"""What becomes of a message that could not be put on record, or decided, for as long as it may wait."""

import pytest

from deliverypools.core.decisions import UNDECIDED, Decision, Refusal
from deliverypools.core.settings import built_in_defaults
from deliverypools.milter.settling import in_the_end

SETTINGS = built_in_defaults()
WAITED_LONG = SETTINGS.milter.undecided_after + 1
NOT_ON_RECORD = Decision(None, UNDECIDED, ("the state could not be written",))


@pytest.mark.parametrize(
    "decided",
    [
        Decision("high-risk", "malware", ("clamd: found",), refusal=Refusal.TO_SENDER),
        Decision("high-risk", "spam", ("rspamd: reject",), hold=True),
    ],
)
def test_what_is_not_to_leave_does_not_leave_on_record_or_not(decided):
    assert in_the_end(NOT_ON_RECORD, decided, WAITED_LONG, SETTINGS) == decided
    assert in_the_end(NOT_ON_RECORD, decided, 0.0, SETTINGS) == NOT_ON_RECORD


@pytest.mark.parametrize(
    "decided", [NOT_ON_RECORD, Decision("normal", "default", ()), Decision("relay", "forwarded", ())]
)
def test_anything_else_leaves_by_high_risk(decided):
    late = in_the_end(NOT_ON_RECORD, decided, WAITED_LONG, SETTINGS)
    assert (late.pool, late.rule, late.hold, late.refusal) == ("high-risk", UNDECIDED, False, None)
