"""The contract of the shared state, over every store: what is counted, once, whoever else calls at the same time."""

import multiprocessing
import os
import random
import signal
import threading
import time
from dataclasses import replace

import pytest
from invented import ODD_NAMES, START, held, recipients_window, reserve, tally

from deliverypools.adapters.state import RESERVATION_SECONDS, Reservation
from deliverypools.core.tallies import DAY, HOUR, MINUTE, Entry, Tally, Window


class TestReserve:
    def test_the_answer_is_what_was_held_before(self, state):
        assert reserve(state, "4Q1", tally(8)) == 0
        assert reserve(state, "4Q2", tally(5)) == 8
        assert held(state) == 13

    def test_many_are_reserved_one_after_the_other(self, state):
        reservations = [Reservation(f"4Q{number}", "i", tally(number)) for number in range(1, 5)]
        assert state.reserve(reservations) == [(0,), (1,), (3,), (6,)]
        assert held(state) == 10

    def test_none_at_all(self, state):
        assert state.reserve([]) == []

    def test_the_same_message_twice_in_one_call_counts_once(self, state):
        assert state.reserve([Reservation("4Q", "i", tally(3))] * 2) == [(0,), (0,)]
        assert held(state) == 3

    def test_accounts_are_apart(self, state):
        reserve(state, "4Q1", tally(10))
        assert reserve(state, "4Q2", tally(10, "bob")) == 0

    @pytest.mark.parametrize("account", ODD_NAMES)
    def test_any_account_is_its_own(self, state, account):
        reserve(state, "4Q1", tally(3, account))
        assert (held(state, account), held(state)) == (3, 0)

    def test_asked_again_about_the_same_message_the_answer_is_the_same(self, state):
        state.count(tally(7))
        assert reserve(state, "4Q1", tally(11)) == 7
        reserve(state, "4Q2", tally(100))
        assert reserve(state, "4Q1", tally(11)) == 7
        assert held(state) == 118

    def test_who_does_not_know_the_instance_gets_the_same_answer(self, state):
        state.count(tally(7))
        reserve(state, "4Q1", tally(11), "i1")
        assert reserve(state, "4Q1", tally(11), None) == 7
        assert held(state) == 18

    def test_another_instance_under_the_same_queue_id_takes_its_place(self, state):
        reserve(state, "4Q1", tally(10), "i1")
        assert reserve(state, "4Q1", tally(10), "i2") == 0
        assert held(state) == 10

    def test_another_tally_under_the_same_queue_id_takes_its_place(self, state):
        reserve(state, "4Q1", tally(10))
        assert reserve(state, "4Q1", tally(4)) == 0
        assert reserve(state, "4Q1", tally(2, "bob")) == 0
        assert (held(state), held(state, "bob")) == (0, 2)

    def test_every_window_is_answered_in_order(self, state, clock):
        streams = ("alice/external", "alice/internal")
        windows = (
            Window(streams[:1], HOUR, DAY),
            Window(streams[1:], HOUR, DAY),
            Window(streams, DAY, DAY),
            Window(("alice/messages",), MINUTE, MINUTE),
            Window(("nobody",), DAY, DAY),
        )
        message = Tally(
            (Entry(streams[0], 5, DAY), Entry(streams[1], 2, DAY), Entry("alice/messages", 1, MINUTE)), windows
        )
        reserve_it = [Reservation("4Q1", "i", message), Reservation("4Q2", "i", message)]
        assert state.reserve(reserve_it) == [(0, 0, 0, 0, 0), (5, 2, 7, 1, 0)]
        assert state.used(windows) == (10, 4, 14, 2, 0)
        for queue_id in ("4Q1", "4Q2"):
            state.commit(queue_id, message)
        clock.now += 2 * HOUR
        assert state.used(windows) == (0, 0, 14, 0, 0)

    def test_a_tally_without_windows_counts(self, state):
        assert state.reserve([Reservation("4Q1", "i", replace(tally(3), windows=()))]) == [()]
        assert held(state) == 3


