"""A server that does with each connection what a test tells it, to the byte."""

import contextlib
import itertools
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

PATIENCE_SECONDS = 30.0


class Conversation:
    """One connection, from the server's side."""

    def __init__(self, connection, number, stopping):
        self.connection = connection
        self.number = number
        """Of the connection: 1 is the first."""
        self._stopping = stopping

    def heard(self, end):
        """Read until the request has `end` in it; return what was read, b"" if the other side has hung up before."""
        heard = b""
        while end not in heard:
            part = self.connection.recv(65536)
            if not part:
                return b""
            heard += part
        return heard

    def hear_all_of(self, end):
        """Read until what has come ends so; in bounded memory."""
        last = b""
        while not last.endswith(end):
            part = self.connection.recv(1 << 20)
            if not part:
                return
            last = (last + part)[-len(end) :]

    def say(self, answer):
        self.connection.sendall(answer)

    def say_slowly(self, answer):
        """Byte by byte, each in a packet of its own."""
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in answer:
            if self._stopping.wait(0.001):
                return
            self.connection.sendall(bytes([byte]))

    def say_for_ever(self, answer):
        while not self._stopping.wait(0.001):
            self.connection.sendall(answer)

    def say_nothing(self):
        self._stopping.wait(PATIENCE_SECONDS)


class ScriptedServer:
    """Listens on loopback; `script` is called with each conversation, in a thread of its own."""

    def __init__(self, script, *, tls=None, family=socket.AF_INET, backlog=64):
        self.script = script
        self.connections = 0
        self.failures = []
        """What went wrong in a script, but for clients that hang up."""
        self._tls = tls
        self._stopping = threading.Event()
        self._listener = socket.create_server(("127.0.0.1" if family == socket.AF_INET else "::1", 0), family=family)
        self._listener.listen(backlog)
        self.port = self._listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}" if family == socket.AF_INET else f"[::1]:{self.port}"
        self._pool = ThreadPoolExecutor(32)

    def __enter__(self):
        self._pool.submit(self._accept)
        return self

    def __exit__(self, *_):
        self._stopping.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._pool.shutdown()
        assert self.failures == []

    def _accept(self):
        for number in itertools.count(1):
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections = number
            self._pool.submit(self._talk, connection, number)

    def _talk(self, connection, number):
        connection.settimeout(PATIENCE_SECONDS)
        with connection:
            try:
                with self._secured(connection) as secured:
                    self.script(Conversation(secured, number, self._stopping))
            except OSError:
                pass
            except Exception as error:  # noqa: BLE001  (the test that ends the server reports it)
                self.failures.append(error)

    def _secured(self, connection):
        if self._tls is None:
            return contextlib.nullcontext(connection)
        return self._tls.wrap_socket(connection, server_side=True)
