"""The shared state in a file: what happens when the file is locked, replaced, damaged, old or full."""

import contextlib
import pathlib
import sqlite3
import threading
import time
from types import SimpleNamespace

import pytest
from invented import START, dropped_notice, held, ndr_event, record, reserve, restriction, tally

from deliverypools.adapters import log_times, sqlite_checkpoints
from deliverypools.adapters.sqlite_state import SQLiteState
from deliverypools.adapters.state import StateUnavailable, open_state
from deliverypools.core.facts import Answer, Finding
from deliverypools.core.settings import Settings
from deliverypools.core.tallies import DAY

OLD_SCHEMA = """
CREATE TABLE counters (
    key TEXT NOT NULL, bucket INTEGER NOT NULL, amount INTEGER NOT NULL, expires_at REAL NOT NULL,
    PRIMARY KEY (key, bucket)
) WITHOUT ROWID;
CREATE TABLE reservations (
    queue_id TEXT PRIMARY KEY, instance TEXT NOT NULL, account TEXT NOT NULL, recipients INTEGER NOT NULL,
    bucket INTEGER NOT NULL, answer TEXT NOT NULL, evidence TEXT NOT NULL, expires_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX reservations_by_expiry ON reservations (expires_at);
CREATE TABLE charges (
    ticket_id TEXT PRIMARY KEY, answer TEXT NOT NULL, evidence TEXT NOT NULL, expires_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX charges_by_expiry ON charges (expires_at);
CREATE TABLE ticket_uses (
    ticket_id TEXT NOT NULL, queue_id TEXT NOT NULL, expires_at REAL NOT NULL, PRIMARY KEY (ticket_id, queue_id)
) WITHOUT ROWID;
PRAGMA user_version = 1;
"""


@pytest.fixture
def store(sqlite_store):
    return sqlite_store


@pytest.fixture
def path(store):
    return store.path


def without_evidence(old):
    """Take a file back to the schema that had none: version 6."""
    for column in ("leaves_by", "details"):
        old.execute(f"ALTER TABLE decisions DROP COLUMN {column}")
    old.execute("DROP TABLE waiting")


def rows_in(path, table):
    with contextlib.closing(sqlite3.connect(path)) as reader:
        return reader.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]


def test_the_settings_name_the_file(path, clock):
    pools = {
        name: {"addresses": [f"192.0.2.{number}"], "helo": f"{name}.example.org"}
        for name, number in (("normal", 10), ("high-risk", 20), ("relay", 30))
    }
    settings = Settings.model_validate(
        {"accepted_domains": ["example.org"], "pools": pools, "state": f"sqlite:///{path}"}
    )
    state = open_state(settings, clock)
    assert not pathlib.Path(path).exists(), "nothing is opened before the first call"
    state.count(tally(1))
    assert pathlib.Path(path).exists()
    state.close()


class TestPruning:
    def test_old_rows_are_forgotten(self, state, clock, path):
        for minute in range(30):
            clock.now = START + minute * 60
            state.count(tally(1))
            state.count_once(f"t{minute}", tally(1))
            state.first_time(f"n{minute}", 60)
            state.use_ticket(f"t{minute}", "4Q", 5, 60)
            state.see("alice", [f"{minute}@x"], 60, renew=True)
            state.remember_sender_domain(f"d{minute}.example", Finding(Answer.YES, "has MX"), 60)
            state.restrict(restriction(f"user{minute}", until=clock.now + 60))
            state.release(f"user{minute}")
            state.record(record(f"4Q{minute}", at=clock.now), 60)
            state.drop(dropped_notice(f"4Q{minute}", at=clock.now), 60, 100)
            state.remember_scan(f"key {minute}", "answer", 60)
        clock.now += 31 * DAY
        state.count(tally(1))
        tables = (
            *("counters", "once", "ticket_uses", "seen", "sender_domains", "releases", "endings", "decisions"),
            *("dropped", "scans"),
        )
        assert {table: rows_in(path, table) for table in tables} == dict.fromkeys(tables, 0) | {"counters": 1}

    def test_what_ended_is_forgotten_when_somebody_is_restricted(self, state, clock, path):
        for number in range(5):
            state.restrict(restriction(f"user{number}", until=START + 100))
        clock.now += 100
        state.restrict(restriction(until=START + 200))
        assert rows_in(path, "restrictions") == 1

    def test_the_drop_ledger_and_the_events_keep_nothing_of_what_is_gone(self, state, clock, path, monkeypatch):
        monkeypatch.setattr("deliverypools.adapters.sqlite_ndrs.MOST_NDRS", 20)
        for number in range(30):
            state.drop(dropped_notice(f"4Q{number}"), DAY, 10)
            state.note_ndr(ndr_event(f"mx/{number}"))
        assert [rows_in(path, "dropped"), rows_in(path, "ndrs")] == [10, 20]
        clock.now += DAY
        for number in range(2):
            state.note_ndr(ndr_event(f"mx/new{number}", at=clock.now))
        assert rows_in(path, "ndrs") == 2

    def test_times_that_rows_are_kept_for_are_a_few(self, state, path):
        for number in range(100):
            state.record(record(at=START + number), DAY + number)
        assert rows_in(path, "log_times") == log_times.MOST


