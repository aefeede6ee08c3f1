"""A log that a flood cannot fill: one line a minute for each kind of trouble, with the number of those left out."""

from __future__ import annotations

import logging
import time
from typing import Final

EVERY_SECONDS: Final = 60.0


class SparingLog:
    """Writes the first line of a kind at once, and at most one more a minute. `kind` is one of a few constants."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._written_at: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def write(self, level: int, kind: str, text: str, error: BaseException | None = None) -> None:
        """Write a line, with the traceback of an error, or count it."""
        now = time.monotonic()
        if now - self._written_at.get(kind, -EVERY_SECONDS) < EVERY_SECONDS:
            self._left_out[kind] = self._left_out.get(kind, 0) + 1
            return
        self._written_at[kind] = now
        left_out = self._left_out.pop(kind, 0)
        more = f" ({left_out} more like it since the last such line)" if left_out else ""
        self._log.log(level, "%s%s", text, more, exc_info=error)
