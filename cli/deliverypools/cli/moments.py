"""Times on the command line: so long ago, or a day or time in UTC."""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime
from typing import Final

from deliverypools.core.facts import printable
from deliverypools.core.settings.values import duration_seconds

_FORMATS: Final = ("%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ")


def moment(text: str) -> float:
    """Return a time of the command line in seconds since the epoch."""
    for form in _FORMATS:
        try:
            return max(0.0, datetime.strptime(text.strip(), form).replace(tzinfo=UTC).timestamp())
        except ValueError:
            continue
    try:
        return time.time() - duration_seconds(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f'got {printable(text, 40)!r}; write how long ago ("12h", "2d") or a day (UTC, "2026-11-22")'
        ) from None
