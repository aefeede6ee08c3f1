"""A scanner's verdict is kept: for the parts of a message, for tries again, and for all processes."""

from dataclasses import replace

import pytest
from asking import CLAMD, ENVELOPE, MESSAGE, RSPAMD, SPAMD, ham, make_settings, scan
from invented import InventedClock

from deliverypools.adapters.scanning.scanners import KNOWN_SECONDS
from deliverypools.adapters.scanning.unavailable import ScannerUnavailable
from deliverypools.adapters.sqlite_state import SQLiteState
from deliverypools.core.scanning.answers import ScannerAnswer, ScanVerdict
from deliverypools.lab.waiting import wait_until


@pytest.fixture
def store(sqlite_store):
    return sqlite_store


class StoreBefore:
    """Stands before a store."""

    def __init__(self, state):
        self._state = state

    def __getattr__(self, name):
        return getattr(self._state, name)


class LyingState(StoreBefore):
    """Somebody else writes in it."""

    def __init__(self, state, text):
        super().__init__(state)
        self._text = text

    def known_scans(self, keys):
        return dict.fromkeys(keys, self._text) | {"another": "x"}


class RaisingState(StoreBefore):
    """Has a mistake in it."""

    def known_scans(self, keys):
        raise ZeroDivisionError(keys)


class NotingState(StoreBefore):
    """Notes what it keeps."""

    def __init__(self, state, kept):
        super().__init__(state)
        self._kept = kept

    def remember_scan(self, key, text, keep_seconds):
        self._state.remember_scan(key, text, keep_seconds)
        self._kept.append(text)


def scan_to_the_end(make_scanners, state, wanted):
    """Scan, and return when all is remembered: whoever waits for an answer has it before other processes do."""
    remembered = []
    found = scan(make_scanners(state=NotingState(state, remembered)), wanted)
    wait_until(lambda: len(remembered) == len(wanted), timeout_seconds=20, what="it is remembered")
    return found


