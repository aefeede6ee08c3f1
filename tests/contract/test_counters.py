"""Our counters as storages of the `limits` library: the same answers as its own storage gives."""

import contextlib
import sqlite3
import time

import pytest
from invented import START
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from stores import RedisServer

from deliverypools.adapters import sqlite_counters
from deliverypools.adapters.redis_counters import RedisCounters
from deliverypools.adapters.sqlite_counters import SQLiteCounters
from deliverypools.core.tallies import DAY


@pytest.fixture
def memory_storage():
    return MemoryStorage()


@pytest.fixture
def sqlite_storage(tmp_path, clock):
    with contextlib.closing(sqlite3.connect(tmp_path / "counters.db", isolation_level=None)) as connection:
        connection.executescript(sqlite_counters.SCHEMA)
        yield SQLiteCounters(lambda: contextlib.nullcontext(connection), clock)


@pytest.fixture
def redis_storage(redis_store, clock):
    counters = RedisCounters(redis_store.url, clock)
    yield counters
    counters.storage.close()


@pytest.fixture(params=["sqlite", "redis", "memory"])
def storage(request, monkeypatch, clock):
    """A storage of the library `limits` under an invented clock: ours, and its own as the measure."""
    found = request.getfixturevalue(f"{request.param}_storage")
    monkeypatch.setattr(time, "time", clock)
    return found


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

    def test_a_key_that_was_never_counted_is_empty(self, storage):
        assert storage.get("LIMITER/alice") == 0
        assert storage.get_moving_window("LIMITER/alice", 10, DAY) == (START, 0)


@pytest.fixture(params=["sqlite", "redis"])
def counters(request):
    return request.getfixturevalue(f"{request.param}_storage")


class TestMovingWindowsInBuckets:
    def test_incr_returns_what_the_window_holds(self, counters, clock):
        assert [counters.incr("alice", DAY, amount) for amount in (1, 5)] == [1, 6]
        clock.now += DAY
        assert counters.incr("alice", DAY) == 1

    def test_everything_that_is_kept(self, counters, clock):
        counters.incr("alice", DAY, 3)
        clock.now += 60
        counters.incr("alice", DAY, 4)
        assert counters.get("alice") == 7

    def test_the_last_bucket_lapses_after_the_window(self, counters):
        assert counters.get_expiry("alice") == START
        counters.incr("alice", DAY)
        assert counters.get_expiry("alice") == pytest.approx(START + DAY, abs=60)


class TestRedisCounters:
    def test_a_server_that_is_not_there(self, clock, tmp_path):
        counters = RedisCounters(RedisServer(tmp_path).url, clock)
        assert not counters.check()
        with pytest.raises(counters.base_exceptions, match="Connection refused"):
            counters.acquire_entry("alice", 10, DAY)

    def test_reset_leaves_what_is_not_a_counter(self, redis_storage, redis_server):
        redis_server.client.set("delivery-pools:other", "1")
        redis_storage.incr("alice", DAY)
        redis_storage.reset()
        assert redis_server.client.keys() == [b"delivery-pools:other"]

    def test_old_buckets_are_dropped_and_the_key_expires(self, redis_storage, redis_server, clock):
        for _ in range(500):
            clock.now += 1
            redis_storage.incr("alice", 60)
        assert redis_storage.incr("alice", 60) == 61
        assert redis_server.client.hlen("delivery-pools:counter:alice") < 200
        assert 60 < redis_server.client.ttl("delivery-pools:counter:alice") < 2 * DAY

    def test_buckets_of_a_clock_that_was_far_ahead_are_dropped(self, redis_storage, redis_server, clock):
        clock.now += DAY
        for _ in range(150):
            clock.now += 1
            redis_storage.incr("alice", 60)
        clock.now -= 2 * DAY
        for _ in range(60):
            clock.now += 1
            redis_storage.incr("alice", 60)
        assert redis_storage.incr("alice", 60) == 61
        assert redis_storage.get("alice") == 61
