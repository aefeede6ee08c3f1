"""The receiving side of a measurement: Postfix's smtp-sink(1), and what it has seen.

It is written in C and takes little from the server that is measured. What it received is kept in memory, as a file, so
that nothing can get lost, arrive twice or come from a wrong address unnoticed.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from deliverypools.lab.namespace import Network
from deliverypools.lab.waiting import wait_until

PORT: Final = 2525
_USER: Final = "nobody"
_MEMORY: Final = Path("/dev/shm")  # noqa: S108  (the folder in it is ours alone)
_READY_SECONDS: Final = 10
_POLL_SECONDS: Final = 0.002
_MOST_CONNECTIONS: Final = 1000
_BEGINNING: Final = 4000
# Written in one piece before anything of the message, so pieces of other messages cannot be in between.
_ENVELOPE: Final = re.compile(
    rb"X-Client-Addr: (\S+)\nX-Client-Proto: \S+\nX-Helo-Args: [^\n]*\nX-Mail-Args: [^\n]*\n"
    rb"((?:X-Rcpt-Args: [^\n]*\n)+)"
)
_RECIPIENT: Final = re.compile(rb"X-Rcpt-Args: <([^>]*)>")
_OURS: Final = re.compile(rb"\nX-Delivery-Pool[^\n:]*:", re.IGNORECASE)


@dataclass(frozen=True)
class Arrived:
    """What has arrived since the last look."""

    recipients: Counter[str]
    """How often a copy came for each."""
    sources: Counter[str]
    """Copies by the address that they came from."""
    marked: int
    """Header fields of ours on the wire."""

    def problems(self, expected: Iterable[str], source: str) -> Iterator[str]:
        """Yield what is wrong: each of the expected recipients gets one copy, from that address."""
        wanted = set(expected)
        lost, foreign = wanted - set(self.recipients), set(self.recipients) - wanted
        doubled = [one for one, count in self.recipients.items() if count > 1]
        by_others = sum(count for address, count in self.sources.items() if address != source)
        counts = {"lost": len(lost), "doubled": len(doubled), "that nobody sent": len(foreign)}
        counts |= {f"by a wrong address ({dict(self.sources)})": by_others, "fields of ours on the wire": self.marked}
        yield from (f"{count} {what}" for what, count in counts.items() if count)


class Sink:
    """One smtp-sink."""

    def __init__(self, network: Network, address: str, *, keeps_messages: bool = True) -> None:
        """Describe it; entering the context starts it. Without messages only their number is known."""
        self._network, self._address, self.keeps_messages = network, address, keeps_messages
        self._stack = contextlib.ExitStack()
        self.last = b""
        """The beginning of what `arrived` has looked at last."""

    def __enter__(self) -> Self:
        place = _MEMORY if os.access(_MEMORY, os.W_OK) else None
        self._folder = Path(tempfile.mkdtemp(prefix="delivery-pools-sink-", dir=place))
        self._stack.callback(shutil.rmtree, self._folder, ignore_errors=True)
        shutil.chown(self._folder, pwd.getpwnam(_USER).pw_uid)
        self._messages, self._counters = self._folder / "messages", self._folder / "counters"
        options = ["-D", str(self._messages)] if self.keeps_messages else []
        command = ["smtp-sink", "-c", "-u", _USER, "-m", str(_MOST_CONNECTIONS), *options]
        with self._network.inside(), self._counters.open("wb") as counters, (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*command, f"{self._address}:{PORT}", str(_MOST_CONNECTIONS)],
                stdin=subprocess.DEVNULL,
                stdout=counters,
                stderr=log,
            )
        self._stack.callback(self._stop)
        wait_until(self._is_ready, timeout_seconds=_READY_SECONDS, what="smtp-sink")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def _is_ready(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"smtp-sink ended at once: {(self._folder / 'log').read_text()}")
        with self._network.inside(), contextlib.suppress(OSError):
            return _answers(self._address)
        return False

    @property
    def process(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def count(self) -> int:
        """How many messages it has taken since it was started: transactions, not recipients."""
        with self._counters.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 200))
            complete = file.read().rpartition(b"\r")[0]
        return int(complete.rpartition(b"mesg=")[2] or 0)

    def wait_for(self, count: int, timeout_seconds: float) -> float:
        """Return when it has taken so many messages in all, and the time then (CLOCK_MONOTONIC).

        Raises:
            TimeoutError: it has not.
        """
        deadline = time.monotonic() + timeout_seconds
        while (taken := self.count) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"only {taken} of {count} messages arrived within {timeout_seconds:g} seconds")
            time.sleep(_POLL_SECONDS)
        return time.monotonic()

    def arrived(self) -> Arrived:
        """Return what has arrived since the last call."""
        data = b""
        with contextlib.suppress(FileNotFoundError):
            data = self._messages.read_bytes()
            self._messages.unlink()
        self.last = data[:_BEGINNING]
        return arrived_in(data)


def arrived_in(data: bytes) -> Arrived:
    """Return what is in a dump of smtp-sink's."""
    recipients: Counter[str] = Counter()
    sources: Counter[str] = Counter()
    for source, envelopes in _ENVELOPE.findall(data):
        found = [one.decode(errors="replace") for one in _RECIPIENT.findall(envelopes)]
        recipients.update(found)
        sources[source.decode()] += len(found)
    return Arrived(recipients, sources, len(_OURS.findall(data)))


def _answers(address: str) -> bool:
    with socket.create_connection((address, PORT), 1) as connection:
        return connection.recv(100).startswith(b"220")
