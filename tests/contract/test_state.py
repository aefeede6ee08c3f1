"""The shared state over a real file: what is counted, once, exactly, and what happens when the file fails."""

import contextlib
import multiprocessing
import os
import pathlib
import signal
import sqlite3
import threading
import time

import pytest
from invented import DAY, START

from deliverypools.adapters.state import RESERVATION_SECONDS, Charge, State, StateUnavailable
from deliverypools.core.facts import Answer, Finding, Ingress


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "state.db")


@pytest.fixture
def opened(path, clock):
    """Make State objects on the same file, as other processes would."""
    with contextlib.ExitStack() as stack:

        def open_state():
            state = State(path, clock)
            stack.callback(state.close)
            return state

        yield open_state


@pytest.fixture
def state(opened):
    return opened()


def charge(recipients, limit=10, account="alice"):
    return Charge(Ingress.SUBMISSION, account, recipients, limit)


class TestReserveAndCommit:
    def test_within_the_limit(self, state):
        assert state.reserve("Q1", "i1", charge(10)).answer is Answer.NO

    def test_one_more_than_the_limit(self, state):
        finding = state.reserve("Q1", "i1", charge(11))
        assert finding.answer is Answer.YES
        assert finding.evidence == "alice: 0 recipients in 24 hours and 11 more, the limit is 10"

    def test_a_message_over_the_limit_is_counted_as_a_whole(self, state):
        state.reserve("Q1", "i1", charge(8))
        assert state.reserve("Q2", "i2", charge(5)).answer is Answer.YES
        assert state.recipients_in_last_day(Ingress.SUBMISSION, "alice") == 13
        assert state.reserve("Q3", "i3", charge(1)).answer is Answer.YES

    def test_limit_of_zero_is_none_but_counts(self, state):
        assert state.reserve("Q1", "i1", charge(1_000_000, limit=0)).answer is Answer.NO
        assert state.recipients_in_last_day(Ingress.SUBMISSION, "alice") == 1_000_000

    def test_accounts_do_not_share_a_limit(self, state):
        state.reserve("Q1", "i1", charge(10))
        assert state.reserve("Q2", "i2", charge(10, account="bob")).answer is Answer.NO

    @pytest.mark.parametrize("account", ["alice/1", "a\0b", "\N{SNOWMAN}", "LIMITER", "x" * 1000])
    def test_any_account_is_its_own(self, state, account):
        state.reserve("Q1", "i1", charge(3, account=account))
        assert (
            state.recipients_in_last_day(Ingress.SUBMISSION, account),
            state.recipients_in_last_day(Ingress.SUBMISSION, "alice"),
        ) == (3, 0)

    @pytest.mark.parametrize("recipients", [10, 11])
    def test_asked_again_about_the_same_message_the_answer_is_the_same(self, state, recipients):
        first = state.reserve("Q1", "i1", charge(recipients))
        assert state.reserve("Q1", "i1", charge(recipients)) == first
        assert state.recipients_in_last_day(Ingress.SUBMISSION, "alice") == recipients

    def test_another_instance_under_the_same_queue_id_takes_its_place(self, state):
        state.reserve("Q1", "i1", charge(10))
        assert state.reserve("Q1", "i2", charge(9)).answer is Answer.NO
        assert state.recipients_in_last_day(Ingress.SUBMISSION, "alice") == 9

    def test_commit_gives_the_answer_of_the_reservation(self, state):
        finding = state.reserve("Q1", "i1", charge(11))
        assert state.commit("Q1", charge(11)) == finding
        assert state.recipients_in_last_day(Ingress.SUBMISSION, "alice") == 11

    @pytest.mark.parametrize("accepted", [0, 3, 8])
    def test_commit_counts_the_recipients_that_were_accepted(self, state, accepted):
        state.reserve("Q1", "i1", charge(5))
        state.commit("Q1", charge(accepted))
        assert state.recipients_in_last_day(Ingress.SUBMISSION, "alice") == accepted

    def test_commit_without_a_reservation_counts_now(self, state):
        assert state.commit("Q1", charge(11)).answer is Answer.YES
        assert state.recipients_in_last_day(Ingress.SUBMISSION, "alice") == 11

    def test_commit_does_not_take_the_reservation_of_another_account(self, state):
        state.reserve("Q1", "i1", charge(11))
        assert state.commit("Q1", charge(2, account="bob")).answer is Answer.NO
        assert state.recipients_in_last_day(Ingress.SUBMISSION, "bob") == 2

    def test_the_milter_sees_what_the_policy_service_reserved(self, opened):
        opened().reserve("Q1", "i1", charge(11))
        milter = opened()
        assert milter.commit("Q1", charge(11)).answer is Answer.YES
        assert milter.recipients_in_last_day(Ingress.SUBMISSION, "alice") == 11


