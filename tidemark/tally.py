"""Metrics for hot paths: an event costs one addition; Prometheus' form is made at a scrape only.

One event loop adds to them, so there are no locks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector


class Tally(Collector):
    """A labelled counter; `name` ends in _total."""

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str], registry: CollectorRegistry
    ) -> None:
        self.name = name
        self.documentation = documentation
        self.labels = labels
        self.counts: dict[tuple[str, ...], int] = defaultdict(int)
        registry.register(self)

    def add(self, *values: str, amount: int = 1) -> None:
        """Count `amount` events; `values` are those of the labels, in their order."""
        self.counts[values] += amount

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(self.name.removesuffix("_total"), self.documentation, labels=self.labels)
        for values, count in self.counts.copy().items():
            family.add_metric(values, count)
        yield family


class HistogramTally(Collector):
    """A labelled histogram; `bounds` are the upper ends of its buckets, ascending."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str],
        bounds: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self.name = name
        self.documentation = documentation
        self.labels = labels
        self.bounds = bounds
        self.counts: dict[tuple[object, ...], list[int]] = defaultdict(lambda: [0] * (len(bounds) + 1))
        self.sums: dict[tuple[object, ...], float] = defaultdict(float)
        registry.register(self)

    def observe(self, amount: float, *values: object, times: int = 1) -> None:
        """Count events of size `amount`; `values` are those of the labels, in their order."""
        self.counts[values][bisect_left(self.bounds, amount)] += times
        self.sums[values] += amount * times

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = HistogramMetricFamily(self.name, self.documentation, labels=self.labels)
        names = [str(float(bound)) for bound in self.bounds] + ["+Inf"]
        for values, counts in self.counts.copy().items():
            buckets = list(zip(names, accumulate(counts), strict=True))
            family.add_metric([str(value) for value in values], buckets, self.sums[values])
        yield family
