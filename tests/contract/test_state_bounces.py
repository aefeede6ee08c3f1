"""The contract of the shared state, over every store: what was sent, since when that is known, drop ledger, surges."""

import random
import threading

import pytest
from invented import ODD_NAMES, START, dropped_notice, ndr_event, record

from deliverypools.adapters import log_times
from deliverypools.adapters import state as state_module
from deliverypools.adapters.state import MOST_CLUES, MOST_OF_A_MESSAGE
from deliverypools.core.facts import printable
from deliverypools.core.surges.events import Category, Way
from deliverypools.core.tallies import DAY, HOUR, MINUTE

MX1 = "mx1.example.org"
LONG_ID = "<" + "x" * 100_000 + "@example.org>"
FIRST_OUTSIDE = {"pass_name": "first", "ingress": "outside", "account": "", "pool": ""}
FIRST_OURS = {"pass_name": "first", "ingress": "submission", "pool": ""}


def newest(state, message_ids, queue_files):
    return next(iter(state.sent(message_ids, queue_files)), None)


class TestSent:
    def test_all_rows_of_a_message_newest_first(self, state):
        rows = [
            record(f"4Q{number}", at=START + number, envelope_sender=f"s{number}@example.org") for number in (1, 2, 3)
        ]
        for row in (rows[1], rows[0], rows[2]):
            state.record(row, DAY)
        assert state.sent(["<1@example.org>"], [(MX1, "4Q1")]) == [rows[2], rows[1], rows[0]]

    def test_of_a_message_that_was_sent_on_very_often_the_newest_rows(self, state):
        rows = [record(f"4Q{number}", at=START + number) for number in range(MOST_OF_A_MESSAGE + 5)]
        for row in rows:
            state.record(row, DAY)
        assert state.sent(["<1@example.org>"], []) == rows[:4:-1]

    def test_by_its_message_id(self, opened):
        opened().record(record(), DAY)
        assert newest(opened(), ["<2@example.org>", "<1@example.org>"], []) == record()
        assert newest(opened(), {"<2@example.org>"}, []) is None

    def test_by_its_queue_file(self, opened):
        opened().record(record(), DAY)
        assert newest(opened(), [], [("mx2.example.org", "4Q1"), (MX1, "4Q1")]) == record()
        assert newest(opened(), [], [("mx2.example.org", "4Q1"), (MX1, "4Q2")]) is None

    def test_nothing_to_go_by(self, state):
        state.record(record(message_id="", queue_id=""), DAY)
        assert newest(state, [], []) is None
        assert newest(state, ["", "  "], []) is None

    def test_the_newest_row_counts(self, state):
        rows = [
            record("4Q1", at=START + 10, message_id="<1@example.org>"),
            record("4Q2", at=START + 20, message_id="<1@example.org>"),
            record("4Q3", at=START + 15, message_id="<2@example.org>"),
        ]
        for row in rows:
            state.record(row, DAY)
        assert newest(state, ["<1@example.org>"], []) == rows[1]
        assert newest(state, ["<1@example.org>", "<2@example.org>"], [(MX1, "4Q1")]) == rows[1]
        assert newest(state, ["<2@example.org>"], [(MX1, "4Q1")]) == rows[2]

    @pytest.mark.parametrize(
        ("others", "went_on"),
        [
            (FIRST_OURS, True),
            (FIRST_OURS | {"ingress": "trusted"}, True),
            (FIRST_OURS | {"ingress": "local"}, True),
            (FIRST_OUTSIDE, False),
            (FIRST_OUTSIDE | {"ingress": ""}, False),
            ({"ingress": "outside", "account": ""}, True),
            ({"ingress": "", "account": ""}, True),
            ({"pass_name": "express"}, True),
            ({"pool": "refused"}, False),
            ({"pool": "", "rule": "undecided"}, False),
        ],
        ids=[
            *("submitted", "trusted", "local", "came in", "came in unknown", "forwarded", "without ticket"),
            *("express", "refused", "undecided"),
        ],
    )
    def test_only_what_went_on(self, state, others, went_on):
        row = record(**others)
        state.record(row, DAY)
        assert row.went_on is went_on
        assert newest(state, [row.message_id], []) == (row if went_on else None)
        assert newest(state, [], [(row.host, row.queue_id)]) == (row if went_on else None)

    def test_what_comes_in_hides_nothing_that_was_sent(self, state):
        state.record(record(), DAY)
        for number in range(50):
            state.record(record(f"4R{number}", at=START + number, **FIRST_OUTSIDE), DAY)
        assert newest(state, ["<1@example.org>"], []) == record()

    def test_a_row_in_the_place_of_another_message(self, state):
        state.record(record(), DAY)
        later = record(at=START + 1, message_id="<2@example.org>")
        state.record(later, DAY)
        assert newest(state, ["<1@example.org>"], []) is None
        assert newest(state, ["<2@example.org>"], []) == later

    @pytest.mark.parametrize("message_id", [*ODD_NAMES, LONG_ID, "line\r\nend", "half a surrogate \udcff"])
    def test_any_message_id_as_rows_have_it(self, state, message_id):
        row = record(message_id=printable(message_id))
        state.record(row, DAY)
        assert newest(state, [message_id], []) == row
        assert newest(state, ["other", message_id[:-1] if len(message_id) < 200 else "x"], []) is None

    @pytest.mark.parametrize("name", [*ODD_NAMES, LONG_ID, "\udcff", "", "4Q1/mx1"])
    def test_any_queue_file_can_be_asked_for(self, state, name):
        state.record(record(), DAY)
        assert newest(state, [], [(name, "4Q1"), (MX1, name), (name, name)]) is None

    def test_a_hundred_of_each_are_looked_up(self, state):
        state.record(record(), DAY)
        others = [f"<other{number}@example.org>" for number in range(MOST_CLUES)]
        assert newest(state, [*others[1:], "<1@example.org>"], []) == record()
        assert newest(state, [*others, "<1@example.org>"], []) is None
        files = [(MX1, f"4R{number}") for number in range(MOST_CLUES)]
        assert newest(state, [], [*files[1:], (MX1, "4Q1")]) == record()
        assert newest(state, [], [*files, (MX1, "4Q1")]) is None

    def test_forgotten_to_the_second_though_nothing_is_written(self, state, clock):
        state.record(record(), 100)
        clock.now += 99
        assert newest(state, ["<1@example.org>"], []) == newest(state, [], [(MX1, "4Q1")]) == record()
        clock.now += 1
        assert newest(state, ["<1@example.org>"], []) is None
        assert newest(state, [], [(MX1, "4Q1")]) is None


