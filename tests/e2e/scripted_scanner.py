"""A spamd that behaves as a test tells it: for what the real one cannot be made to do."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

HAM = b"SPAMD/1.1 0 EX_OK\r\nContent-length: 23\r\nSpam: False ; -1.0 / 5.0\r\n\r\nALL_TRUSTED,MSGID_SHORT"
SPAM = b"SPAMD/1.1 0 EX_OK\r\nContent-length: 5\r\nSpam: True ; 999.0 / 5.0\r\n\r\nGTUBE"

Behaviour = Callable[["Conversation"], None]


class Conversation:
    """One connection, its request read."""

    def __init__(self, connection: socket.socket, stopping: threading.Event) -> None:
        self._connection = connection
        self._stopping = stopping

    def say(self, answer: bytes) -> None:
        """Send as much of it as the other side takes."""
        with contextlib.suppress(OSError):
            self._connection.sendall(answer)

    def wait(self, seconds: float) -> None:
        """Say nothing for a time, or until the server is stopped."""
        self._stopping.wait(seconds)


class ScriptedScanner:
    """Listens on a unix socket, which is reached from every network namespace."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "spamd.sock"
        self.behaviour: Behaviour = lambda conversation: conversation.say(HAM)
        self.asked = 0
        self._stopping = threading.Event()
        self._listener: socket.socket | None = None
        self._threads: list[threading.Thread] = []

    @property
    def address(self) -> str:
        """As the setting `spam.spamd` has it."""
        return f"unix:{self.path}"

    def start(self) -> None:
        """Listen."""
        self._stopping = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self.path.chmod(0o666)
        self._listener.listen(64)
        self._run(self._accept, self._listener, self._stopping)

    def stop(self) -> None:
        """Close everything; nobody listens any more."""
        self._stopping.set()
        if self._listener:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
            self.path.unlink()
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @contextlib.contextmanager
    def behaving(self, behaviour: Behaviour | None) -> Iterator[None]:
        """Behave so for a while; None is to be stopped."""
        before = self.behaviour
        if behaviour is None:
            self.stop()
        else:
            self.behaviour = behaviour
        try:
            yield
        finally:
            self.behaviour = before
            if behaviour is None:
                self.start()

    def _accept(self, listener: socket.socket, stopping: threading.Event) -> None:
        while not stopping.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self.asked += 1
            self._run(self._talk, connection, stopping)

    def _run(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _talk(self, connection: socket.socket, stopping: threading.Event) -> None:
        with connection:
            connection.settimeout(20)
            with contextlib.suppress(OSError):
                _read_request(connection)
            self.behaviour(Conversation(connection, stopping))


def _read_request(connection: socket.socket) -> None:
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    missing = int(fields[b"content-length"]) - len(body)
    while missing > 0:
        missing -= len(connection.recv(65536))