class TestIndexes:
    """What is asked for each DSN, or twenty times a minute, never goes through a whole table."""

    @pytest.mark.parametrize(
        ("ask", "index"),
        [
            (lambda state: state.sent(["<1@example.org>"], []), "decisions_by_message_id"),
            (lambda state: state.sent([], [("mx1.example.org", "4Q1")]), "PRIMARY KEY"),
            (lambda state: state.recorded_since(), None),
            (lambda state: state.records_about("<1@example.org>"), "decisions_by_message_id"),
            (lambda state: state.records_about("<1@example.org>"), "decisions_not_sent"),
            (lambda state: state.records_about("4Q1"), "PRIMARY KEY"),
            (lambda state: state.known_scans(["one", "two"]), "PRIMARY KEY"),
            (lambda state: state.dropped(since=START), "dropped_by_time"),
            (lambda state: state.count_dropped(since=START), "COVERING INDEX dropped_by_time"),
            (lambda state: state.ndrs(since=START, most=10), "ndrs_by_time"),
            (lambda state: state.drop(dropped_notice(), DAY, 10), "INTEGER PRIMARY KEY"),
            (lambda state: state.note_ndr(ndr_event()), "ndrs_by_time"),
        ],
        ids=[
            *("message-id", "queue file", "since", "about what was sent", "about what was not", "about a queue file"),
            *("scans", "dropped", "count", "ndrs", "drop", "note"),
        ],
    )
    def test_the_plan(self, state, path, ask, index):
        state.record(record(), DAY)
        statements = []
        state._file._current_connection().set_trace_callback(statements.append)
        ask(state)
        plans = [plan for statement in statements for plan in plans_of(path, statement)]
        scanned = [plan for plan in plans if plan.startswith("SCAN") and plan != "SCAN log_times"]
        assert not scanned, plans
        assert not any("TEMP B-TREE" in plan for plan in plans), plans
        assert index is None or any(index in plan for plan in plans), plans


def plans_of(path, statement):
    if not statement.startswith(("SELECT", "DELETE", "INSERT", "UPDATE")):
        return []
    with contextlib.closing(sqlite3.connect(path)) as reader:
        return [row[3] for row in reader.execute(f"EXPLAIN QUERY PLAN {statement.replace('Inf', '9e999')}")]