class TestCommit:
    def test_gives_the_answer_of_the_reservation(self, state):
        state.count(tally(7))
        reserve(state, "4Q1", tally(11))
        reserve(state, "4Q2", tally(1))
        assert state.commit("4Q1", tally(11)) == (7,)
        assert held(state) == 19

    def test_a_message_that_was_committed_is_counted_again_if_it_comes_again(self, state):
        reserve(state, "4Q1", tally(3))
        state.commit("4Q1", tally(3))
        assert state.commit("4Q1", tally(3)) == (3,)
        assert held(state) == 6

    @pytest.mark.parametrize("accepted", [0, 3, 8])
    def test_counts_the_recipients_that_were_accepted(self, state, accepted):
        reserve(state, "4Q1", tally(5))
        assert state.commit("4Q1", tally(accepted)) == (0,)
        assert held(state) == accepted

    def test_without_a_reservation_counts_now(self, state):
        assert state.commit("4Q1", tally(11)) == (0,)
        assert held(state) == 11

    def test_does_not_take_the_reservation_of_another_account(self, state):
        reserve(state, "4Q1", tally(11))
        assert state.commit("4Q1", tally(2, "bob")) == (0,)
        assert (held(state), held(state, "bob")) == (0, 2)

    def test_the_milter_sees_what_the_policy_service_reserved(self, opened):
        opened().count(tally(4))
        reserve(opened(), "4Q1", tally(11))
        milter = opened()
        assert milter.commit("4Q1", tally(11)) == (4,)
        assert held(milter) == 15


class TestCancel:
    def test_gives_back_at_once(self, state):
        state.count(tally(4))
        reserve(state, "4Q1", tally(11))
        state.cancel("4Q1")
        assert held(state) == 4

    def test_what_was_committed_or_never_reserved_is_left_alone(self, state):
        reserve(state, "4Q1", tally(11))
        state.commit("4Q1", tally(11))
        state.cancel("4Q1")
        state.cancel("4Q2")
        assert held(state) == 11

    def test_a_message_may_be_reserved_again_afterwards(self, state):
        reserve(state, "4Q1", tally(11))
        state.cancel("4Q1")
        assert reserve(state, "4Q1", tally(11)) == 0
        assert held(state) == 11

    def test_gives_back_to_the_bucket_that_it_was_taken_from(self, state, clock):
        state.count(tally(1))
        clock.now += HOUR
        reserve(state, "4Q1", tally(5))
        clock.now += MINUTE
        state.cancel("4Q1")
        assert held(state) == 1
        clock.now += DAY - HOUR
        assert held(state) == 0


class TestLapse:
    def test_a_reservation_stands_for_ten_minutes(self, state, clock):
        reserve(state, "4Q1", tally(10))
        clock.now += RESERVATION_SECONDS
        assert reserve(state, "4Q2", tally(1)) == 10

    def test_then_it_lapses(self, state, clock):
        reserve(state, "4Q1", tally(10))
        clock.now += RESERVATION_SECONDS + 1
        assert held(state) == 0
        assert reserve(state, "4Q2", tally(10)) == 0
        assert held(state) == 10

    def test_what_was_committed_does_not_lapse(self, state, clock):
        reserve(state, "4Q1", tally(10))
        state.commit("4Q1", tally(10))
        clock.now += RESERVATION_SECONDS + 1
        assert reserve(state, "4Q2", tally(1)) == 10

    def test_what_has_lapsed_counts_for_no_other_message(self, state, clock):
        reserve(state, "4Q1", tally(10))
        clock.now += RESERVATION_SECONDS + 1
        assert state.count_once("ticket", tally(1)) == (0,)
        reserve(state, "4Q2", tally(10))
        clock.now += RESERVATION_SECONDS + 1
        assert state.count(tally(1)) == (1,)

    def test_commit_of_a_lapsed_reservation_counts_once(self, state, clock):
        reserve(state, "4Q1", tally(4))
        clock.now += RESERVATION_SECONDS + 1
        assert state.commit("4Q1", tally(4)) == (0,)
        assert held(state) == 4

    def test_a_lapsed_message_that_comes_again_is_reserved_anew(self, state, clock):
        reserve(state, "4Q1", tally(4))
        clock.now += RESERVATION_SECONDS + 1
        state.count(tally(1))
        assert reserve(state, "4Q1", tally(4)) == 1
        assert held(state) == 5

    def test_a_thousand_lapse_however_many_calls_that_takes(self, state, clock):
        state.reserve([Reservation(f"4Q{number}", "i", tally(1)) for number in range(1000)])
        assert held(state) == 1000
        clock.now += RESERVATION_SECONDS + 1
        for _ in range(10):
            state.count(tally(0))
        assert held(state) == 0

    def test_one_of_a_thousand_that_have_lapsed_is_never_taken_for_standing(self, state, clock):
        state.reserve([Reservation(f"4Q{number:04}", "i", tally(1)) for number in range(1000)])
        clock.now += RESERVATION_SECONDS + 1
        state.commit("4Q0999", tally(1))
        for _ in range(10):
            state.count(tally(0))
        assert held(state) == 1


