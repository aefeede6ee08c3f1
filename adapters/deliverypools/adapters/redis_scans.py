"""What scanners have said, on a Redis server; see `state`."""

from __future__ import annotations

from collections.abc import Collection

from deliverypools.adapters.redis_base import RedisBase, row_of, text_of_row, ttl
from deliverypools.adapters.redis_counters import PREFIX, bytes_of


class RedisScans(RedisBase):
    """A part of the shared state."""

    def remember_scan(self, key: str, text: str, keep_seconds: float) -> None:
        """Keep what a scanner said; see `State.remember_scan`."""
        row = {"text": text, "expires_at": self._clock() + keep_seconds}
        with self._server() as server:
            server.storage.set(_key(key), bytes_of(text_of_row(row)), ex=ttl(keep_seconds))

    def known_scans(self, keys: Collection[str]) -> dict[str, str]:
        """Return what scanners have said; see `State.known_scans`."""
        if not keys:
            return {}
        now = self._clock()
        known = {}
        with self._server() as server:
            for key, stored in zip(keys, server.storage.mget([_key(key) for key in keys]), strict=True):
                text, expires_at = _text_and_end(stored) if stored else ("", 0.0)
                if expires_at > now:
                    known[key] = text
        return known


def _key(key: str) -> bytes:
    return bytes_of(f"{PREFIX}:scan:{key}")


def _text_and_end(stored: bytes) -> tuple[str, float]:
    row = row_of(stored)
    try:
        return str(row["text"]), float(row["expires_at"])
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"a scanner's answer is damaged: {error}") from error
