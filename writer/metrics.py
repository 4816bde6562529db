"""The writer's metrics, each with its meaning."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector

from tidemark.build import build_info
from tidemark.queueing import refusals
from tidemark.tally import HistogramTally, Tally

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
BUILD_INFO = build_info(REGISTRY)
REFUSED = refusals(REGISTRY)

REQUESTS = HistogramTally(
    "tidemark_http_request_duration_seconds",
    "Time from a request's head to the end of its answer",
    ("service", "route", "method", "code"),
    (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1),
    REGISTRY,
)
COMMANDS = Tally(
    "tidemark_writer_commands_total",
    "Commands by result: done, replayed (answered from an Idempotency-Key), or the name of the problem",
    ("command", "result"),
    REGISTRY,
)
RETRIES = Counter(
    "tidemark_writer_retries_total",
    "Transactions that were run again, by the reason of the interruption",
    ("reason",),
    registry=REGISTRY,
)
POOL = Gauge(
    "tidemark_writer_pool_connections",
    "Places of the connection pool: in_use, free; and requests waiting for one",
    ("state",),
    registry=REGISTRY,
)
DECISIONS = Tally(
    "tidemark_authorizer_decisions_total",
    "Bearer tokens judged, by source (cache, verify) and"
    " result (allow, unauthorized, forbidden, unavailable)",
    ("source", "result"),
    REGISTRY,
)


def observe_request(method: str, route: str, status: int, seconds: float) -> None:
    REQUESTS.observe(seconds, "writer", route, method, status)
