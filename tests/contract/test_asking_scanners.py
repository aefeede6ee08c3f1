"""The scanners of a process: who is asked, by how many at the same time, and who waits for how long."""

import mmap
import socket
import threading
import time

import pytest
from asking import (
    CLAMD,
    ENVELOPE,
    LONG,
    MESSAGE,
    RSPAMD,
    SHORT,
    SPAMD,
    ham,
    make_settings,
    numbered,
    scan,
    verdicts,
)

from deliverypools.adapters.scanning.questions import Patience, Question, unknown
from deliverypools.core.scanning.answers import Scan, Scanner, ScanVerdict
from deliverypools.core.scanning.turns import Turns
from deliverypools.lab.waiting import wait_until


@pytest.fixture
def store(sqlite_store):
    return sqlite_store


class TestAsking:
    def test_nobody_is_asked_for_nothing(self, scanners, scanner_clients):
        assert scan(scanners, ()) == Scan()
        assert not any(client.asked for client in scanner_clients.values())

    def test_every_scanner_that_is_wanted_answers_in_that_order(self, scanners, scanner_clients):
        assert scan(scanners, (CLAMD, RSPAMD)).answers == (ham(CLAMD), ham(RSPAMD))
        assert scanner_clients[CLAMD].asked == scanner_clients[RSPAMD].asked == [(MESSAGE, ENVELOPE)]
        assert scanner_clients[SPAMD].asked == []

    def test_one_that_is_wanted_twice_is_asked_once(self, scanners, scanner_clients):
        assert scan(scanners, (RSPAMD, RSPAMD)).answers == (ham(RSPAMD),)
        assert len(scanner_clients[RSPAMD].asked) == 1

    def test_one_that_the_settings_do_not_name_has_said_nothing(self, make_scanners, scanner_clients):
        scanners = make_scanners(clients={RSPAMD: scanner_clients[RSPAMD]})
        found = scan(scanners, (CLAMD, RSPAMD))
        assert verdicts(found) == {CLAMD: ScanVerdict.UNKNOWN, RSPAMD: ScanVerdict.HAM}
        assert found.of(CLAMD).problem == "the settings do not name it"

    def test_they_are_asked_at_the_same_time(self, scanners, scanner_clients, threads):
        for client in scanner_clients.values():
            client.block()
        found = threads.submit(scan, scanners, tuple(Scanner))
        for client in scanner_clients.values():
            client.has_begun()
        for client in scanner_clients.values():
            client.go_on()
        assert set(verdicts(found.result(LONG)).values()) == {ScanVerdict.HAM}

    def test_a_large_message_is_handed_over_as_it_is(self, scanners, scanner_clients, tmp_path):
        path = tmp_path / "message"
        path.write_bytes(MESSAGE * 10_000)
        with path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        assert scan(scanners, content=content).of(RSPAMD) == ham(RSPAMD)
        assert scanner_clients[RSPAMD].asked[0][0] == MESSAGE * 10_000

    def test_the_client_has_the_deadline_of_the_caller(self, scanners, scanner_clients):
        before = time.monotonic()
        scan(scanners, seconds=20)
        assert before + 20 <= scanner_clients[RSPAMD].deadlines[0] <= time.monotonic() + 20

    def test_the_clients_of_the_settings_are_asked_where_none_are_given(self, make_scanners):
        with socket.socket() as deaf:
            deaf.bind(("127.0.0.1", 0))
            rspamd = f"http://127.0.0.1:{deaf.getsockname()[1]}"
            settings = make_settings(rspamd=rspamd, spamd="unix:/nowhere/spamd", clamd="unix:/nowhere/clamd")
            found = scan(make_scanners(settings, clients=None), tuple(Scanner), seconds=10)
        assert verdicts(found) == dict.fromkeys(Scanner, ScanVerdict.UNKNOWN)
        assert not any("settings" in answer.problem for answer in found.answers)

    @pytest.mark.parametrize(("shares", "most"), [((8, 4), 2), ((7, 4), 1), ((1, 4), 1), ((3, 1), 3)])
    def test_a_process_asks_its_share_at_the_same_time(self, make_scanners, scanner_clients, threads, shares, most):
        at_once, workers = shares
        scanners = make_scanners(make_settings(at_once=at_once, workers=workers))
        scanner_clients[RSPAMD].block()
        scans = [threads.submit(scan, scanners, content=numbered(number)) for number in range(8)]
        scanner_clients[RSPAMD].has_begun(most)
        scanner_clients[RSPAMD].go_on()
        assert {one.result(LONG).of(RSPAMD).verdict for one in scans} == {ScanVerdict.HAM}
        assert scanner_clients[RSPAMD].most_inside == most


