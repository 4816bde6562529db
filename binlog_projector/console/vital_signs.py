"""The console's figures, each second: of the projector, and of the readers and audits in the settings."""

from __future__ import annotations

import contextlib
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from binlog_projector.leading.health import Health, seconds
from reader.read_model.cached_values import Watermark
from reader.read_model.control import Checkpoint
from tidemark.logs import Event

INTERVAL_SECONDS = 1.0
HISTORY_SECONDS = 15 * 60
RECENT = 10  # samples
FEW_LOOKUPS = 10  # of cold entries; no sign of a cache that is away
SERVICES = {"tidemark_writer_pool_connections": "writer", "tidemark_replica_size": "reader"}  # by a metric
TIMEOUT_SECONDS = 1.0
Families = Sequence[Metric]
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # admin ports are not behind a proxy
WITHOUT_MONGODB = (("local", "hit"), ("redis", "hit"), ("redis", "absent"))


@dataclass(frozen=True)
class Counts:
    """Counters at one moment; rates are made of their growth."""

    at: float
    transactions: float
    rows: float
    batches: float
    writes: float
    reads: float
    lookups: float
    hits: float


@dataclass(frozen=True)
class Point:
    """One second of the charts; None: there was nothing to measure."""

    at: float  # Unix seconds
    lag_seconds: float | None
    transactions_per_s: float
    batch_transactions: float | None
    reads_per_s: float
    hit_ratio: float | None


