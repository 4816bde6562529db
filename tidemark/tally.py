"""Counters for hot paths: an addition to a dict there, a metric only when somebody scrapes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector


class Tally(Collector):
    """A labelled counter. One event loop adds to it, so there is no lock; `name` ends in _total."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        self.name = name
        self.documentation = documentation
        self.labels = labels
        self.counts: dict[tuple[str, ...], int] = defaultdict(int)
        registry.register(self)

    def add(self, *values: str) -> None:
        """Count one event with these values of the labels, in their order."""
        self.counts[values] += 1

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(self.name.removesuffix("_total"), self.documentation, labels=self.labels)
        for values, count in self.counts.copy().items():
            family.add_metric(values, count)
        yield family
