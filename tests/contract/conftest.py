"""Fixtures of the contract tests."""

import contextlib

import pytest
from asking import InventedClient, callers, processes
from invented import InventedClock
from resolving import ZONES
from scripted_dns import Script
from stores import RedisServer, RedisStore, SQLiteStore

from deliverypools.adapters.resolver import Resolver
from deliverypools.core.scanning.answers import Scanner
from deliverypools.core.settings.tables import Dns
from deliverypools.lab.dns_server import DnsServer


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


@pytest.fixture
def script():
    """Make DNS servers that answer as told; without answers, never."""
    with contextlib.ExitStack() as stack:

        def make(answers=lambda _wire, _send: None):
            made = Script(answers)
            stack.callback(made.stop)
            return made

        yield make


@pytest.fixture
def nameserver():
    """A DNS server with the zones that the tests of the resolver ask about."""
    nameserver = DnsServer(ZONES)
    nameserver.start("127.0.0.1", 0)
    yield nameserver
    nameserver.stop()


@pytest.fixture
def make_resolver(nameserver, clock):
    """Make resolvers that know nothing yet."""
    with contextlib.ExitStack() as stack:

        def make(*nameservers, **dns):
            nameservers = [f"{host}:{port}" for host, port in nameservers or [nameserver.address]]
            options = {"timeout_seconds": 5.0, "servfail_cache_seconds": 30, "nameservers": nameservers} | dns
            made = Resolver(Dns(**options), clock=clock)
            stack.callback(made.close)
            return made

        yield make
