"""What every part of the state on a Redis server is made with: the server, its failures, times and rows."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from redis.exceptions import RedisError

from deliverypools.adapters.redis_counters import SPARE_SECONDS, RedisCounters, text_of
from deliverypools.adapters.state import StateUnavailable

_LUA = "".join(
    Path(__file__).with_name(f"redis_{name}.lua").read_text(encoding="ascii")
    for name in ("state", "decisions", "ledger", "ndrs")
)


class RedisBase:
    """Threads of one process share it; a forked child makes its own."""

    def __init__(self, url: str, clock: Callable[[], float]) -> None:
        self._url = url
        self._where = _where(url)
        self._clock = clock
        self._lock = threading.Lock()
        self._counters: RedisCounters | None = None

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            if self._counters is not None:
                self._counters.storage.close()
                self._counters = None

    def _now(self) -> str:
        return repr(float(self._clock()))

    def _kept_for(self, seconds: float) -> dict[str, Any]:
        """Return the times of something that is kept so long, as the Lua program takes them."""
        return {"now": self._now(), "expires_at": repr(self._clock() + seconds), "ttl": ttl(seconds)}

    @contextmanager
    def _server(self) -> Iterator[RedisCounters]:
        try:
            yield self._opened()
        # ValueError: a name that cannot be looked up; a row that somebody else wrote.
        except (RedisError, OSError, ValueError) as error:
            raise StateUnavailable(f"{self._where}: {error}") from error

    def _opened(self) -> RedisCounters:
        with self._lock:
            if self._counters is None:
                self._counters = _open(self._url, self._where, self._clock)
            return self._counters


def _open(url: str, where: str, clock: Callable[[], float]) -> RedisCounters:
    """Return the counters of a server, which is not yet connected to."""
    try:
        counters = RedisCounters(url, clock, _LUA)
        pool = counters.storage.connection_pool
        # Options that nobody knows are found only now.
        pool.connection_class(**pool.connection_kwargs)
    except (RedisError, ValueError, TypeError):
        # The error may repeat a part of the URL, so of the password.
        raise StateUnavailable(f"{where}: the URL of the server, or an option in it, is wrong") from None
    return counters


def _where(url: str) -> str:
    """Return what may be said of the URL: it may hold a password."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.hostname or ''}" + (f":{parts.port}" if parts.port else "")
    except ValueError:
        return "redis"


def ttl(keep_seconds: float) -> int:
    """Return after how long the server may drop what is kept so long."""
    return math.ceil(keep_seconds) + SPARE_SECONDS


def text_of_row(row: dict[str, object]) -> str:
    """Return a row as it is stored."""
    return json.dumps(row, ensure_ascii=False)


def json_of(stored: bytes) -> Any:
    """Read JSON.

    Raises:
        ValueError: somebody else wrote it.
    """
    try:
        return json.loads(text_of(stored))
    except RecursionError:
        raise ValueError("a row is nested too deeply") from None


def row_of(stored: bytes) -> dict[str, Any]:
    """Read a row.

    Raises:
        ValueError: somebody else wrote it.
    """
    row = json_of(stored)
    if not isinstance(row, dict):
        raise ValueError("a row is damaged")  # noqa: TRY004  (what is stored, not an argument)
    return row
