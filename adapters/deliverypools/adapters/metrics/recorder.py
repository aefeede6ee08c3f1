"""The numbers of one process, in its memory."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from deliverypools.adapters.metrics.definitions import OTHER, Kind, Metric

Series: TypeAlias = tuple[Metric, tuple[str, ...]]
"""A metric, and a value for each of its labels."""
Numbers: TypeAlias = list[float]
"""Of a counter one; of a histogram how many fell into each bucket, those beyond the last one, and the sum of all."""


def width(metric: Metric) -> int:
    """Return how many numbers a series of a metric has."""
    return len(metric.buckets) + 2 if metric.kind is Kind.HISTOGRAM else 1


class Recorder:
    """Counts. Every method may be called from any thread; none does any input or output."""

    def __init__(self, pools: Iterable[str] = ()) -> None:
        """Take the names of the pools, which are values of labels too."""
        self._pools = frozenset(pools)
        self._lock = threading.Lock()
        self._numbers: dict[Series, Numbers] = {}

    def add(self, metric: Metric, values: tuple[str, ...], by: float = 1.0) -> None:
        """Count something."""
        with self._lock:
            numbers = self._numbers.get((metric, values)) or self._new(metric, values)
            numbers[0] += by

    def observe(self, metric: Metric, values: tuple[str, ...], amount: float) -> None:
        """Take a measured amount into a histogram."""
        with self._lock:
            numbers = self._numbers.get((metric, values)) or self._new(metric, values)
            numbers[bisect_left(metric.buckets, amount)] += 1
            numbers[-1] += amount

    def snapshot(self) -> dict[Series, Numbers]:
        """Return a copy of all numbers."""
        with self._lock:
            return {series: list(numbers) for series, numbers in self._numbers.items()}

    def forget(self, known: Mapping[Series, Numbers]) -> None:
        """Take away what somebody else keeps from now on."""
        with self._lock:
            for series, numbers in known.items():
                if own := self._numbers.get(series):
                    own[:] = [have - gone for have, gone in zip(own, numbers, strict=True)]

    def _new(self, metric: Metric, values: tuple[str, ...]) -> Numbers:
        """Return the numbers of a series that was not asked for before, or of the one that stands for others.

        Raises:
            ValueError: there is not one value for each label.
        """
        known = tuple(
            value if value in label.values or (label.has_pools and value in self._pools) else OTHER
            for label, value in zip(metric.labels, values, strict=True)
        )
        return self._numbers.setdefault((metric, known), [0.0] * width(metric))
