"""The contract of the shared state, over every store: all that is on record about a message."""

import pytest
from invented import ODD_NAMES, START, record

from deliverypools.adapters.state import MOST_OF_A_MESSAGE
from deliverypools.core.facts import printable
from deliverypools.core.tallies import DAY

REFUSED = {"pool": "refused", "rule": "spam"}


def test_nothing_is_on_record_at_first(state):
    assert state.records_about("4Q1") == []
    assert state.records_about("<1@example.org>") == []


def test_every_pass_by_its_message_id_newest_first(opened):
    rows = [
        record("4Q1", at=START, pass_name="first", pool="", rule=""),
        record("4Q2", at=START + 1),
        record("4Q3", at=START + 2, **REFUSED),
    ]
    for row in (rows[2], rows[0], rows[1]):
        opened().record(row, DAY)
    opened().record(record("4Q4", at=START + 3, message_id="<2@example.org>"), DAY)
    assert opened().records_about("<1@example.org>") == [rows[2], rows[1], rows[0]]


def test_a_queue_file_whether_it_went_on_or_not(state):
    rows = [record("4Q1"), record("4Q2", **REFUSED), record("4Q3", message_id="", account="", ingress="")]
    for row in rows:
        state.record(row, DAY)
    assert [state.records_about(row.queue_id) for row in rows] == [[row] for row in rows]


def test_the_same_queue_id_on_two_hosts(state):
    rows = [record(host=f"mx{number}.example.org", at=START + number) for number in range(3)]
    for row in rows:
        state.record(row, DAY)
    assert state.records_about("4Q1") == rows[::-1]


def test_a_host_that_keeps_its_rows_for_less_time_is_found_as_long(state, clock):
    state.record(record("4Q1"), DAY)
    state.record(record("4Q2"), 100)
    clock.now += 100
    assert state.records_about("4Q1") == [record("4Q1")]
    assert state.records_about("4Q2") == []


def test_forgotten_to_the_second_though_nothing_is_written(state, clock):
    state.record(record(), 100)
    state.record(record("4Q2", **REFUSED), 100)
    clock.now += 99
    assert len(state.records_about("<1@example.org>")) == 2
    assert len(state.records_about("4Q1")) == 1
    clock.now += 1
    assert state.records_about("<1@example.org>") == state.records_about("4Q1") == []


def test_what_was_refused_hides_nothing_that_was_sent(state):
    state.record(record(), DAY)
    for number in range(MOST_OF_A_MESSAGE + 5):
        state.record(record(f"4R{number}", at=START + 1 + number, **REFUSED), DAY)
    found = state.records_about("<1@example.org>")
    assert len(found) == MOST_OF_A_MESSAGE + 1
    assert found[0].queue_id == f"4R{MOST_OF_A_MESSAGE + 4}"
    assert found[-1] == record()


def test_a_row_in_the_place_of_another_message(state):
    state.record(record(), DAY)
    later = record(at=START + 1, message_id="<2@example.org>")
    state.record(later, DAY)
    assert state.records_about("<1@example.org>") == []
    assert state.records_about("<2@example.org>") == state.records_about("4Q1") == [later]


@pytest.mark.parametrize("name", [*ODD_NAMES, "line\r\nend", "half a surrogate \udcff", "4Q1/mx1.example.org"])
def test_any_name_as_rows_have_it(state, name):
    state.record(record("4Q7", message_id=printable(name)), DAY)
    state.record(record(printable(name), message_id="<2@example.org>"), DAY)
    assert {row.queue_id for row in state.records_about(name)} == {"4Q7", printable(name)}


@pytest.mark.parametrize("name", ["", "  ", "4Q1/mx1.example.org", "mx1.example.org", "%", "*", "4Q"])
def test_no_name_is_a_pattern(state, name):
    state.record(record(), DAY)
    state.record(record("4Q2", message_id=""), DAY)
    assert state.records_about(name) == []
