"""Scanners that fail: they are left alone for a while, and administrators are told."""

import pytest
from asking import (
    CLAMD,
    LONG,
    MESSAGE,
    RSPAMD,
    SHORT,
    ham,
    make_settings,
    numbered,
    scan,
    verdicts,
)
from invented import START

from deliverypools.adapters.scanning.unavailable import ScannerUnavailable
from deliverypools.adapters.sqlite_state import SQLiteState
from deliverypools.core.scanning import breaker
from deliverypools.core.scanning.answers import ScannerAnswer, ScanVerdict
from deliverypools.core.scanning.breaker import Breaker, Permission
from deliverypools.core.tallies import DAY
from deliverypools.core.told import from_payload
from deliverypools.lab.waiting import wait_until


@pytest.fixture
def store(sqlite_store):
    return sqlite_store


LARGE = MESSAGE + b"x" * 256 * 1024


class TestFailing:
    @pytest.fixture
    def failing(self, scanners, scanner_clients):
        scanner_clients[RSPAMD].answer = ScannerUnavailable("connection refused\r\nx")
        return scanners

    def fail(self, scanners, times=1):
        return [scan(scanners, content=numbered(number)).of(RSPAMD) for number in range(times)]

    def test_what_went_wrong_is_in_the_answer_in_one_line(self, failing):
        assert self.fail(failing)[0].problem == "connection refused??x"

    def test_after_five_failures_it_is_left_alone(self, failing, scanner_clients, caplog):
        answers = self.fail(failing, 12)
        assert {answer.verdict for answer in answers} == {ScanVerdict.UNKNOWN}
        assert answers[-1].problem == "left alone after failures: connection refused??x"
        assert len(scanner_clients[RSPAMD].asked) == 5
        assert caplog.text.count("is left alone") == 1
        assert "rspamd is left alone for 30 s: connection refused??x" in caplog.text

    def test_others_are_still_asked(self, failing):
        self.fail(failing, 5)
        assert verdicts(scan(failing, (RSPAMD, CLAMD))) == {RSPAMD: ScanVerdict.UNKNOWN, CLAMD: ScanVerdict.HAM}

    def test_what_it_said_before_still_counts(self, scanners, scanner_clients):
        scan(scanners)
        scanner_clients[RSPAMD].answer = ScannerUnavailable("connection refused")
        self.fail(scanners, 6)
        assert scan(scanners).of(RSPAMD) == ham(RSPAMD)

    def test_after_30_seconds_one_message_is_the_probe(self, make_scanners, scanner_clients, clock, threads):
        # One thread: it would have been asked about the others before the last.
        failing = make_scanners(make_settings(at_once=1))
        scanner_clients[RSPAMD].answer = ScannerUnavailable("connection refused")
        self.fail(failing, 5)
        clock.now += 30
        scanner_clients[RSPAMD].block()
        probe = threads.submit(scan, failing, content=b"probe")
        scanner_clients[RSPAMD].has_begun(6)
        for number in range(3):
            found = scan(failing, content=numbered(number), seconds=SHORT).of(RSPAMD)
            assert found.verdict is ScanVerdict.UNKNOWN
        scanner_clients[RSPAMD].answer = ham(RSPAMD)
        scanner_clients[RSPAMD].go_on()
        assert probe.result(LONG).of(RSPAMD) == ham(RSPAMD)
        assert scan(failing, content=b"last").of(RSPAMD) == ham(RSPAMD)
        assert [content for content, _ in scanner_clients[RSPAMD].asked[5:]] == [b"probe", b"last"]

    @pytest.fixture
    def probed(self, failing, scanner_clients, clock, threads, wait_for_probe):
        """One that is probed, and the scans of messages that wait for the outcome."""
        self.fail(failing, 5)
        clock.now += 30
        scanner_clients[RSPAMD].block()
        scans = [threads.submit(scan, failing, content=numbered(number)) for number in range(12)]
        scanner_clients[RSPAMD].has_begun(6)
        wait_until(lambda: len(wait_for_probe) == 11, timeout_seconds=20, what="the others wait")
        assert len(scanner_clients[RSPAMD].asked) == 6
        return scans

    @pytest.fixture
    def wait_for_probe(self, monkeypatch):
        """What was told to wait."""
        told, permission = [], Breaker.permission

        def noting(self, now):
            found = permission(self, now)
            if found is Permission.LATER:
                told.append(found)
            return found

        monkeypatch.setattr(Breaker, "permission", noting)
        return told

    def test_when_the_probe_is_answered_all_that_wait_are_asked(self, probed, scanner_clients):
        scanner_clients[RSPAMD].answer = ham(RSPAMD)
        scanner_clients[RSPAMD].go_on()
        assert [one.result(LONG).of(RSPAMD) for one in probed] == [ham(RSPAMD)] * 12

    def test_when_the_probe_fails_all_that_wait_do_without(self, probed, scanner_clients):
        scanner_clients[RSPAMD].go_on()
        problems = [one.result(LONG).of(RSPAMD).problem for one in probed]
        assert sorted(problems) == ["connection refused??x"] + 11 * ["left alone after failures: connection refused??x"]
        assert len(scanner_clients[RSPAMD].asked) == 6

    def test_a_message_that_nobody_waits_for_is_no_probe(self, make_scanners, scanner_clients, threads, monkeypatch):
        scanners = make_scanners(make_settings(at_once=1))
        scanner_clients[RSPAMD].answer = ScannerUnavailable("connection refused")
        self.fail(scanners, 4)
        scanner_clients[RSPAMD].block()
        fifth = threads.submit(scan, scanners, content=b"fifth")
        scanner_clients[RSPAMD].has_begun(5)
        # It waits behind the fifth, and then no more; when it has its turn, the pause is over.
        scan(scanners, content=b"hasty", seconds=SHORT)
        monkeypatch.setattr(breaker, "PAUSE_SECONDS", 0.0)
        scanner_clients[RSPAMD].go_on()
        fifth.result(LONG)
        scanner_clients[RSPAMD].answer = ham(RSPAMD)
        assert scan(scanners, content=b"patient").of(RSPAMD) == ham(RSPAMD)
        assert b"hasty" not in [content for content, _ in scanner_clients[RSPAMD].asked]

    def test_a_large_message_that_fails_stops_nobody(self, failing, scanner_clients):
        for number in range(8):
            assert scan(failing, content=LARGE + b"%d" % number).of(RSPAMD).problem == "connection refused??x"
        scanner_clients[RSPAMD].answer = ham(RSPAMD)
        assert scan(failing).of(RSPAMD) == ham(RSPAMD)

    def test_a_large_message_is_no_probe(self, failing, scanner_clients, clock):
        self.fail(failing, 5)
        clock.now += 30
        assert scan(failing, content=LARGE).of(RSPAMD).problem.startswith("left alone")
        assert len(scanner_clients[RSPAMD].asked) == 5
        scanner_clients[RSPAMD].answer = ham(RSPAMD)
        assert scan(failing).of(RSPAMD) == ham(RSPAMD)
        assert scan(failing, content=LARGE).of(RSPAMD) == ham(RSPAMD)

    def test_it_is_asked_by_all_when_it_has_answered(self, failing, scanner_clients, clock, caplog):
        self.fail(failing, 5)
        clock.now += 30
        scanner_clients[RSPAMD].answer = ham(RSPAMD)
        assert {answer.verdict for answer in self.fail(failing, 8)} == {ScanVerdict.HAM}
        assert "rspamd answers again" in caplog.text

    def test_after_a_probe_that_fails_the_pause_is_as_long_as_before(self, failing, scanner_clients, clock):
        self.fail(failing, 5)
        for probes in range(1, 10):
            clock.now += 29
            self.fail(failing, 3)
            assert len(scanner_clients[RSPAMD].asked) == 4 + probes
            clock.now += 1
            self.fail(failing, 3)
            assert len(scanner_clients[RSPAMD].asked) == 5 + probes

    def test_what_waited_for_its_turn_when_it_failed_is_not_sent(self, make_scanners, scanner_clients, threads, clock):
        scanners = make_scanners(make_settings(at_once=1))
        scanner_clients[RSPAMD].answer = ScannerUnavailable("hangs")
        scanner_clients[RSPAMD].block()
        scans = [threads.submit(scan, scanners, content=numbered(number)) for number in range(12)]
        scanner_clients[RSPAMD].has_begun()
        scanner_clients[RSPAMD].go_on()
        assert {one.result(LONG).of(RSPAMD).verdict for one in scans} == {ScanVerdict.UNKNOWN}
        assert len(scanner_clients[RSPAMD].asked) == 5

    def test_a_mistake_in_a_client_is_a_failure_and_goes_to_the_log(self, scanners, scanner_clients, caplog):
        scanner_clients[RSPAMD].answer = ZeroDivisionError("mistake")
        assert self.fail(scanners, 6)[0].problem == "ZeroDivisionError: mistake"
        assert len(scanner_clients[RSPAMD].asked) == 5
        assert "Traceback" in caplog.text

    def test_a_proper_answer_without_a_verdict_is_no_failure(self, scanners, scanner_clients):
        scanner_clients[RSPAMD].answer = ScannerAnswer(
            scanner=RSPAMD, verdict=ScanVerdict.UNKNOWN, problem="soft reject"
        )
        assert {answer.problem for answer in self.fail(scanners, 8)} == {"soft reject"}
        assert len(scanner_clients[RSPAMD].asked) == 8


