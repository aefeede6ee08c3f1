"""The contract of the shared state, over every store: all decisions, their evidence, and why messages wait."""

import pytest
from invented import ODD_NAMES, START, record

from deliverypools.adapters.exported_decisions import decisions_in, line_of, read_lines
from deliverypools.core.tallies import DAY


def by_id(rows):
    return {(row.host, row.queue_id): row for row in rows}


def test_there_are_no_decisions_at_first(state):
    assert list(state.decisions()) == []


def test_all_decisions_with_their_evidence(opened):
    rows = [
        record("4Q1", details='{"v":1,"to":[0,1]}', leaves_by="normal"),
        record("4Q1", host="mx2.example.org", account=""),
        record("4Q2", pool="", pass_name="first", at=START + 5),
    ]
    for row in rows:
        opened().record(row, DAY)
    assert by_id(opened().decisions()) == by_id(rows)


def test_more_than_a_page_of_them(state):
    rows = [record(f"4Q{number}", account="") for number in range(2100)]
    for row in rows:
        state.record(row, DAY)
    assert by_id(state.decisions()) == by_id(rows)


def test_decisions_since_a_time_and_not_what_has_expired(state, clock):
    state.record(record("4Q1", at=START - 10), 100)
    state.record(record("4Q2", at=START + 10), DAY)
    assert [row.queue_id for row in state.decisions(since=START)] == ["4Q2"]
    clock.now += 101
    assert [row.queue_id for row in state.decisions()] == ["4Q2"]


def test_a_decision_that_was_made_again_is_one_row(state):
    state.record(record("4Q1", pool="normal"), DAY)
    state.record(record("4Q1", pool="high-risk"), DAY)
    assert [row.pool for row in state.decisions()] == ["high-risk"]


class TestWaiting:
    def test_nothing_waits_at_first(self, state):
        assert state.waiting("4Q1") is None
        assert state.waiting("") is None

    def test_it_is_known_by_each_of_its_names_to_all(self, opened):
        row = record("4Q2", pool="", rule="undecided", details='{"v":1}')
        opened().note_waiting(row, ["4Q1", "<1@example.org>"], DAY)
        assert opened().waiting("4Q1") == opened().waiting("<1@example.org>") == row
        assert opened().waiting("4Q2") is None

    def test_the_newest_try_counts(self, state):
        state.note_waiting(record("4Q2", reasons="DNS"), ["4Q1"], DAY)
        state.note_waiting(record("4Q3", reasons="a scanner"), ["4Q1"], DAY)
        assert state.waiting("4Q1").reasons == "a scanner"

    def test_it_is_forgotten_after_its_time(self, state, clock):
        state.note_waiting(record(), ["4Q1"], 100)
        clock.now += 99
        assert state.waiting("4Q1") == record()
        clock.now += 1
        assert state.waiting("4Q1") is None

    def test_it_is_no_decision(self, state):
        state.note_waiting(record(pool=""), ["4Q1"], DAY)
        assert list(state.decisions()) == []
        assert state.records_about("4Q1") == []
        assert state.recorded_since() is None

    @pytest.mark.parametrize("name", ODD_NAMES)
    def test_any_name(self, state, name):
        state.note_waiting(record(message_id="x"), [name, ""], DAY)
        assert state.waiting(name) == record(message_id="x")


def test_what_is_exported_is_read_again_with_the_evidence_of_the_first_pass(state):
    first = record("4Q1", pass_name="first", pool="", details='{"v":1,"to":[1,2]}')
    egress = record("4Q2", details='{"v":1,"first":"4Q1","to":[0,2]}', subject="\N{SNOWMAN}")
    for row in (first, egress):
        state.record(row, DAY)
    exported = list(decisions_in(state, 0.0))
    assert {one.record.queue_id: one.first_details for one in exported} == {"4Q1": "", "4Q2": first.details}
    assert list(read_lines(map(line_of, exported))) == exported


@pytest.mark.parametrize("line", ["", "{", "[]", "{}", '{"queue_id": 1}', "null", "[" * 100_000, '"x"'])
def test_what_was_not_exported_is_told_apart(line):
    assert list(read_lines([line])) == [None]
