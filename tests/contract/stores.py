"""The stores that keep the contract of the state, and a Redis server of our own to test with."""

import contextlib
import os
import signal
import socket
import subprocess
from dataclasses import dataclass

import redis

from deliverypools.adapters.redis_state import RedisState
from deliverypools.adapters.sqlite_state import SQLiteState
from deliverypools.lab.waiting import wait_until


@dataclass(frozen=True)
class SQLiteStore:
    """One file. Can be handed to another process."""

    path: str

    def open(self, clock):
        return SQLiteState(self.path, clock)


@dataclass(frozen=True)
class RedisStore:
    """One server. Can be handed to another process."""

    url: str

    def open(self, clock):
        return RedisState(self.url, clock)


class RedisServer:
    """A redis-server on a free port of loopback that writes nothing to disk."""

    def __init__(self, folder, *options):
        self._folder = folder
        self._options = options
        self._process = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.client = redis.Redis("127.0.0.1", self.port, socket_timeout=10)

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self):
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self._folder)]
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--save", "", "--appendonly", "no", *self._options], stdout=log, stderr=log
            )
        wait_until(self._answers, timeout_seconds=20, what="redis-server answers")

    def _answers(self):
        assert self._process.poll() is None, (self._folder / "redis.log").read_text()
        with contextlib.suppress(redis.ConnectionError):
            return self._process.pid == self.client.info("server")["process_id"]

    def stop(self):
        if self._process is not None:
            self.resume()
            self._process.terminate()
            self._process.wait(20)
            self._process = None

    def hang(self):
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self):
        os.kill(self._process.pid, signal.SIGCONT)
