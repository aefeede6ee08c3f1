"""Waiting for readiness: ask again until it is so, with a deadline; never a fixed pause."""

import threading
import time
from collections.abc import Callable

POLL_INTERVAL_SECONDS = 0.02


def wait_until(condition: Callable[[], bool], *, timeout_seconds: float, what: str) -> None:
    """Return when `condition` holds.

    Raises:
        TimeoutError: it did not hold within `timeout_seconds`; the message names `what`.

    """
    deadline = time.monotonic() + timeout_seconds
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_seconds:g} seconds")
        pause.wait(POLL_INTERVAL_SECONDS)
