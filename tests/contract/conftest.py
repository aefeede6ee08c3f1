"""Fixtures of the contract tests."""

import contextlib

import pytest
from asking import InventedClient, callers, processes
from invented import InventedClock
from stores import RedisServer, RedisStore, SQLiteStore

from deliverypools.core.scanning.answers import Scanner


@pytest.fixture
def clock():
    return InventedClock()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory):
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def sqlite_store(tmp_path):
    return SQLiteStore(str(tmp_path / "state.db"))


@pytest.fixture
def redis_store(redis_server):
    redis_server.client.flushall()
    return RedisStore(redis_server.url)


@pytest.fixture(params=["sqlite", "redis"])
def store(request):
    """Each store there is; the tests of one of them have this fixture of their own."""
    return request.getfixturevalue(f"{request.param}_store")


@pytest.fixture
def opened(store, clock):
    """Open the store, as often as wanted, as other processes would."""
    with contextlib.ExitStack() as stack:

        def open_state():
            state = store.open(clock)
            stack.callback(state.close)
            return state

        yield open_state


@pytest.fixture
def state(opened):
    return opened()


@pytest.fixture
def scanner_clients():
    return {scanner: InventedClient(scanner) for scanner in Scanner}


@pytest.fixture
def make_scanners(state, scanner_clients, clock):
    """Make the scanners of one process after the other."""
    with processes(state, scanner_clients, clock) as make:
        yield make


@pytest.fixture
def scanners(make_scanners):
    return make_scanners()


@pytest.fixture
def threads(scanner_clients):
    """Threads that ask scanners."""
    with callers(scanner_clients) as executor:
        yield executor
