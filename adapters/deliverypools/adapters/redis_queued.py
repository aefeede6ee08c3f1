"""What was queued before Delivery Pools was installed, on a Redis server; see `state`."""

from __future__ import annotations

from collections.abc import Collection

from deliverypools.adapters.redis_base import RedisBase, row_of, text_of_row, ttl
from deliverypools.adapters.redis_counters import PREFIX, bytes_of
from deliverypools.adapters.state import QUEUED_SECONDS


class RedisQueued(RedisBase):
    """A part of the shared state."""

    def remember_queued(self, host: str, queue_ids: Collection[str]) -> None:
        """Note which queue files were there; see `State.remember_queued`."""
        row = bytes_of(text_of_row({"at": self._clock()}))
        with self._server() as server, server.storage.pipeline(transaction=False) as pipeline:
            for queue_id in queue_ids:
                pipeline.set(_key(host, queue_id), row, ex=ttl(QUEUED_SECONDS))
            pipeline.execute()

    def queued_since(self, host: str, queue_id: str) -> float | None:
        """Return when a queue file was noted; see `State.queued_since`."""
        with self._server() as server:
            stored = server.storage.get(_key(host, queue_id))
            at = _time(stored) if stored else None
        return at if at is not None and at + QUEUED_SECONDS > self._clock() else None


def _key(host: str, queue_id: str) -> bytes:
    return bytes_of(f"{PREFIX}:queued:{len(host)}:{host}:{queue_id}")


def _time(stored: bytes) -> float:
    try:
        return float(row_of(stored)["at"])
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"what is known of a queue file is damaged: {error}") from error