class TestLapse:
    def test_a_reservation_stands_for_ten_minutes(self, state, clock):
        state.reserve("Q1", "i1", charge(10))
        clock.now += RESERVATION_SECONDS
        assert state.reserve("Q2", "i2", charge(1)).answer is Answer.YES

    def test_then_it_lapses(self, state, clock):
        state.reserve("Q1", "i1", charge(10))
        clock.now += RESERVATION_SECONDS + 1
        assert state.reserve("Q2", "i2", charge(10)).answer is Answer.NO
        assert state.recipients_in_last_day(Ingress.SUBMISSION, "alice") == 10

    def test_what_was_committed_does_not_lapse(self, state, clock):
        state.reserve("Q1", "i1", charge(10))
        state.commit("Q1", charge(10))
        clock.now += RESERVATION_SECONDS + 1
        assert state.reserve("Q2", "i2", charge(1)).answer is Answer.YES

    def test_what_has_lapsed_counts_for_no_other_message(self, state, clock):
        state.reserve("4Q1", "i1", charge(10))
        clock.now += RESERVATION_SECONDS + 1
        assert state.charge_once("ticket", charge(1)).answer is Answer.NO
        assert state.recipients_in_last_day(Ingress.SUBMISSION, "alice") == 1

    def test_commit_of_a_lapsed_reservation_counts_once(self, state, clock):
        state.reserve("Q1", "i1", charge(4))
        clock.now += RESERVATION_SECONDS + 1
        state.commit("Q1", charge(4))
        assert state.recipients_in_last_day(Ingress.SUBMISSION, "alice") == 4


class TestWindow:
    def test_what_was_counted_leaves_the_window_after_24_hours(self, state, clock):
        state.commit("Q1", charge(10))
        clock.now += DAY - 1
        assert state.recipients_in_last_day(Ingress.SUBMISSION, "alice") == 10
        clock.now += 1
        assert state.recipients_in_last_day(Ingress.SUBMISSION, "alice") == 0

    def test_the_window_is_exact_to_a_minute(self, state, clock):
        clock.now += 59
        state.commit("Q1", charge(10))
        clock.now += DAY - 60
        assert state.recipients_in_last_day(Ingress.SUBMISSION, "alice") == 10
        clock.now += 60
        assert state.recipients_in_last_day(Ingress.SUBMISSION, "alice") == 0

    def test_the_window_rolls(self, state, clock):
        for hour in range(24):
            clock.now = START + hour * 3600
            state.commit(f"Q{hour}", charge(1, limit=24))
        clock.now = START + 24 * 3600
        assert state.recipients_in_last_day(Ingress.SUBMISSION, "alice") == 23
        assert state.commit("Q24", charge(1, limit=24)).answer is Answer.NO
        assert state.commit("Q25", charge(1, limit=24)).answer is Answer.YES

    def test_another_limit_keeps_the_counters(self, state):
        state.commit("Q1", charge(8, limit=10))
        assert state.commit("Q2", charge(1, limit=5)).answer is Answer.YES
        assert state.commit("Q3", charge(1, limit=10)).answer is Answer.NO

    def test_old_rows_are_forgotten(self, state, clock, path):
        for minute in range(30):
            clock.now = START + minute * 60
            state.commit(f"Q{minute}", charge(1))
            state.use_ticket(f"t{minute}", "Q", 5, 60)
        clock.now += 2 * DAY
        state.commit("Q", charge(1))
        with contextlib.closing(sqlite3.connect(path)) as reader:
            assert reader.execute("SELECT COUNT(*) FROM counters").fetchone() == (1,)
            assert reader.execute("SELECT COUNT(*) FROM ticket_uses").fetchone() == (0,)