class TestRecordedSince:
    def test_an_empty_log_tells_of_nothing(self, state):
        assert state.recorded_since() is None

    def test_it_begins_with_the_first_row(self, opened, clock):
        opened().record(record(at=clock.now), DAY)
        for number in range(20):
            clock.now += HOUR
            opened().record(record(f"4Q{number}", at=clock.now), DAY)
            assert opened().recorded_since() == START

    def test_it_moves_on_as_rows_expire(self, state, clock):
        for number in range(30):
            clock.now = START + number * HOUR
            state.record(record(f"4Q{number}", at=clock.now), DAY)
        assert state.recorded_since() == clock.now - DAY
        clock.now += 30
        assert state.recorded_since() == clock.now - DAY

    def test_when_nothing_was_sent_for_long_nothing_is_missing_since_the_last_row(self, state, clock):
        state.record(record(at=clock.now), DAY)
        clock.now += 3 * DAY
        assert START <= (state.recorded_since() or START) <= START + MINUTE

    def test_a_lifetime_that_was_shorter_for_a_while(self, state, clock):
        """Rows of that time are gone, though older and younger ones are there."""
        state.record(record("4Q1", at=clock.now), 30 * DAY)
        clock.now += DAY
        state.record(record("4Q2", at=clock.now), DAY)
        clock.now += DAY
        state.record(record("4Q3", at=clock.now), 30 * DAY)
        clock.now += DAY
        kept = [name for name in ("4Q1", "4Q2", "4Q3") if state.record_of(MX1, name)]
        assert kept == ["4Q1", "4Q3"]
        assert START + DAY < state.recorded_since() <= START + DAY + MINUTE

    def test_hosts_that_keep_rows_for_different_times(self, opened, clock):
        one, other = opened(), opened()
        for number in range(50):
            clock.now = START + number * HOUR
            one.record(record(f"4Q{number}", at=clock.now), DAY)
            other.record(record(f"4Q{number}", at=clock.now, host="mx2.example.org"), 2 * HOUR)
        assert one.recorded_since() == other.recorded_since() == clock.now - 2 * HOUR

    def test_a_clock_that_was_wrong_claims_nothing(self, state, clock):
        state.record(record(at=clock.now), 30 * DAY)
        clock.now -= DAY
        state.record(record("4Q2", at=clock.now), 30 * DAY)
        assert state.recorded_since() == clock.now

    @pytest.mark.parametrize("seed", range(20))
    def test_no_row_since_then_is_missing_whatever_is_written(self, state, clock, seed):
        chance = random.Random(seed)
        written = []
        lifetimes = [chance.choice([HOUR, DAY, 3 * DAY]) + chance.randrange(log_times.MOST * 2) for _ in range(60)]
        for number, keep_seconds in enumerate(lifetimes):
            clock.now += chance.choice([1, MINUTE, HOUR, 5 * HOUR])
            state.record(record(f"4Q{number}", at=clock.now), keep_seconds)
            written.append((clock.now, clock.now + keep_seconds))
            since = state.recorded_since()
            lost = [at for at, expires_at in written if expires_at <= clock.now]
            assert since >= max(lost, default=START)
            assert since <= clock.now