class TestOpening:
    def test_a_missing_folder_is_made(self, tmp_path, clock):
        state = SQLiteState(str(tmp_path / "a" / "b" / "state.db"), clock)
        assert state.count(tally(1)) == (0,)
        state.close()

    def test_a_folder_that_cannot_be_made(self, tmp_path, clock):
        (tmp_path / "file").write_bytes(b"")
        state = SQLiteState(str(tmp_path / "file" / "state.db"), clock)
        with pytest.raises(StateUnavailable, match=r"state\.db: .*Not a directory|File exists"):
            state.count(tally(1))

    def test_a_folder_in_the_place_of_the_file_and_recovery(self, tmp_path, state):
        (tmp_path / "state.db").mkdir()
        with pytest.raises(StateUnavailable, match="unable to open database file"):
            state.count(tally(1))
        with pytest.raises(StateUnavailable, match="unable to open database file"):
            state.restrictions()
        (tmp_path / "state.db").rmdir()
        assert state.count(tally(1)) == (0,)

    def test_a_file_of_the_version_before_keeps_its_counters(self, path, state, clock):
        with contextlib.closing(sqlite3.connect(path)) as old:
            old.executescript(OLD_SCHEMA)
            old.execute(
                "INSERT INTO counters VALUES (?, ?, ?, ?)", ("alice/recipients", START // 60, 7, START + DAY + 60)
            )
            old.commit()
        assert reserve(state, "4Q1", tally(2)) == 7
        assert state.commit("4Q1", tally(2)) == (7,)

    def test_a_file_of_the_version_before_keeps_everything(self, path, state):
        """Its events are without replies."""
        state.record(record(), DAY)
        state.note_ndr(ndr_event(reply="550 5.1.1 no such user"))
        since = state.recorded_since()
        state.close()
        with contextlib.closing(sqlite3.connect(path)) as old:
            old.execute("ALTER TABLE ndrs DROP COLUMN reply")
            without_evidence(old)
            old.execute("PRAGMA user_version = 3")
        assert state.ndrs(since=0.0, most=10) == [ndr_event()]
        assert state.sent(["<1@example.org>"], []) == [record()]
        assert state.recorded_since() == since is not None
        state.note_ndr(ndr_event("mx/2", reply="550 5.1.1 no such user"))
        assert ndr_event("mx/2", reply="550 5.1.1 no such user") in state.ndrs(since=0.0, most=10)

    def test_a_file_without_scans_gets_them_and_keeps_everything(self, path, state):
        state.record(record(), DAY)
        state.note_ndr(ndr_event(reply="550 5.1.1 no such user"))
        state.close()
        with contextlib.closing(sqlite3.connect(path)) as old:
            old.execute("DROP TABLE scans")
            old.execute("DROP INDEX decisions_not_sent")
            without_evidence(old)
            old.execute("PRAGMA user_version = 4")
        state.remember_scan("key", "answer", 100)
        assert state.known_scans(["key"]) == {"key": "answer"}
        assert state.sent(["<1@example.org>"], []) == [record()]
        assert state.ndrs(since=0.0, most=10) == [ndr_event(reply="550 5.1.1 no such user")]

    def test_rows_of_before_have_no_evidence_and_stay(self, path, state):
        state.record(record(), DAY)
        state.close()
        with contextlib.closing(sqlite3.connect(path)) as old:
            without_evidence(old)
            old.execute("PRAGMA user_version = 6")
        assert state.record_of("mx1.example.org", "4Q1") == record()
        later = record("4Q2", leaves_by="normal", details='{"v":1}')
        state.record(later, DAY)
        state.note_waiting(record("4Q3", pool=""), ["4Q0"], DAY)
        assert sorted(state.decisions(), key=lambda row: row.queue_id) == [record(), later]
        assert state.waiting("4Q0") == record("4Q3", pool="")

    def test_a_file_of_an_older_version_keeps_what_is_as_it_was(self, path, state, clock):
        """Its decisions cannot be looked up by Message-ID: they are left behind."""
        state.restrict(restriction())
        state.record(record(), DAY)
        state.post("one", DAY, [("mail", "text")])
        state.close()
        with contextlib.closing(sqlite3.connect(path)) as old:
            for table in ("dropped", "ndrs", "log_times"):
                old.execute(f"DROP TABLE {table}")
            old.execute("PRAGMA user_version = 2")
        assert state.restrictions() == [restriction()]
        assert [one.payload for one in state.claim_notices(10, 60)] == ["text"]
        assert state.recorded_since() is None
        state.record(record(), DAY)
        state.drop(dropped_notice(), DAY, 10)
        state.note_ndr(ndr_event())
        assert state.sent(["<1@example.org>"], []) == [record()]

    def test_the_schema_of_a_newer_version_is_refused(self, path, state):
        with contextlib.closing(sqlite3.connect(path)) as newer:
            newer.execute("PRAGMA user_version = 99")
        with pytest.raises(StateUnavailable, match=r"written by a newer version \(schema 99, ours is \d+\)"):
            state.count(tally(1))

    def test_eight_states_that_make_the_file_at_once_all_succeed(self, tmp_path):
        for attempt in range(20):
            path = str(tmp_path / f"state-{attempt}.db")
            barrier, failures = threading.Barrier(8), []

            def count_one(path=path, barrier=barrier, failures=failures):
                state = SQLiteState(path, time.time)
                barrier.wait()
                try:
                    state.count(tally(1))
                except StateUnavailable as error:
                    failures.append(error)
                state.close()

            threads = [threading.Thread(target=count_one) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert failures == []


class TestReplacing:
    def test_a_file_that_was_removed_is_made_again_for_all(self, opened, path):
        first = opened()
        first.count(tally(1))
        for suffix in ("", "-wal", "-shm"):
            pathlib.Path(path + suffix).unlink(missing_ok=True)
        first.count(tally(1))
        assert held(opened()) == 1

    def test_a_file_that_is_no_database_and_recovery(self, tmp_path, state):
        (tmp_path / "state.db").write_bytes(b"this is no database, however long it may be" * 100)
        with pytest.raises(StateUnavailable, match="file is not a database"):
            reserve(state, "4Q1", tally(1))
        (tmp_path / "state.db").unlink()
        assert reserve(state, "4Q1", tally(1)) == 0

    def test_a_file_that_becomes_corrupt_and_recovery(self, tmp_path, opened):
        broken = opened()
        for number in range(50):
            broken.count(tally(1, f"user{number}"))
        broken.close()
        (tmp_path / "state.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 8192)
        with pytest.raises(StateUnavailable):
            broken.count(tally(1))
        for file in tmp_path.iterdir():
            file.unlink()
        assert broken.count(tally(1)) == (0,)


class TestLocking:
    def test_a_locked_file_is_given_up_in_about_two_seconds_and_recovers(self, path, state):
        state.count(tally(1))
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            before = time.monotonic()
            with pytest.raises(StateUnavailable, match="locked"):
                state.count(tally(1))
            assert 1.5 < time.monotonic() - before < 8
            other.execute("ROLLBACK")
        state.count(tally(1))
        assert held(state) == 2

    def test_what_only_reads_does_not_wait_for_a_writer(self, path, state):
        state.restrict(restriction())
        state.record(record(), DAY)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert state.restrictions() == [restriction()]
            assert state.records_of("alice") == [record()]
            assert state.claim_notices(10, 60) == []

    def test_threads_do_not_wait_for_a_locked_file_one_after_the_other(self, path, state):
        held(state)
        blocker = sqlite3.connect(path, isolation_level=None)
        blocker.execute("BEGIN EXCLUSIVE")
        failures = []

        def count_one():
            try:
                state.count(tally(1))
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
        assert time.monotonic() - before < 12, "one after the other would be 16 seconds"

    def test_nothing_is_counted_by_a_call_that_failed(self, path, state):
        state.count(tally(3))
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("CREATE TRIGGER full BEFORE INSERT ON reservations BEGIN SELECT RAISE(ABORT, 'full'); END")
            with pytest.raises(StateUnavailable, match="full"):
                reserve(state, "4Q2", tally(3))
            other.execute("DROP TRIGGER full")
        assert held(state) == 3


class TestCheckpoints:
    @pytest.fixture(autouse=True)
    def _often(self, monkeypatch):
        monkeypatch.setattr(sqlite_checkpoints, "_EVERY_CHANGES", 1)

    @pytest.fixture
    def threads(self, monkeypatch):
        """Which threads were asked for; none can be started until `can_start`."""
        threads = SimpleNamespace(asked_for=[], can_start=False)
        start_thread = threading.Thread.start

        def start(thread):
            threads.asked_for.append(thread.name)
            if not threads.can_start:
                raise RuntimeError("can't start new thread")
            start_thread(thread)

        monkeypatch.setattr(threading.Thread, "start", start)
        return threads

    @pytest.fixture
    def opened_state(self, state):
        state.restrictions()
        return state

    def test_without_a_thread_what_was_committed_is_committed(self, opened_state, threads):
        assert opened_state.commit("4Q1", tally(1)) == (0,)
        assert threads.asked_for == ["checkpoint"]
        assert held(opened_state) == 1

    def test_the_next_commit_tries_again(self, opened_state, threads):
        for _ in range(3):
            opened_state.count(tally(1))
        assert threads.asked_for == ["checkpoint"] * 3
        threads.can_start = True
        for _ in range(3):
            opened_state.count(tally(1))
        assert threads.asked_for == ["checkpoint"] * 4, "one has begun: that is enough for a while"

    @pytest.mark.usefixtures("threads")
    def test_a_file_is_closed_whose_checkpoint_never_began(self, opened_state):
        opened_state.count(tally(1))
        opened_state.close()
        assert held(opened_state) == 1

    def test_an_error_that_nobody_has_thought_of_is_not_taken_for_one_before_the_commit(
        self, opened_state, monkeypatch
    ):
        def breaks(_checkpoints, _connection):
            raise MemoryError

        with monkeypatch.context() as patched:
            patched.setattr(sqlite_checkpoints.Checkpoints, "after_commit", breaks)
            with pytest.raises(MemoryError):
                opened_state.count(tally(1))
        assert held(opened_state) == 1