class TestChargeOnce:
    def test_a_message_is_charged_once_for_all_its_passes(self, state, clock):
        first = state.charge_once("ticket", charge(11))
        clock.now += 13 * DAY
        assert state.charge_once("ticket", charge(11)) == first
        assert state.recipients_in_last_day(Ingress.SUBMISSION, "alice") == 0

    def test_another_ticket_is_charged(self, state):
        state.charge_once("one", charge(6))
        assert state.charge_once("two", charge(6)).answer is Answer.YES
        assert state.recipients_in_last_day(Ingress.SUBMISSION, "alice") == 12


class TestUseTicket:
    def test_every_queue_file_is_one_use(self, state):
        assert [state.use_ticket("ticket", f"Q{number}", 3, 100) for number in range(5)] == [True] * 3 + [False] * 2

    def test_the_same_queue_file_again_is_no_use(self, state):
        assert [state.use_ticket("ticket", "Q1", 1, 100) for _ in range(5)] == [True] * 5

    def test_tickets_do_not_share_uses(self, state):
        assert state.use_ticket("one", "Q1", 1, 100)
        assert state.use_ticket("two", "Q2", 1, 100)


class TestSenderDomains:
    finding = Finding(Answer.YES, "example.org: has MX")

    def test_what_was_remembered_is_known(self, opened):
        opened().remember_sender_domain("example.org", self.finding, 100)
        assert opened().last_known_sender_domain("example.org") == self.finding

    def test_the_last_answer_counts(self, state):
        state.remember_sender_domain("example.org", self.finding, 100)
        state.remember_sender_domain("example.org", Finding(Answer.NO, "NXDOMAIN"), 100)
        assert state.last_known_sender_domain("example.org").answer is Answer.NO

    def test_it_is_forgotten_after_its_time(self, state, clock):
        state.remember_sender_domain("example.org", self.finding, 100)
        clock.now += 101
        assert state.last_known_sender_domain("example.org") is None

    def test_nothing_is_known_of_another_domain(self, state):
        assert state.last_known_sender_domain("example.net") is None


def reserve_and_commit(path, name, count, limit):
    """Send `count` messages to one recipient each; return how many of them were within the limit."""
    state = State(path, time.time)
    within = 0
    for number in range(count):
        queue_id = f"{name}-{number}"
        state.reserve(queue_id, "i", charge(1, limit))
        within += state.commit(queue_id, charge(1, limit)).answer is Answer.NO
    state.close()
    return within


