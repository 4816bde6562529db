"""Tallies show Prometheus the samples that its own instruments would show."""

from __future__ import annotations

import random

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from tidemark.tally import HistogramTally, Tally

BOUNDS = (0.05, 0.5, 1, 30)


def shown(registry: CollectorRegistry) -> list[str]:
    """The text of a scrape without the creation times of series."""
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]


def test_a_counter_shows_the_same() -> None:
    expected, tallied = CollectorRegistry(), CollectorRegistry()
    counter, tally = (
        Counter("reads_total", "Reads", ["a", "b"], registry=expected),
        Tally("reads_total", "Reads", ["a", "b"], tallied),
    )
    for values in [("x", "1"), ("y", "2"), ("x", "1")]:
        counter.labels(*values).inc()
        tally.add(*values)
    assert shown(tallied) == shown(expected)


def test_a_histogram_shows_the_same_at_and_around_its_bounds() -> None:
    expected, tallied = CollectorRegistry(), CollectorRegistry()
    histogram = Histogram("seconds", "Time", ["code"], buckets=BOUNDS, registry=expected)
    tally = HistogramTally("seconds", "Time", ["code"], BOUNDS, tallied)
    chance = random.Random(7)
    for amount in [0.0, *BOUNDS, 31.0, *(chance.uniform(0, 40) for _ in range(100))]:
        code = chance.choice((200, 304))
        histogram.labels(code).observe(amount)
        tally.observe(amount, code)
    assert shown(tallied) == shown(expected)