class TestKnown:
    @pytest.mark.parametrize(
        "answer",
        [
            ham(RSPAMD),
            ScannerAnswer(
                scanner=RSPAMD,
                verdict=ScanVerdict.SPAM,
                score=15.0,
                is_forced=True,
                action="reject",
                symbols=("GTUBE 0.0", "Ü_1 5.5"),
            ),
        ],
        ids=["ham", "spam"],
    )
    def test_a_verdict_is_known_to_all_processes(self, make_scanners, state, scanner_clients, answer):
        scanner_clients[RSPAMD].answer = answer
        assert scan_to_the_end(make_scanners, state, (RSPAMD,)).of(RSPAMD) == answer
        assert scan(make_scanners()).of(RSPAMD) == answer
        assert len(scanner_clients[RSPAMD].asked) == 1

    def test_the_parts_of_a_message_with_many_recipients_have_one_verdict(self, scanners, scanner_clients):
        for number in range(3):
            scan(scanners, envelope=replace(ENVELOPE, recipients=(f"u{number}@example.net",), queue_id=f"4ckz{number}"))
        assert len(scanner_clients[RSPAMD].asked) == 1

    @pytest.mark.parametrize(
        "change",
        [
            {"envelope_sender": "bob@example.org"},
            {"sasl_username": ""},
            {"client_address": "203.0.113.10"},
            {"helo_name": ""},
            # The same characters in other fields.
            {"client_address": "203.0.113.9client", "helo_name": ".example.org"},
            {"envelope_sender": "al\udce9ice@example.org"},
        ],
        ids=str,
    )
    def test_of_another_envelope_nothing_is_known(self, scanners, scanner_clients, change):
        scan(scanners)
        scan(scanners, envelope=replace(ENVELOPE, **change))
        assert len(scanner_clients[RSPAMD].asked) == 2

    def test_of_another_message_nothing_is_known(self, scanners, scanner_clients):
        scan(scanners)
        scan(scanners, content=MESSAGE + b".")
        assert len(scanner_clients[RSPAMD].asked) == 2

    @pytest.mark.parametrize("change", [{"rspamd": "http://127.0.0.2:11333"}, {"rspamd_settings_id": "outbound"}])
    def test_of_another_server_or_other_settings_of_it_nothing_is_known(self, make_scanners, scanner_clients, change):
        scan(make_scanners())
        scan(make_scanners(make_settings(**change)))
        assert len(scanner_clients[RSPAMD].asked) == 2

    def test_another_user_of_spamd_has_other_preferences(self, make_scanners, state, scanner_clients):
        scan_to_the_end(make_scanners, state, (SPAMD, RSPAMD))
        scan(make_scanners(make_settings(spamd_user="outbound")), (SPAMD, RSPAMD))
        assert (len(scanner_clients[SPAMD].asked), len(scanner_clients[RSPAMD].asked)) == (2, 1)

    def test_what_one_scanner_said_is_not_the_word_of_another(self, scanners, scanner_clients):
        scan(scanners, (RSPAMD,))
        assert scan(scanners, (RSPAMD, CLAMD)).answers == (ham(RSPAMD), ham(CLAMD))
        assert len(scanner_clients[CLAMD].asked) == 1

    def test_after_an_hour_it_is_asked_again(self, make_scanners, state, scanner_clients, clock):
        remembered = []
        scanners = make_scanners(state=NotingState(state, remembered))
        scan(scanners)
        wait_until(lambda: remembered, timeout_seconds=20, what="it is remembered")
        clock.now += KNOWN_SECONDS - 1
        scan(scanners)
        assert len(scanner_clients[RSPAMD].asked) == 1
        clock.now += 2
        scan(scanners)
        assert len(scanner_clients[RSPAMD].asked) == 2

    @pytest.mark.parametrize(
        "answer",
        [
            ScannerUnavailable("connection refused"),
            ScannerAnswer(scanner=RSPAMD, verdict=ScanVerdict.UNKNOWN, problem="soft reject"),
        ],
        ids=["unavailable", "soft reject"],
    )
    def test_that_it_is_unknown_is_not_remembered(self, make_scanners, state, scanner_clients, answer):
        remembered = []
        # One thread: it is done with the first question before it takes the second.
        scanners = make_scanners(make_settings(at_once=1), state=NotingState(state, remembered))
        scanner_clients[RSPAMD].answer = answer
        assert scan(scanners).of(RSPAMD).verdict is ScanVerdict.UNKNOWN
        scanner_clients[RSPAMD].answer = ham(RSPAMD)
        assert scan(scanners).of(RSPAMD) == ham(RSPAMD)
        wait_until(lambda: remembered, timeout_seconds=20, what="it is remembered")
        assert remembered == [ham(RSPAMD).to_text()]

    @pytest.mark.parametrize("text", ["", "{", "null", "[" * 5000, ham(CLAMD).to_text(), '{"verdict": "ham"}'])
    def test_what_the_store_holds_is_not_believed(self, make_scanners, state, scanner_clients, text):
        scanners = make_scanners(state=LyingState(state, text))
        assert scan(scanners).of(RSPAMD) == ham(RSPAMD)
        assert len(scanner_clients[RSPAMD].asked) == 1

    def test_a_store_with_a_mistake_in_it_costs_the_memory_only(self, make_scanners, state, caplog):
        assert scan(make_scanners(state=RaisingState(state))).of(RSPAMD) == ham(RSPAMD)
        assert "Traceback" in caplog.text

    def test_a_store_that_is_down_costs_the_memory_only(self, make_scanners, scanner_clients, tmp_path, caplog):
        broken = SQLiteState(str(tmp_path), InventedClock())
        scanners = make_scanners(state=broken)
        assert scan(scanners).of(RSPAMD) == ham(RSPAMD)
        wait_until(lambda: "is not remembered" in caplog.text, timeout_seconds=20, what="the log says so")
        assert "what scanners said before cannot be read" in caplog.text
        assert scan(scanners).of(RSPAMD) == ham(RSPAMD)
        wait_until(
            lambda: scan(scanners) and scanner_clients[RSPAMD].asked[1:], timeout_seconds=20, what="it is asked again"
        )
