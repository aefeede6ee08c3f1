"""`add` and `observe`: the one line that code under measurement needs. They never raise, whatever happens here.

A process that has not called `start` measures nothing: commands, tests, and daemons whose settings say `off`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from deliverypools.adapters.metrics.definitions import Metric
from deliverypools.adapters.metrics.exchange import Publisher
from deliverypools.adapters.metrics.recorder import Recorder
from deliverypools.core.settings import Settings

PUBLISH_SECONDS: Final = 2.0

_log = logging.getLogger(__name__)


class _Measuring:
    """The recorder of this process, and what hands its numbers on."""

    def __init__(self, recorder: Recorder, publisher: Publisher) -> None:
        self.recorder = recorder
        self.publisher = publisher
        self.stopping = threading.Event()
        self.is_reported = False

    def publish_for_ever(self) -> None:
        while not self.stopping.wait(PUBLISH_SECONDS):
            self.publisher.publish()


_measuring: _Measuring | None = None


def start(settings: Settings, role: str, *, has_thread: bool = True) -> None:
    """Begin to measure, from zero: a forked child has nothing to do with what its parent counted.

    Without a thread of its own (a process that forks must have none), numbers are handed on by `publish` alone.
    """
    global _measuring  # noqa: PLW0603  (as the log: one for the process)
    _measuring = None
    if settings.metrics.listen is None:
        return
    recorder = Recorder(settings.pools)
    _measuring = _Measuring(recorder, Publisher(Path(settings.metrics.directory), role, recorder))
    if has_thread:
        _measuring.publisher.publish()
        threading.Thread(target=_measuring.publish_for_ever, name="metrics", daemon=True).start()


def publish() -> None:
    """Hand the numbers on now."""
    if _measuring is not None:
        _measuring.publisher.publish()


def stop() -> None:
    """Hand the numbers on for the last time."""
    global _measuring
    ending, _measuring = _measuring, None
    if ending is not None:
        ending.stopping.set()
        ending.publisher.publish(is_last=True)


def add(metric: Metric, *values: str) -> None:
    """Count something, with a value for each label of the metric."""
    measuring = _measuring
    if measuring is not None:
        try:
            measuring.recorder.add(metric, values)
        except Exception:  # noqa: BLE001  (mail goes on, whatever is wrong with a number)
            _report(measuring)


def observe(metric: Metric, seconds: float, *values: str) -> None:
    """Take a duration, with a value for each label of the metric."""
    measuring = _measuring
    if measuring is not None:
        try:
            measuring.recorder.observe(metric, values, seconds)
        except Exception:  # noqa: BLE001
            _report(measuring)


def quietly(count: Callable[[], None]) -> None:
    """Run what finds out what is to be counted; an exception is logged, and goes no further."""
    measuring = _measuring
    if measuring is not None:
        try:
            count()
        except Exception:  # noqa: BLE001
            _report(measuring)


def _report(measuring: _Measuring) -> None:
    if not measuring.is_reported:
        measuring.is_reported = True
        _log.exception("something could not be counted; it is not told again")
