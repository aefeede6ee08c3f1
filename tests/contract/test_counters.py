"""Our counters as a storage of the `limits` library: the same answers as its own storage gives."""

import contextlib
import sqlite3
import time

import pytest
from invented import DAY, START
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from deliverypools.adapters import counters
from deliverypools.adapters.counters import SQLiteCounters


@pytest.fixture(params=["sqlite", "memory"])
def storage(request, tmp_path, monkeypatch, clock):
    """A storage of the library `limits` under an invented clock: ours, and its own as the measure."""
    monkeypatch.setattr(time, "time", clock)
    if request.param == "memory":
        yield MemoryStorage()
        return
    connection = sqlite3.connect(tmp_path / "counters.db", isolation_level=None)
    connection.executescript(counters.SCHEMA)
    yield SQLiteCounters(lambda: contextlib.nullcontext(connection), clock)
    connection.close()


class TestCountersAsAStorageOfLimits:
    item = parse("10/day")

    def test_hits_up_to_the_limit(self, storage):
        limiter = MovingWindowRateLimiter(storage)
        assert [limiter.hit(self.item, "alice") for _ in range(11)] == [True] * 10 + [False]

    def test_what_was_refused_is_not_counted(self, storage):
        limiter = MovingWindowRateLimiter(storage)
        assert not limiter.hit(self.item, "alice", cost=11)
        assert limiter.get_window_stats(self.item, "alice").remaining == 10

    def test_cost_counts_as_many(self, storage):
        limiter = MovingWindowRateLimiter(storage)
        assert limiter.hit(self.item, "alice", cost=7)
        assert not limiter.hit(self.item, "alice", cost=4)
        assert limiter.hit(self.item, "alice", cost=3)

    def test_test_counts_nothing(self, storage):
        limiter = MovingWindowRateLimiter(storage)
        assert [limiter.test(self.item, "alice", cost=10) for _ in range(3)] == [True] * 3

    def test_the_window_moves(self, storage, clock):
        limiter = MovingWindowRateLimiter(storage)
        limiter.hit(self.item, "alice", cost=6)
        clock.now += 3600
        limiter.hit(self.item, "alice", cost=4)
        clock.now += DAY - 3600 + 1
        assert limiter.get_window_stats(self.item, "alice").remaining == 6

    def test_reset_time_is_when_the_oldest_leaves_the_window(self, storage, clock):
        limiter = MovingWindowRateLimiter(storage)
        limiter.hit(self.item, "alice")
        clock.now += 3600
        limiter.hit(self.item, "alice")
        assert limiter.get_window_stats(self.item, "alice").reset_time == pytest.approx(START + DAY, abs=60)

    def test_keys_are_apart(self, storage):
        limiter = MovingWindowRateLimiter(storage)
        limiter.hit(self.item, "alice", cost=10)
        assert limiter.hit(self.item, "bob", cost=10)

    def test_clear_forgets_one_key(self, storage):
        limiter = MovingWindowRateLimiter(storage)
        limiter.hit(self.item, "alice", cost=10)
        limiter.hit(self.item, "bob", cost=10)
        limiter.clear(self.item, "alice")
        assert limiter.test(self.item, "alice", cost=10)
        assert not limiter.test(self.item, "bob")

    def test_reset_forgets_everything(self, storage):
        limiter = MovingWindowRateLimiter(storage)
        limiter.hit(self.item, "alice", cost=10)
        storage.reset()
        assert limiter.test(self.item, "alice", cost=10)

    def test_is_in_order(self, storage):
        assert storage.check()