class TestTogether:
    def test_twenty_threads_on_four_states_never_pass_the_limit(self, path):
        states = [State(path, time.time) for _ in range(4)]
        for state in states:
            state.recipients_in_last_day(Ingress.SUBMISSION, "alice")
        within = []

        def send(number):
            for message in range(10):
                finding = states[number % 4].commit(f"Q{number}-{message}", charge(1, 137))
                within.append(finding.answer is Answer.NO)

        threads = [threading.Thread(target=send, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(within), sum(within)) == (200, 137)
        assert states[0].recipients_in_last_day(Ingress.SUBMISSION, "alice") == 200
        for state in states:
            state.close()

    def test_four_processes_never_pass_the_limit(self, path):
        state = State(path, time.time)
        state.recipients_in_last_day(Ingress.SUBMISSION, "alice")
        with multiprocessing.get_context("spawn").Pool(4) as pool:
            within = pool.starmap(reserve_and_commit, [(path, f"P{number}", 60, 150) for number in range(4)])
        assert sum(within) == 150
        assert state.recipients_in_last_day(Ingress.SUBMISSION, "alice") == 240
        state.close()


def commit_for_ever(path, said):
    state = State(path, time.time)
    number = 0
    while True:
        number += 1
        state.commit(f"Q{number}", charge(1, 0))
        os.write(said, b".")


class TestFailure:
    def test_kill_9_of_a_writer_loses_nothing_that_was_committed(self, path):
        heard, said = os.pipe()
        writer = multiprocessing.get_context("fork").Process(target=commit_for_ever, args=(path, said))
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
        state = State(path, time.time)
        assert committed <= state.recipients_in_last_day(Ingress.SUBMISSION, "alice") <= committed + 1
        state.close()

    def test_a_folder_that_cannot_be_made(self, tmp_path, clock):
        (tmp_path / "file").write_bytes(b"")
        state = State(str(tmp_path / "file" / "state.db"), clock)
        with pytest.raises(StateUnavailable, match=r"state\.db: .*Not a directory|File exists"):
            state.commit("Q1", charge(1))

    def test_a_missing_folder_is_made(self, tmp_path, clock):
        state = State(str(tmp_path / "a" / "b" / "state.db"), clock)
        assert state.commit("Q1", charge(1)).answer is Answer.NO
        state.close()

    def test_a_folder_in_the_place_of_the_file_and_recovery(self, tmp_path, path, state):
        (tmp_path / "state.db").mkdir()
        with pytest.raises(StateUnavailable, match="unable to open database file"):
            state.commit("Q1", charge(1))
        (tmp_path / "state.db").rmdir()
        assert state.commit("Q1", charge(1)).answer is Answer.NO

    def test_a_file_that_was_removed_is_made_again_for_all(self, opened, path):
        first = opened()
        first.commit("4Q1", charge(1))
        for suffix in ("", "-wal", "-shm"):
            pathlib.Path(path + suffix).unlink(missing_ok=True)
        first.commit("4Q2", charge(1))
        assert opened().recipients_in_last_day(Ingress.SUBMISSION, "alice") == 1

    def test_eight_states_that_make_the_file_at_once_all_succeed(self, tmp_path):
        for attempt in range(20):
            path = str(tmp_path / f"state-{attempt}.db")
            barrier, failures = threading.Barrier(8), []

            def count_one(path=path, barrier=barrier, failures=failures):
                state = State(path, time.time)
                barrier.wait()
                try:
                    state.commit("4Q", charge(1))
                except StateUnavailable as error:
                    failures.append(error)
                state.close()

            threads = [threading.Thread(target=count_one) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert failures == []

    def test_threads_do_not_wait_for_a_locked_file_one_after_the_other(self, path, state):
        state.recipients_in_last_day(Ingress.SUBMISSION, "alice")
        blocker = sqlite3.connect(path, isolation_level=None)
        blocker.execute("BEGIN EXCLUSIVE")
        failures = []

        def count_one():
            try:
                state.commit("4Q", charge(1))
            except StateUnavailable as error:
                failures.append(error)

        threads = [threading.Thread(target=count_one) for _ in range(8)]
        before = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        blocker.close()
        assert len(failures) == 8
        assert time.monotonic() - before < 8, "one after the other would be 16 seconds"

    def test_a_file_that_is_no_database_and_recovery(self, tmp_path, state):
        (tmp_path / "state.db").write_bytes(b"this is no database, however long it may be" * 100)
        with pytest.raises(StateUnavailable, match="file is not a database"):
            state.reserve("Q1", "i1", charge(1))
        (tmp_path / "state.db").unlink()
        assert state.reserve("Q1", "i1", charge(1)).answer is Answer.NO

    def test_a_file_that_becomes_corrupt_and_recovery(self, tmp_path, opened):
        broken = opened()
        for number in range(50):
            broken.commit(f"Q{number}", charge(1, account=f"user{number}"))
        broken.close()
        (tmp_path / "state.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 8192)
        with pytest.raises(StateUnavailable):
            broken.commit("Q1", charge(1))
        for file in tmp_path.iterdir():
            file.unlink()
        assert broken.commit("Q1", charge(1)).answer is Answer.NO

    def test_the_schema_of_a_newer_version_is_refused(self, path, state):
        with contextlib.closing(sqlite3.connect(path)) as newer:
            newer.execute("PRAGMA user_version = 99")
        with pytest.raises(StateUnavailable, match=r"written by a newer version \(schema 99, ours is 1\)"):
            state.commit("Q1", charge(1))

    def test_a_locked_file_is_given_up_in_about_two_seconds_and_recovers(self, path, state):
        state.commit("Q1", charge(1))
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            before = time.monotonic()
            with pytest.raises(StateUnavailable, match="locked"):
                state.commit("Q2", charge(1))
            assert 1.5 < time.monotonic() - before < 4
            other.execute("ROLLBACK")
        state.commit("Q2", charge(1))
        assert state.recipients_in_last_day(Ingress.SUBMISSION, "alice") == 2

    def test_nothing_is_counted_by_a_call_that_failed(self, path, state):
        state.commit("Q1", charge(3))
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("CREATE TRIGGER full BEFORE INSERT ON reservations BEGIN SELECT RAISE(ABORT, 'full'); END")
            with pytest.raises(StateUnavailable, match="full"):
                state.reserve("Q2", "i2", charge(3))
            other.execute("DROP TRIGGER full")
        assert state.recipients_in_last_day(Ingress.SUBMISSION, "alice") == 3
