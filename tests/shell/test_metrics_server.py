"""The server of metrics beside clients that take their time, and pages that cannot be made."""

import asyncio
import contextlib
import socket
import threading

import pytest

from deliverypools.adapters.metrics.exposition import Page
from deliverypools.core.settings import Metrics
from deliverypools.core.settings import metrics as metrics_settings
from deliverypools.lab.waiting import wait_until
from deliverypools.policy import metrics_server
from deliverypools.policy.metrics_server import MetricsServer

SMALL = Page("text/plain", b"a 1\n")
ASKED = b"GET /metrics HTTP/1.1\r\n\r\n"
SECONDS = 20


@pytest.fixture
def impatient(monkeypatch):
    """Give clients little time; what is returned gives them enough again."""
    monkeypatch.setattr(metrics_server, "_MOST_SECONDS", 0.3)
    return lambda: monkeypatch.setattr(metrics_server, "_MOST_SECONDS", SECONDS)


class Served:
    """Connects to a server, and sees who is connected."""

    def __init__(self, server):
        self._server = server
        self.address = server._server.sockets[0].getsockname()

    def __call__(self):
        return asyncio.open_connection(*self.address)

    async def until_connected(self, clients):
        def are():
            return len(self._server._open) == clients

        await asyncio.to_thread(wait_until, are, timeout_seconds=SECONDS, what=f"{clients} clients are connected")


@contextlib.asynccontextmanager
async def serving(make_page=lambda _accept: SMALL):
    """Serve on a port that is free, and yield how to connect to it."""
    server = MetricsServer(Metrics(listen="127.0.0.1:9641"), make_page)
    # The kernel chooses the port; an operator cannot ask for that.
    server._settings = server._settings.model_copy(update={"listen": metrics_settings.Nameserver("127.0.0.1", 0)})
    server.start()
    await server._opening
    try:
        yield Served(server)
    finally:
        server.close()


async def answer(connect, request=ASKED):
    reader, writer = await connect()
    writer.write(request)
    with contextlib.closing(writer):
        return await asyncio.wait_for(reader.read(), SECONDS)


def run(test):
    asyncio.run(asyncio.wait_for(test, SECONDS))


def test_clients_that_say_nothing_are_few_and_keep_nobody_out_for_long(impatient):
    async def test():
        async with serving() as connect:
            silent = [await connect() for _ in range(metrics_server._MOST_CONNECTIONS)]
            one_more, _ = await connect()
            with contextlib.suppress(ConnectionError):
                assert await one_more.read() == b""
            for reader, writer in silent:
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
                writer.close()
            impatient()
            assert (await answer(connect)).startswith(b"HTTP/1.1 200 OK\r\n")

    run(test())


def test_a_client_that_does_not_read_is_closed(impatient):
    """What it does not take in its time, it does not get."""
    large = Page("text/plain", b"x" * 50_000_000)

    async def test():
        async with serving(lambda _accept: large) as connect:
            with socket.create_connection(connect.address, SECONDS) as slow:
                slow.sendall(ASKED)
                await connect.until_connected(1)
                await connect.until_connected(0)
                got = 0
                with contextlib.suppress(ConnectionError):
                    while chunk := slow.recv(1 << 20):
                        got += len(chunk)
                assert got < len(large.body)

    run(test())


def test_a_page_that_cannot_be_made(caplog):
    def fail(_accept):
        raise OSError("no such folder")

    async def test():
        async with serving(fail) as connect:
            assert (await answer(connect)).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
            assert (await answer(connect)).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")

    run(test())
    assert [line for line in caplog.messages if "no such folder" in line] == caplog.messages[-1:]


def test_a_page_that_hangs_keeps_the_loop_free(impatient):
    free = threading.Event()

    def hang(_accept):
        free.wait(SECONDS)
        return SMALL

    async def test():
        async with serving(hang) as connect:
            with contextlib.suppress(ConnectionError):
                assert await answer(connect) == b""
            impatient()
            # Another path needs no page.
            assert (await answer(connect, b"GET / HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 404 ")
            free.set()
            assert (await answer(connect)).endswith(b"\r\n\r\na 1\n")

    try:
        run(test())
    finally:
        free.set()


def test_clients_that_are_not_allowed_are_disconnected(monkeypatch, caplog):
    monkeypatch.setattr(metrics_settings, "is_loopback", lambda _address: False)

    async def test():
        async with serving() as connect:
            with contextlib.suppress(ConnectionError):
                assert await answer(connect) == b""

    run(test())
    assert "127.0.0.1 asked for metrics: see metrics.allow" in caplog.text


def test_the_field_accept_is_handed_on():
    asked = []

    def note(accept):
        asked.append(accept)
        return SMALL

    async def test():
        async with serving(note) as connect:
            await answer(connect, b"GET /metrics HTTP/1.1\r\nHost: x\r\nACCEPT: a/b;q=1\r\n\r\n")
            await answer(connect)

    run(test())
    assert asked == ["a/b;q=1", ""]
