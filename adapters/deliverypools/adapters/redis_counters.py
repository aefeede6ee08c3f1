"""Counters on a Redis or Valkey server, as a storage of the `limits` library: moving windows in buckets.

They count as `sqlite_counters` does. A stream is one hash, at most some 1,600 small fields however much an account
sends; whatever adds and sums up is one Lua script (redis_counters.lua), one step for everybody else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from limits.storage import RedisStorage
from redis.backoff import NoBackoff
from redis.retry import Retry

from deliverypools.core.tallies import Entry, Window, bucket_seconds

PREFIX: Final = "delivery-pools"
SPARE_SECONDS: Final = 86_400
"""The server may drop a key so long after it has expired by our clock, which alone decides."""

_TIMEOUT_SECONDS = 1.0
_LUA = Path(__file__).with_suffix(".lua").read_text(encoding="ascii")
_DISPATCH = "\nreturn calls[ARGV[1]](cjson.decode(ARGV[2]))\n"


class RedisCounters(RedisStorage):
    """Moving-window counters. Nothing is opened before the first call; threads share it."""

    STORAGE_SCHEME = ["delivery-pools-redis"]  # noqa: RUF012  (the base class declares it so)

    def __init__(self, url: str, clock: Callable[[], float], more_lua: str = "") -> None:
        self._clock = clock
        self._program = f"{_LUA}{more_lua}{_DISPATCH}"
        super().__init__(
            url,
            key_prefix=f"{PREFIX}:counter",
            socket_timeout=_TIMEOUT_SECONDS,
            socket_connect_timeout=_TIMEOUT_SECONDS,
            socket_keepalive=True,
            # What is sent again after a lost answer is counted twice.
            retry=Retry(NoBackoff(), 0),  # type: ignore[arg-type]
            # One round trip less for each connection, and nothing that the server sends unasked.
            protocol=2,
        )

    def initialize_storage(self, _uri: str) -> None:
        """Prepare the scripts; they are loaded when the server does not know them."""
        super().initialize_storage(_uri)
        self._script = self.storage.register_script(self._program)

    def call(self, name: str, /, **arguments: object) -> Any:
        """Run a function of the Lua program; texts come back as bytes, see `text_of`.

        Raises:
            redis.RedisError: the server is not there, is too slow or refuses.
        """
        return self._script(args=(name, bytes_of(json.dumps(arguments, ensure_ascii=False))))

    def window(self, window: Window) -> list[object]:
        """Return a window as the Lua program takes it."""
        now, seconds = self._clock(), bucket_seconds(window.keep_seconds)
        # Buckets of the future are left by a clock that went back.
        first, last = math.floor((now - window.seconds) / seconds) + 1, math.floor(now / seconds)
        return [[self.prefixed_key(stream) for stream in window.streams], first, last]

    def entry(self, entry: Entry) -> list[object]:
        """Return an entry as the Lua program takes it."""
        seconds = bucket_seconds(entry.keep_seconds)
        kept = math.ceil(entry.keep_seconds / seconds)
        ttl = entry.keep_seconds + SPARE_SECONDS
        return [self.prefixed_key(entry.stream), math.floor(self._clock() / seconds), entry.amount, kept, ttl]

    # ---- the contract of a storage of `limits`

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count `amount` if the window of `expiry` seconds then holds at most `limit`; tell whether it did."""
        window, entry = self._whole(key, expiry), self.entry(Entry(key, amount, expiry))
        return bool(self.call("acquire", window=window, entry=entry, most=limit))

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """Return the start of the oldest bucket in use (epoch seconds) and what the window holds."""
        del limit
        held, oldest = self.call("window", window=self._whole(key, expiry))
        return self._clock() if oldest is None else float(oldest * bucket_seconds(expiry)), held

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count `amount` and return what the window holds."""
        window, entry = self._whole(key, expiry), self.entry(Entry(key, amount, expiry))
        return int(self.call("increase", window=window, entry=entry))

    def get(self, key: str) -> int:
        """Return everything that is kept for a key."""
        fields = self.storage.hgetall(self.prefixed_key(key))
        return sum(int(amount) for name, amount in fields.items() if name.isdigit())

    def get_expiry(self, key: str) -> float:
        """Return when the last bucket of a key lapses, in epoch seconds."""
        seconds = int(self.storage.ttl(self.prefixed_key(key))) - SPARE_SECONDS
        return self._clock() + max(0, seconds)

    def _whole(self, key: str, expiry: int) -> list[object]:
        return self.window(Window((key,), expiry, expiry))


def bytes_of(text: str) -> bytes:
    """Return a text as it is stored: whatever a client sent, half a surrogate too."""
    return text.encode("utf-8", "surrogatepass")


def text_of(stored: bytes) -> str:
    """Return a text that was stored."""
    return stored.decode("utf-8", "surrogatepass")