class TestWindow:
    def test_what_was_counted_leaves_the_window_after_24_hours(self, state, clock):
        assert state.count(tally(10)) == (0,)
        clock.now += DAY - 1
        assert held(state) == 10
        clock.now += 1
        assert held(state) == 0

    def test_the_window_is_exact_to_a_minute(self, state, clock):
        clock.now += 59
        state.count(tally(10))
        clock.now += DAY - 60
        assert held(state) == 10
        clock.now += 60
        assert held(state) == 0

    def test_a_window_of_a_minute_is_exact_to_a_second(self, state, clock):
        window = Window(("alice/messages",), MINUTE, MINUTE)
        clock.now += 0.5
        state.count(Tally((Entry("alice/messages", 3, MINUTE),)))
        clock.now += MINUTE - 1
        assert state.used([window]) == (3,)
        clock.now += 1
        assert state.used([window]) == (0,)

    def test_the_window_rolls(self, state, clock):
        for hour in range(24):
            clock.now = START + hour * HOUR
            state.count(tally(1))
        clock.now = START + 24 * HOUR
        assert state.count(tally(1)) == (23,)
        assert state.count(tally(1)) == (24,)

    def test_windows_of_one_stream_differ_in_length(self, state, clock):
        state.count(tally(5))
        clock.now += HOUR
        state.count(tally(2))
        assert state.used([recipients_window(), recipients_window(seconds=HOUR)]) == (7, 2)

    def test_an_account_that_sends_every_minute_for_three_days(self, state, clock):
        for _ in range(3 * 1440):
            clock.now += MINUTE
            state.count(tally(1))
        assert state.used([recipients_window(), recipients_window(seconds=HOUR)]) == (1440, 60)

    def test_a_clock_that_goes_back_does_not_count_the_future(self, state, clock):
        clock.now += DAY
        state.count(tally(5))
        clock.now -= DAY
        assert held(state) == 0
        state.count(tally(1))
        assert held(state) == 1

    def test_used_counts_nothing(self, state):
        state.count(tally(5))
        assert [held(state) for _ in range(3)] == [5, 5, 5]

    def test_no_windows(self, state):
        assert state.used([]) == ()


class TestCountOnce:
    def test_a_message_is_counted_once_for_all_its_passes(self, state, clock):
        state.count(tally(2))
        assert state.count_once("ticket", tally(11)) == (2,)
        assert state.count_once("ticket", tally(11)) == (2,)
        assert held(state) == 13
        clock.now += 30 * DAY - 1
        assert state.count_once("ticket", tally(11)) == (2,)
        assert held(state) == 0

    def test_it_is_forgotten_after_30_days(self, state, clock):
        state.count_once("ticket", tally(11))
        clock.now += 30 * DAY + 1
        assert state.count_once("ticket", tally(3)) == (0,)
        assert held(state) == 3

    def test_under_other_limits_the_windows_of_now_are_told_without_the_message_itself(self, state, clock):
        state.count(tally(500))
        clock.now += 20 * HOUR
        state.count(tally(3))
        message = tally(11)
        assert state.count_once("ticket", message) == (503,)
        windows = (Window(("bob/recipients",), DAY, DAY), recipients_window(seconds=HOUR), recipients_window())
        assert state.count_once("ticket", replace(message, windows=windows)) == (0, 3, 503)
        state.count(tally(2))
        assert state.count_once("ticket", replace(message, windows=windows)) == (0, 5, 505)
        assert state.count_once("ticket", message) == (503,), "of the first one, what was held at first"
        assert held(state) == 516

    def test_under_other_limits_a_message_that_has_left_the_window_takes_nothing_from_it(self, state, clock):
        state.count_once("ticket", tally(11))
        clock.now += 2 * DAY
        other = replace(tally(11), windows=(recipients_window(seconds=HOUR), recipients_window()))
        assert state.count_once("ticket", other) == (0, 0)
        assert held(state) == 0

    def test_under_other_limits_a_window_of_several_streams(self, state):
        entries = (Entry("alice/internal", 2, DAY), Entry("alice/external", 5, DAY))
        state.count(Tally(entries))
        state.count_once("ticket", Tally(entries))
        both = Window(("alice/external", "alice/internal"), DAY, DAY)
        assert state.count_once("ticket", Tally(entries, (both, replace(both, streams=both.streams[:1])))) == (7, 5)

    def test_another_ticket_is_counted(self, state):
        state.count_once("one", tally(6))
        assert state.count_once("two", tally(6)) == (6,)
        assert held(state) == 12