class TestTurns:
    @pytest.fixture
    def busy(self, make_scanners, scanner_clients, threads):
        """One that is asked about one message, and does not answer."""
        scanners = make_scanners(make_settings(at_once=1))
        scanner_clients[RSPAMD].block()
        threads.submit(scan, scanners)
        scanner_clients[RSPAMD].has_begun()
        return scanners

    def test_what_has_no_turn_in_time_is_never_sent(self, busy, scanner_clients):
        found = scan(busy, content=numbered(1), seconds=SHORT)
        assert found.of(RSPAMD).verdict is ScanVerdict.UNKNOWN
        assert found.of(RSPAMD).problem == "it is busy, no turn in time"
        scanner_clients[RSPAMD].go_on()
        scan(busy, content=numbered(2))
        # One after the other: it would have been asked about before.
        assert [content for content, _ in scanner_clients[RSPAMD].asked] == [MESSAGE, numbered(2)]

    def test_it_is_no_failure_of_the_scanner(self, busy, scanner_clients):
        for number in range(10):
            assert scan(busy, content=numbered(number), seconds=SHORT / 10).of(RSPAMD).verdict is ScanVerdict.UNKNOWN
        scanner_clients[RSPAMD].go_on()
        assert scan(busy, content=numbered(99)).of(RSPAMD) == ham(RSPAMD)

    def test_the_same_message_has_another_chance(self, busy, scanner_clients):
        scan(busy, content=numbered(1), seconds=SHORT)
        scanner_clients[RSPAMD].go_on()
        assert scan(busy, content=numbered(1)).of(RSPAMD) == ham(RSPAMD)

    def test_one_who_waits_longer_keeps_the_turn_of_one_who_has_gone(self, busy, scanner_clients, threads):
        hasty = threads.submit(scan, busy, content=numbered(1), seconds=2 * SHORT)
        patient = threads.submit(scan, busy, content=numbered(1), seconds=LONG)
        assert hasty.result(LONG).of(RSPAMD).verdict is ScanVerdict.UNKNOWN
        scanner_clients[RSPAMD].go_on()
        assert patient.result(LONG).of(RSPAMD) == ham(RSPAMD)
        assert [content for content, _ in scanner_clients[RSPAMD].asked] == [MESSAGE, numbered(1)]

    def test_another_scanner_does_not_wait_for_a_busy_one(self, busy):
        found = scan(busy, (RSPAMD, CLAMD), content=numbered(1), seconds=5 * SHORT)
        assert verdicts(found) == {RSPAMD: ScanVerdict.UNKNOWN, CLAMD: ScanVerdict.HAM}


