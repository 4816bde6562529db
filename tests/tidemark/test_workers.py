"""Workers behind one address count as one service."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tidemark.tally import Tally
from tidemark.workers import combined


def worker(requests: int, seconds: float) -> str:
    registry = CollectorRegistry()
    Counter("http_requests_total", 'a "quoted"\nhelp', ["path"], registry=registry).labels('/a"b\n').inc(requests)
    Histogram("http_seconds", "time", buckets=(0.1, 1), registry=registry).observe(seconds)
    Gauge("process_start_time_seconds", "start", registry=registry).set(1000 + requests)
    tally = Tally("cache_requests_total", "from a dict", ["result"], registry)
    for _ in range(requests):
        tally.add("hit")
    return generate_latest(registry).decode()


def test_what_the_workers_counted_is_added_up() -> None:
    text = combined([worker(2, 0.05), worker(3, 0.5)])
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["http_requests_total", '/a"b\n'] == 5
    assert samples["cache_requests_total", "hit"] == 5
    assert (samples["http_seconds_count",], samples["http_seconds_sum",]) == (2, 0.55)
    assert [samples["http_seconds_bucket", bound] for bound in ("0.1", "1.0", "+Inf")] == [1, 2, 2]
    assert samples["process_start_time_seconds",] == 1002


def test_one_worker_alone_is_unchanged() -> None:
    def values(text: str) -> list[tuple[str, dict[str, str], float]]:
        return [(s.name, s.labels, s.value) for family in text_string_to_metric_families(text) for s in family.samples]

    text = worker(2, 0.05)
    assert values(combined([text])) == values(text)