@pytest.mark.parametrize("seed", range(4))
def test_all_stores_answer_alike(sqlite_store, redis_store, clock, seed):
    chance = random.Random(seed)
    states = [store.open(clock) for store in (sqlite_store, redis_store)]
    windows = [
        *(recipients_window(account, seconds) for account in ("alice", "bob") for seconds in (DAY, 7 * HOUR, HOUR)),
        Window(("alice/recipients", "bob/recipients"), DAY, DAY),
        Window(("messages",), MINUTE, MINUTE),
    ]

    def message():
        account = chance.choice(["alice", "bob"])
        entries = (Entry(f"{account}/recipients", chance.randrange(1, 50), DAY), Entry("messages", 1, MINUTE))
        return Tally(entries, tuple(chance.sample(windows, 3)))

    def anything():
        queue_ids = [f"4Q{chance.randrange(6)}" for _ in range(chance.randrange(1, 5))]
        tally = chance.choice(messages)
        if chance.random() < 0.5:
            return "reserve", [Reservation(queue_id, chance.choice(["i", "j", None]), tally) for queue_id in queue_ids]
        return chance.choice(
            [
                ("commit", queue_ids[0], tally),
                ("cancel", queue_ids[0]),
                ("count", message()),
                ("count_once", queue_ids[0], tally),
            ]
        )

    messages = [message() for _ in range(4)]
    for _ in range(600):
        name, *arguments = anything()
        answers = [getattr(state, name)(*arguments) for state in states]
        assert answers[0] == answers[1]
        assert states[0].used(windows) == states[1].used(windows)
        clock.now += chance.choice([0, 0.3, 7, 61, 400, 2000, HOUR])
    for state in states:
        state.close()


def reserve_and_commit(store, name, number_of_messages, limit):
    """Send messages to one recipient each; return how many of them were within the limit."""
    state = store.open(time.time)
    within = 0
    for number in range(number_of_messages):
        queue_id = f"{name}-{number}"
        reserve(state, queue_id, tally(1))
        within += state.commit(queue_id, tally(1))[0] + 1 <= limit
    state.close()
    return within


def claim_all(store):
    """Claim notices until there are none left; return what they say."""
    state = store.open(time.time)
    found = []
    while claimed := state.claim_notices(3, 600):
        found += [one.payload for one in claimed]
    state.close()
    return found


def commit_for_ever(store, said):
    state = store.open(time.time)
    number = 0
    while True:
        number += 1
        state.commit(f"4Q{number}", tally(1))
        os.write(said, b".")


def in_threads(number_of_threads, work):
    """Call `work` with 0, 1, 2 ... at once; return what the calls returned."""
    returned = []
    threads = [
        threading.Thread(target=lambda number=number: returned.append(work(number)))
        for number in range(number_of_threads)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return returned


class TestTogether:
    def test_twenty_threads_on_four_states_never_pass_the_limit(self, store):
        states = [store.open(time.time) for _ in range(4)]
        held(states[0])

        def send(number):
            return sum(
                states[number % 4].commit(f"4Q{number}-{message}", tally(1))[0] + 1 <= 137 for message in range(10)
            )

        assert sum(in_threads(20, send)) == 137
        assert held(states[0]) == 200
        for state in states:
            state.close()

    def test_four_processes_never_pass_the_limit(self, store):
        state = store.open(time.time)
        held(state)
        with multiprocessing.get_context("spawn").Pool(4) as pool:
            within = pool.starmap(reserve_and_commit, [(store, f"P{number}", 60, 150) for number in range(4)])
        assert sum(within) == 150
        assert held(state) == 240
        state.close()

    def test_of_four_processes_each_notice_goes_to_one(self, store):
        state = store.open(time.time)
        state.post("one", DAY, [("mail", str(number)) for number in range(100)])
        with multiprocessing.get_context("spawn").Pool(4) as pool:
            found = pool.map(claim_all, [store] * 4)
        assert sorted(int(payload) for one in found for payload in one) == list(range(100))
        state.close()

    def test_of_eight_that_post_the_same_one_does(self, opened):
        states = [opened() for _ in range(8)]
        assert sum(in_threads(8, lambda number: states[number].post("one", DAY, [("mail", "text")]))) == 1
        assert len(states[0].claim_notices(10, 60)) == 1

    def test_of_eight_that_count_the_same_one_does(self, opened):
        states = [opened() for _ in range(8)]
        assert in_threads(8, lambda number: states[number].count_once("ticket", tally(3))) == [(0,)] * 8
        assert held(states[0]) == 3

    def test_kill_9_of_a_writer_loses_nothing_that_was_committed(self, store):
        heard, said = os.pipe()
        writer = multiprocessing.get_context("fork").Process(target=commit_for_ever, args=(store, said))
        writer.start()
        os.close(said)
        committed = len(os.read(heard, 1))
        while committed < 200:
            committed += len(os.read(heard, 65536))
        os.kill(writer.pid, signal.SIGKILL)
        while rest := os.read(heard, 65536):
            committed += len(rest)
        writer.join()
        os.close(heard)
        state = store.open(time.time)
        assert committed <= held(state) <= committed + 1
        state.close()

    def test_it_works_again_after_close(self, state):
        state.count(tally(3))
        state.close()
        assert held(state) == 3