@pytest.mark.parametrize("seed", range(5))
def test_all_stores_tell_the_same_of_the_log(sqlite_store, redis_store, clock, seed):
    chance = random.Random(seed)
    states = [sqlite_store.open(clock), redis_store.open(clock)]
    for number in range(300):
        clock.now += chance.choice([1, MINUTE, HOUR])
        row = record(
            f"4Q{chance.randrange(50)}",
            at=clock.now,
            message_id=f"<{chance.randrange(20)}@example.org>",
            **chance.choice([{}, FIRST_OURS, FIRST_OUTSIDE, {"pool": "refused"}]),
        )
        keep_seconds = DAY + number % 30 if chance.random() < 0.5 else DAY
        for state in states:
            state.record(row, keep_seconds)
        files = [(MX1, f"4Q{chance.randrange(50)}")]
        assert states[0].recorded_since() == states[1].recorded_since()
        assert states[0].sent([], files) == states[1].sent([], files)
    for state in states:
        state.close()


class TestDropLedger:
    def test_what_was_dropped_is_found_again(self, opened):
        opened().drop(dropped_notice(), DAY, 100)
        assert opened().dropped() == [dropped_notice()]
        assert opened().count_dropped() == 1

    def test_nothing_was_dropped(self, state):
        assert state.dropped() == []
        assert state.count_dropped() == 0

    def test_newest_first_of_a_time_and_not_too_many(self, state):
        entries = [dropped_notice(f"4Q{number}", at=START + number) for number in range(10)]
        for entry in entries:
            state.drop(entry, DAY, 100)
        assert state.dropped() == entries[::-1]
        assert state.dropped(since=START + 3, until=START + 6) == entries[5:2:-1]
        assert state.count_dropped(since=START + 3, until=START + 6) == 3
        assert state.dropped(most=2) == entries[:7:-1]
        assert state.dropped(most=0) == []
        assert state.dropped(since=START + 10) == state.dropped(until=START) == []

    def test_the_same_notice_again_is_one_entry(self, state):
        for number in range(5):
            state.drop(dropped_notice("4Q2", at=START + number), DAY, 3)
            state.drop(dropped_notice("4Q1", at=START + 10 + number, reason=f"try {number}"), DAY, 3)
        state.drop(dropped_notice(host="mx2.example.org"), DAY, 3)
        assert state.count_dropped() == 3
        assert state.dropped()[0] == dropped_notice("4Q1", at=START + 14, reason="try 4")

    def test_the_oldest_beyond_what_is_kept_go(self, state):
        for number in range(30):
            state.drop(dropped_notice(f"4Q{number}", at=START + number), DAY, 10)
        assert [entry.queue_id for entry in state.dropped()] == [f"4Q{number}" for number in range(29, 19, -1)]
        assert state.count_dropped() == 10

    def test_fewer_are_kept_than_before(self, state):
        for number in range(450):
            state.drop(dropped_notice(f"4Q{number}", at=START + number), DAY, 1000)
        for number in range(450, 453):
            state.drop(dropped_notice(f"4Q{number}", at=START + number), DAY, 10)
        assert [entry.queue_id for entry in state.dropped()] == [f"4Q{number}" for number in range(452, 442, -1)]

    def test_more_than_a_thousand(self, state):
        for number in range(1234):
            state.drop(dropped_notice(f"4Q{number}", at=START + number % 100), DAY, 10_000)
        found = state.dropped(most=10_000)
        assert len({entry.queue_id for entry in found}) == len(found) == state.count_dropped() == 1234
        assert [entry.at for entry in found] == sorted((entry.at for entry in found), reverse=True)
        assert len(state.dropped()) == 1000

    def test_forgotten_to_the_second_though_nothing_is_written(self, state, clock):
        for number in range(450):
            state.drop(dropped_notice(f"4Q{number}"), 100, 1000)
        state.drop(dropped_notice("4R"), 200, 1000)
        clock.now += 99
        assert state.count_dropped() == len(state.dropped()) == 451
        clock.now += 1
        assert state.dropped() == [dropped_notice("4R")]
        assert state.count_dropped() == 1

    def test_written_again_it_is_kept_anew(self, state, clock):
        state.drop(dropped_notice(), 100, 10)
        clock.now += 50
        state.drop(dropped_notice(), 100, 10)
        clock.now += 99
        assert state.count_dropped() == 1

    @pytest.mark.parametrize("text", [*ODD_NAMES, "line\nend", ""])
    def test_any_text(self, state, text):
        entry = dropped_notice(text, host=text, sender=text, subject=text, first_lines=text, reason=text)
        state.drop(entry, DAY, 10)
        assert state.dropped() == [entry]