class TestAlert:
    @pytest.fixture
    def told(self, state):
        """Return what administrators were told since the last time."""

        def claim():
            notices = state.claim_notices(10, DAY)
            for notice in notices:
                state.settle_notice(notice.notice_id)
            return [from_payload(notice.payload) for notice in notices]

        return claim

    @pytest.fixture
    def failing(self, make_scanners, scanner_clients):
        scanner_clients[RSPAMD].answer = ScannerUnavailable("connection refused")
        return make_scanners()

    def fail(self, scanners, content=MESSAGE):
        assert scan(scanners, content=content).of(RSPAMD).verdict is ScanVerdict.UNKNOWN

    def test_a_restart_is_no_alarm(self, make_scanners, scanner_clients, clock, told):
        # One thread: it is done with a question before it takes the next.
        scanners = make_scanners(make_settings(at_once=1))
        for _ in range(3):
            scanner_clients[RSPAMD].answer = ScannerUnavailable("connection refused")
            for _ in range(4):
                self.fail(scanners)
                clock.now += 14
            scanner_clients[RSPAMD].answer = ham(RSPAMD)
            scan(scanners, content=numbered(int(clock.now)))
        scan(scanners, content=b"another")
        assert told() == []

    def test_after_60_seconds_it_is_told(self, failing, clock, told):
        self.fail(failing)
        clock.now += 60
        self.fail(failing)
        found = self.wait_for(told)
        assert (found.scanner, found.host, found.problem) == (RSPAMD, "mail.example.org", "connection refused")
        assert (found.since, found.at) == (START, START + 60)
        assert found.address == "http://127.0.0.1:11333"

    @staticmethod
    def wait_for(told):
        found = []
        wait_until(lambda: found.extend(told()) or found, timeout_seconds=20, what="administrators are told")
        (only,) = found
        return only

    def test_it_is_told_once_a_day_by_all_processes(self, make_scanners, failing, clock, told):
        another = make_scanners()
        for scanners in (failing, another):
            self.fail(scanners)
        for _ in range(3):
            clock.now += 600
            for scanners in (failing, another):
                self.fail(scanners)
        self.wait_for(told)
        for scanners in (failing, another):
            scanners.close()
        assert told() == []

    def test_the_next_day_it_is_told_again(self, failing, clock, told):
        for _ in range(2):
            self.fail(failing)
            clock.now += 600
            self.fail(failing)
            self.wait_for(told)
            clock.now += DAY

    def test_a_scanner_that_says_nothing_but_errors_is_told_too(self, scanners, scanner_clients, clock, told):
        scanner_clients[CLAMD].answer = ScannerAnswer(
            scanner=CLAMD, verdict=ScanVerdict.UNKNOWN, problem="out of memory"
        )
        for _ in range(2):
            scan(scanners, (CLAMD,))
            clock.now += 60
        assert self.wait_for(told).problem == "out of memory"

    def test_a_scanner_that_wants_to_be_asked_later_is_well(self, make_scanners, scanner_clients, clock, told):
        # One thread: it is done with a question before it takes the next.
        scanners = make_scanners(make_settings(at_once=1))
        later = ScannerAnswer(
            scanner=RSPAMD, verdict=ScanVerdict.UNKNOWN, action="soft reject", problem="soft reject: try again later"
        )
        for answer in (later, later, ScannerUnavailable("connection refused"), later):
            scanner_clients[RSPAMD].answer = answer
            self.fail(scanners)
            clock.now += 300
        scanner_clients[RSPAMD].answer = ScannerUnavailable("connection refused")
        for number in range(2):
            self.fail(scanners, numbered(number))
        assert told() == []

    def test_a_store_that_is_down_delays_it(self, make_scanners, scanner_clients, clock, tmp_path, caplog):
        scanner_clients[RSPAMD].answer = ScannerUnavailable("connection refused")
        scanners = make_scanners(state=SQLiteState(str(tmp_path), clock))
        for _ in range(2):
            self.fail(scanners)
            clock.now += 60
        wait_until(lambda: "cannot be told now" in caplog.text, timeout_seconds=20, what="the log says so")
