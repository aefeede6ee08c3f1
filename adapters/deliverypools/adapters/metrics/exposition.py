"""Numbers as Prometheus reads them: prometheus_client knows the formats."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, product
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.utils import floatToGoString

from deliverypools.adapters.metrics.definitions import METRICS, OTHER, Kind, Metric
from deliverypools.adapters.metrics.recorder import Numbers, Series

_MOST_ZEROS: Final = 60


@dataclass(frozen=True, slots=True)
class Page:
    """What a client gets."""

    content_type: str
    body: bytes


def page(numbers: Mapping[Series, Numbers], accept: str) -> Page:
    """Return all numbers in the format that a client prefers (its header field Accept)."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Numbers(numbers))
    encode, content_type = choose_encoder(accept)
    return Page(content_type, encode(registry))


class _Numbers(Collector):
    def __init__(self, numbers: Mapping[Series, Numbers]) -> None:
        self._numbers = numbers

    def collect(self) -> Iterator[Family]:
        """Yield each metric with what is known of it, in the order of the reference."""
        series: dict[Metric, list[tuple[tuple[str, ...], Numbers]]] = {metric: [] for metric in METRICS}
        for (metric, values), numbers in self._numbers.items():
            series[metric].append((values, numbers))
        for metric, known in series.items():
            yield _family(metric, sorted((_nothing(metric) | dict(known)).items()))


def _nothing(metric: Metric) -> dict[tuple[str, ...], Numbers]:
    """Return the series that a counter has before anything was counted: an alert can see them rise from 0."""
    sets = [sorted(label.values - {OTHER}) for label in metric.labels]
    is_small = not any(label.has_pools for label in metric.labels) and math.prod(map(len, sets)) <= _MOST_ZEROS
    is_whole = metric.kind is Kind.COUNTER and is_small
    return {values: [0.0] for values in (product(*sets) if is_whole else metric.from_zero)}


def _family(metric: Metric, series: Iterable[tuple[tuple[str, ...], Numbers]]) -> Family:
    names = [label.name for label in metric.labels]
    if metric.kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(metric.full_name, metric.text, labels=names)
        for values, numbers in series:
            # Each bucket holds what the smaller ones hold too.
            bounds = [*map(floatToGoString, metric.buckets), "+Inf"]
            buckets = list(zip(bounds, accumulate(numbers[:-1]), strict=True))
            histogram.add_metric(values, buckets, numbers[-1])
        return histogram
    kind = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    family = kind(metric.full_name, metric.text, labels=names)
    for values, numbers in series:
        family.add_metric(values, numbers[0])
    return family