class TestTurnsThatWouldComeTooLate:
    ANSWER_SECONDS = 25.0
    """Two of them are more than the half of `LONG` that may be waited for a turn."""

    @pytest.fixture
    def slow(self, make_scanners, scanner_clients, clock, monkeypatch):
        """One that takes its time, by the clock of the scanners, and has a thread of ours."""
        client = scanner_clients[RSPAMD]
        ask = client.ask

        def slowly(*question):
            answer = ask(*question)
            clock.now += self.ANSWER_SECONDS
            return answer

        monkeypatch.setattr(client, "ask", slowly)
        return make_scanners(make_settings(at_once=1))

    @pytest.fixture
    def have_turns(self, monkeypatch):
        """Wait until so many questions in all were asked, or wait for their turn."""
        taken, take = [], Turns.take
        monkeypatch.setattr(Turns, "take", lambda turns: taken.append(take(turns)))
        return lambda count: wait_until(lambda: len(taken) == count, timeout_seconds=20, what=f"{count} have turns")

    @pytest.fixture
    def busy(self, slow, scanner_clients, threads, have_turns):
        """One that is asked about a message while another waits, after an answer."""
        scan(slow)
        scanner_clients[RSPAMD].block()
        asked = threads.submit(scan, slow, content=numbered(1))
        scanner_clients[RSPAMD].has_begun(2)
        with_turn = threads.submit(scan, slow, content=numbered(2))
        have_turns(3)
        return slow, (asked, with_turn)

    def test_it_ends_at_once(self, busy, scanner_clients):
        scanners, others = busy
        assert scan(scanners, content=numbered(3)).of(RSPAMD).problem == "it is busy"
        scanner_clients[RSPAMD].go_on()
        assert [one.result(LONG).of(RSPAMD) for one in others] == [ham(RSPAMD)] * 2
        assert len(scanner_clients[RSPAMD].asked) == 3

    def test_one_who_waits_longer_has_a_turn(self, busy, scanner_clients, threads, have_turns):
        scanners, _ = busy
        patient = threads.submit(scan, scanners, content=numbered(3), seconds=3 * LONG)
        have_turns(4)
        scanner_clients[RSPAMD].go_on()
        assert patient.result(LONG).of(RSPAMD) == ham(RSPAMD)

    def test_it_is_no_failure_of_the_scanner(self, busy, scanner_clients):
        scanners, others = busy
        for number in range(3, 13):
            assert scan(scanners, content=numbered(number)).of(RSPAMD).problem == "it is busy"
        scanner_clients[RSPAMD].go_on()
        for one in others:
            one.result(LONG)
        assert scan(scanners, content=numbered(13)).of(RSPAMD) == ham(RSPAMD)

    def test_before_there_was_an_answer_all_wait(self, slow, scanner_clients, threads, have_turns):
        scanner_clients[RSPAMD].block()
        scans = [threads.submit(scan, slow, content=numbered(number)) for number in range(12)]
        have_turns(12)
        scanner_clients[RSPAMD].go_on()
        assert {one.result(LONG).of(RSPAMD).verdict for one in scans} == {ScanVerdict.HAM}


class TestHanging:
    def test_a_client_that_keeps_no_deadline_holds_nobody_up(self, scanners, scanner_clients):
        scanner_clients[RSPAMD].block()
        found = scan(scanners, (RSPAMD, CLAMD), seconds=5 * SHORT)
        assert verdicts(found) == {RSPAMD: ScanVerdict.UNKNOWN, CLAMD: ScanVerdict.HAM}
        assert found.of(RSPAMD).problem == "no answer in time"

    def test_its_late_answer_is_remembered(self, scanners, scanner_clients):
        scanner_clients[RSPAMD].block()
        scan(scanners, seconds=SHORT)
        scanner_clients[RSPAMD].go_on()
        wait_until(lambda: scan(scanners).of(RSPAMD) == ham(RSPAMD), timeout_seconds=20, what="it has answered")
        assert len(scanner_clients[RSPAMD].asked) == 1


@pytest.fixture
def joined(monkeypatch):
    """Is set as soon as somebody waits for a question of somebody else."""
    event = threading.Event()
    join = Question.join

    def noting(self, patience):
        has_joined = join(self, patience)
        if has_joined:
            event.set()
        return has_joined

    monkeypatch.setattr(Question, "join", noting)
    return event