class VitalSigns:
    """A thread that takes a sample each second; `points` are those of the last 15 minutes."""

    def __init__(
        self,
        health: Health,
        admin_urls: Sequence[str],
        errors: deque[Event],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.health = health
        self.admin_urls = admin_urls
        self.errors = errors
        self.clock = clock
        self.points: deque[Point] = deque(maxlen=int(HISTORY_SECONDS / INTERVAL_SECONDS))
        self.latest: dict[str, Any] = {}
        self.stopping = threading.Event()
        self._recent: deque[Counts] = deque(maxlen=RECENT)
        self._services: dict[str, str] = {}  # admin URL -> the service that has answered there
        self._rows_per_s = self._writes_per_s = 0.0
        self._thread = threading.Thread(target=self._run, name="vital signs", daemon=True)

    def __enter__(self) -> VitalSigns:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stopping.set()
        self._thread.join(timeout=5)

    def sample(self) -> dict[str, Any]:
        """The latest point, and all values beside the charts."""
        own = list(self.health.metrics.registry.collect())
        others = {url: families_of(url) for url in self.admin_urls}
        self._services |= {
            url: service for url, families in others.items() if (service := _service(families))
        }
        seen = [family for families in others.values() if families for family in families]
        point = self._point(own, seen)
        self.points.append(point)
        return {
            "point": asdict(point),
            "boxes": {
                **self._boxes(),
                "writer": self._writer_box(others),
                "reader": self._reader_box(others),
            },
            "leader": self.health.leads,
            "epoch": self.health.epoch,
            "rows_per_s": self._rows_per_s,
            "writes_per_s": self._writes_per_s,
            "checkpoint": _position(self.health.checkpoint),
            "watermark": _position(self.health.watermark),
            "shards": self._shards(),
            "announcements": {
                outcome: total(own, "tidemark_cache_announcements_total", outcome=outcome)
                for outcome in ("sent", "refused")
            },
            "audit": _audit(seen),
            "errors": [*self.errors][::-1],
        }

    def _run(self) -> None:
        while not self.stopping.wait(INTERVAL_SECONDS):
            self.latest = self.sample()

    def _point(self, own: Families, others: Families) -> Point:
        now = self._count(own, others)
        before = self._recent[-1] if self._recent else now
        self._recent.append(now)
        seconds = max(now.at - before.at, INTERVAL_SECONDS / 2)
        batches, lookups = now.batches - before.batches, now.lookups - before.lookups
        transactions = now.transactions - before.transactions
        self._rows_per_s = (now.rows - before.rows) / seconds
        self._writes_per_s = max(0.0, now.writes - before.writes) / seconds
        return Point(
            at=now.at,
            lag_seconds=total(own, "tidemark_projector_lag_seconds") if self.health.leads else None,
            transactions_per_s=transactions / seconds,
            batch_transactions=transactions / batches if batches else None,
            reads_per_s=max(0.0, now.reads - before.reads) / seconds,
            hit_ratio=(now.hits - before.hits) / lookups if lookups > 0 else None,
        )

    def _count(self, own: Families, others: Families) -> Counts:
        lookups, requests = "tidemark_cache_requests_total", "tidemark_http_request_duration_seconds_count"
        hits = sum(total(others, lookups, layer=layer, result=result) for layer, result in WITHOUT_MONGODB)
        return Counts(
            at=self.clock(),
            transactions=total(own, "tidemark_projector_transactions_total"),
            rows=total(own, "tidemark_projector_rows_total"),
            batches=total(own, "tidemark_projector_batch_transactions_count"),
            writes=total(others, requests, service="writer"),
            reads=total(others, requests, service="reader"),
            lookups=hits + total(others, lookups, layer="mongo"),
            hits=hits,
        )

    def _boxes(self) -> dict[str, dict[str, Any]]:
        parts = self.health.parts
        if not self.health.leads:
            standing_by = {"ok": True, "state": "another projector leads"}
            return {
                "projector": {"ok": True, "state": "standing by"},
                **dict.fromkeys(("mysql", "mongodb", "redis"), standing_by),
            }
        states = {"mysql": parts["source"], "mongodb": parts["mongodb"], "redis": parts["redis"]}
        boxes = {name: {"ok": state == "ok", "state": state} for name, state in states.items()}
        return {"projector": {"ok": True, "state": "leading"}, **boxes}

    def _shards(self) -> list[dict[str, Any]]:
        """The shards of a cluster. `lag_seconds`: None while the shard is away."""
        marks, now = self.health.watermarks, self.clock()
        if len(marks) == 1 or not self.health.leads:
            return []
        return [
            {
                "shard": shard,
                "seq": mark.seq if mark else None,
                "lag_seconds": max(0.0, now - seconds(mark.as_of)) if mark else None,
            }
            for shard, mark in marks.items()
        ]

    def _writer_box(self, others: Mapping[str, Families | None]) -> dict[str, Any]:
        of_writers = {url: each for url, each in others.items() if self._services.get(url) == "writer"}
        return _box(of_writers)

    def _reader_box(self, others: Mapping[str, Families | None]) -> dict[str, Any]:
        first, last = self._recent[0], self._recent[-1]
        if last.lookups - first.lookups >= FEW_LOOKUPS and last.hits == first.hits:
            return {"ok": False, "state": "reads come from MongoDB"}
        return _box({url: each for url, each in others.items() if self._services.get(url) != "writer"})


def families_of(admin_url: str) -> Families | None:
    """The metrics of another service, or None if it does not answer."""
    with (
        contextlib.suppress(OSError, ValueError),
        DIRECT.open(f"{admin_url}/metrics", timeout=TIMEOUT_SECONDS) as answer,
    ):
        return list(text_string_to_metric_families(answer.read().decode()))
    return None


def total(families: Iterable[Metric], name: str, **labels: str) -> float:
    """The sum of all samples with this name and these labels."""
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def _service(families: Families | None) -> str | None:
    """The service that has these metrics, unless it is an audit or silent."""
    return next((SERVICES[each.name] for each in families or () if each.name in SERVICES), None)


def _box(others: Mapping[str, Families | None]) -> dict[str, Any]:
    silent = [url for url, families in others.items() if families is None]
    if silent:
        return {"ok": False, "state": f"no answer from {', '.join(silent)}"}
    return {"ok": True, "state": "ok" if others else "not watched: see TIDEMARK_CONSOLE_ADMIN_URLS"}


def _position(of: Checkpoint | Watermark | None) -> dict[str, Any] | None:
    return asdict(of) if of else None


def _audit(families: Families) -> dict[str, float] | None:
    names = {"verified_through": "tidemark_audit_verified_through_timestamp_seconds"}
    names |= {"differences": "tidemark_audit_differences"}
    if not any(family.name == names["differences"] for family in families):
        return None
    return {key: total(families, name) for key, name in names.items()}