class TestNdrs:
    def test_what_was_noted_is_found_again(self, opened):
        opened().note_ndr(ndr_event())
        assert opened().ndrs(since=START, most=10) == [ndr_event()]

    def test_with_what_the_server_said(self, state):
        event = ndr_event(reply="550 5.1.1 no such user")
        state.note_ndr(event)
        assert state.ndrs(since=0.0, most=1) == [event]

    def test_nothing_was_noted(self, state):
        assert state.ndrs(since=0.0, most=10) == []

    @pytest.mark.parametrize("way", Way)
    @pytest.mark.parametrize("category", Category)
    def test_every_sort_of_event(self, state, way, category):
        event = ndr_event(way=way, category=category)
        state.note_ndr(event)
        (found,) = state.ndrs(since=0.0, most=1)
        assert found == event
        assert isinstance(found.way, Way)
        assert isinstance(found.category, Category)

    def test_an_event_is_noted_once(self, state):
        state.note_ndr(ndr_event())
        state.note_ndr(ndr_event(at=START + 5, amount=7))
        assert state.ndrs(since=0.0, most=10) == [ndr_event()]

    def test_newest_first_since_a_time_and_not_too_many(self, state):
        events = [ndr_event(f"mx/{number}", at=START + number) for number in range(10)]
        for event in events:
            state.note_ndr(event)
        assert state.ndrs(since=0.0, most=100) == events[::-1]
        assert state.ndrs(since=START + 7, most=100) == events[:6:-1]
        assert state.ndrs(since=START, most=3) == events[:6:-1]
        assert state.ndrs(since=START, most=0) == []

    def test_more_than_two_thousand(self, state):
        for number in range(2345):
            state.note_ndr(ndr_event(f"mx/{number}", at=START + number % 100))
        found = state.ndrs(since=START, most=10_000)
        assert len({event.event_id for event in found}) == len(found) == 2345
        assert [event.at for event in found] == sorted((event.at for event in found), reverse=True)
        assert len(state.ndrs(since=START, most=2100)) == 2100

    def test_they_are_kept_for_a_day(self, state, clock):
        state.note_ndr(ndr_event("mx/1"))
        clock.now += DAY - 1
        state.note_ndr(ndr_event("mx/2", at=clock.now))
        assert [event.event_id for event in state.ndrs(since=0.0, most=10)] == ["mx/2", "mx/1"]
        clock.now += 1
        assert [event.event_id for event in state.ndrs(since=0.0, most=10)] == ["mx/2"]

    def test_after_a_day_the_same_may_happen_again(self, state, clock):
        state.note_ndr(ndr_event("mx/1"))
        clock.now += DAY
        state.note_ndr(ndr_event("mx/2", at=clock.now))
        again = ndr_event("mx/1", at=clock.now)
        state.note_ndr(again)
        assert again in state.ndrs(since=0.0, most=10)

    def test_the_newest_are_kept(self, state, monkeypatch):
        for store in ("sqlite_ndrs", "redis_ndrs"):
            monkeypatch.setattr(f"deliverypools.adapters.{store}.MOST_NDRS", 50)
        for number in range(120):
            state.note_ndr(ndr_event(f"mx/{number}", at=START + number))
        assert [event.event_id for event in state.ndrs(since=0.0, most=1000)] == [
            f"mx/{number}" for number in range(119, 69, -1)
        ]
        assert state_module.MOST_NDRS == 100_000

    def test_threads_of_several_states_note_all_of_them_once(self, opened):
        states = [opened() for _ in range(4)]
        numbers = range(200)

        def note(state):
            for number in numbers:
                state.note_ndr(ndr_event(f"mx/{number}"))

        threads = [threading.Thread(target=note, args=(state,)) for state in states for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = states[0].ndrs(since=0.0, most=10_000)
        assert sorted(event.event_id for event in found) == sorted(f"mx/{number}" for number in numbers)

    @pytest.mark.parametrize("text", [*ODD_NAMES, ""])
    def test_any_text(self, state, text):
        event = ndr_event(
            text, domain=text, address=text, account=text, client=text, remote=text, original=text, reply=text
        )
        state.note_ndr(event)
        assert state.ndrs(since=0.0, most=10) == [event]