class TestSameQuestion:
    @pytest.fixture
    def look_ups(self, state, monkeypatch):
        """What the store is asked."""
        names, look_up = [], state.known_scans
        monkeypatch.setattr(state, "known_scans", lambda keys: names.append(keys) or look_up(keys))
        return names

    @pytest.fixture
    def look_ups_of_two_at_a_time(self, state, monkeypatch):
        """Have the store answer when two have asked."""
        both, look_up = threading.Barrier(2), state.known_scans
        monkeypatch.setattr(state, "known_scans", lambda keys: both.wait(LONG) >= 0 and look_up(keys))

    def test_two_who_want_to_know_the_same_ask_once(self, scanners, scanner_clients, threads, joined):
        scanner_clients[RSPAMD].block()
        first = threads.submit(scan, scanners)
        scanner_clients[RSPAMD].has_begun()
        second = threads.submit(scan, scanners)
        assert joined.wait(20)
        scanner_clients[RSPAMD].go_on()
        assert first.result(LONG) == second.result(LONG) == Scan((ham(RSPAMD),))
        assert len(scanner_clients[RSPAMD].asked) == 1

    @pytest.mark.usefixtures("look_ups_of_two_at_a_time")
    def test_two_who_find_nothing_known_at_the_same_time_ask_once(self, scanners, scanner_clients, threads, joined):
        scanner_clients[RSPAMD].block()
        scans = [threads.submit(scan, scanners) for _ in range(2)]
        assert joined.wait(20)
        scanner_clients[RSPAMD].go_on()
        assert [one.result(LONG) for one in scans] == [Scan((ham(RSPAMD),))] * 2
        assert len(scanner_clients[RSPAMD].asked) == 1

    def test_one_who_joins_asks_no_store(self, scanners, look_ups, scanner_clients, threads, joined):
        scanner_clients[RSPAMD].block()
        first = threads.submit(scan, scanners)
        scanner_clients[RSPAMD].has_begun()
        second = threads.submit(scan, scanners)
        assert joined.wait(20)
        scanner_clients[RSPAMD].go_on()
        assert first.result(LONG) == second.result(LONG)
        assert len(look_ups) == 1

    def test_one_who_joins_has_an_own_deadline(self, scanners, scanner_clients, threads):
        scanner_clients[RSPAMD].block()
        first = threads.submit(scan, scanners)
        scanner_clients[RSPAMD].has_begun()
        assert scan(scanners, seconds=SHORT).of(RSPAMD).verdict is ScanVerdict.UNKNOWN
        scanner_clients[RSPAMD].go_on()
        assert first.result(LONG).of(RSPAMD) == ham(RSPAMD)
        assert len(scanner_clients[RSPAMD].asked) == 1


class TestQuestion:
    @pytest.fixture
    def question(self):
        return Question(RSPAMD, "name", MESSAGE, ENVELOPE, Patience.for_seconds(LONG))

    def test_it_is_taken_to_the_scanner_with_all_that_a_client_needs(self, question):
        content, deadline = question.begin()
        assert content == MESSAGE
        assert time.monotonic() < deadline <= time.monotonic() + LONG

    def test_it_is_not_where_its_turn_comes_too_late(self):
        assert Question(RSPAMD, "name", MESSAGE, ENVELOPE, Patience.for_seconds(-1)).begin() is None

    def test_one_that_nobody_waits_for_is_dropped(self, question):
        assert question.wait(Patience.for_seconds(0)).verdict is ScanVerdict.UNKNOWN
        assert not question.join(Patience.for_seconds(LONG))
        assert question.begin() is None

    def test_one_that_has_ended_is_not_begun(self, question):
        question.end(unknown(RSPAMD, "the milter stops"))
        assert question.begin() is None

    def test_one_that_ended_with_a_verdict_can_be_joined_and_no_other(self, question):
        question.end(ham(RSPAMD))
        assert question.join(Patience.for_seconds(LONG))
        other = Question(RSPAMD, "name", MESSAGE, ENVELOPE, Patience.for_seconds(LONG))
        other.end(unknown(RSPAMD, "connection refused"))
        assert not other.join(Patience.for_seconds(LONG))

    def test_its_first_answer_counts(self, question):
        question.begin()
        question.end(unknown(RSPAMD, "the milter stops"))
        question.end(ham(RSPAMD))
        assert question.wait(Patience.for_seconds(LONG)).problem == "the milter stops"


class TestClosing:
    def test_the_clients_are_closed(self, make_scanners, scanner_clients):
        make_scanners().close()
        assert all(client.is_closed for client in scanner_clients.values())

    def test_afterwards_nobody_is_asked(self, scanners, scanner_clients):
        scanners.close()
        assert scan(scanners, (RSPAMD, CLAMD)).of(RSPAMD).verdict is ScanVerdict.UNKNOWN
        assert scanner_clients[RSPAMD].asked == []

    def test_who_waits_goes_without(self, make_scanners, scanner_clients, threads):
        scanners = make_scanners(make_settings(at_once=1))
        scanner_clients[RSPAMD].block()
        begun = threads.submit(scan, scanners)
        scanner_clients[RSPAMD].has_begun()
        waiting = threads.submit(scan, scanners, content=numbered(1))
        scanners.close()
        for one in (begun, waiting):
            assert one.result(LONG).of(RSPAMD).verdict is ScanVerdict.UNKNOWN
        assert len(scanner_clients[RSPAMD].asked) == 1
