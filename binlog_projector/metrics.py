"""All metrics of the projector; docs/metrics.md says what each means."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from tidemark.build import build_info

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
STAGES = ("source", "mongodb", "redis")
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 4_000)


class ProjectorMetrics:
    """The projector's instruments on a registry of their own."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.build_info = build_info(registry)
        self.lag = Gauge(
            "tidemark_projector_lag_seconds",
            "Now minus the moment up to which everything is served",
            registry=registry,
        )
        self.as_of = Gauge(
            "tidemark_projector_as_of_timestamp_seconds",
            "MySQL's clock when all it had committed was applied",
            ["stage"],
            registry=registry,
        )
        self.transactions = Counter(
            "tidemark_projector_transactions_total", "Transactions committed to MongoDB", registry=registry
        )
        self.rows = Counter(
            "tidemark_projector_rows_total", "Row changes committed to MongoDB", registry=registry
        )
        self.partial_rows = Gauge(
            "tidemark_projector_partial_rows",
            "Row changes applied of a transaction whose end has not come yet",
            registry=registry,
        )
        self.batch_transactions = Histogram(
            "tidemark_projector_batch_transactions",
            "Transactions per batch",
            buckets=SIZES,
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "tidemark_projector_stage_seconds",
            "Time per batch",
            ["stage"],
            buckets=SECONDS,
            registry=registry,
        )
        self.busy = Gauge(
            "tidemark_projector_stage_busy_seconds",
            "How long a stage has been at its current operation",
            ["stage"],
            registry=registry,
        )
        self.visibility = Histogram(
            "tidemark_projector_visibility_seconds",
            "From commit in MySQL to applied in MongoDB and Redis",
            buckets=SECONDS,
            registry=registry,
        )
        self.applies = Counter(
            "tidemark_cache_applies_total", "Cache keys by what APPLY did", ["action"], registry=registry
        )
        self.announcements = Counter(
            "tidemark_cache_announcements_total",
            "Announcements to readers, one for each APPLY",
            ["outcome"],
            registry=registry,
        )
        self.epochs = Counter(
            "tidemark_cache_epochs_total",
            "New cache epochs (the cache starts empty)",
            ["reason"],
            registry=registry,
        )
        self.errors = Counter(
            "tidemark_projector_errors_total", "Errors by kind", ["kind"], registry=registry
        )
        self.repairs = Counter(
            "tidemark_projector_repairs_total", "Repairs asked for by audits", ["outcome"], registry=registry
        )
        self.swaps = Counter(
            "tidemark_projector_swaps_total",
            "Comparisons of a watched table that a tool has swapped for a copy",
            ["outcome"],
            registry=registry,
        )
        self.binlog_expire = Gauge(
            "tidemark_source_binlog_expire_seconds",
            "How long MySQL keeps its binlog; 0: for ever",
            registry=registry,
        )
        self.waiting = Gauge(
            "tidemark_projector_waiting_bytes", "Bytes that wait for a stage", ["stage"], registry=registry
        )
        self.journal = Gauge(
            "tidemark_projector_journal_batches", "Batches in the journal", registry=registry
        )
        self.leader = Gauge(
            "tidemark_projector_leader", "1 while this projector holds the lease", registry=registry
        )
        self.seq = Gauge("tidemark_projector_seq", "Last batch by stage", ["stage"], registry=registry)
        self.shard_as_of = Gauge(
            "tidemark_cache_shard_as_of_timestamp_seconds",
            "As tidemark_projector_as_of_timestamp_seconds, for each shard of the cache",
            ["shard"],
            registry=registry,
        )
        self.shard_away = Gauge(
            "tidemark_cache_shard_away",
            "1 while MongoDB answers the reads of a shard",
            ["shard"],
            registry=registry,
        )
        self._as_of_seconds = clock()
        self.lag.set_function(lambda: max(0.0, clock() - self._as_of_seconds))

    def served_as_of(self, seconds: float) -> None:
        """Note that MongoDB, and Redis unless it is down, have all commits up to `seconds` (since 1970)."""
        self._as_of_seconds = seconds


class AuditMetrics:
    """The audit's instruments on a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.build_info = build_info(registry)
        self.verified_through = Gauge(
            "tidemark_audit_verified_through_timestamp_seconds",
            "MySQL's clock when the last pass without a difference left began",
            registry=registry,
        )
        self.differences = Gauge(
            "tidemark_audit_differences", "Differences that the last pass left unrepaired", registry=registry
        )
        self.documents = Counter(
            "tidemark_audit_documents_total", "Documents compared with MySQL", ["result"], registry=registry
        )
        self.samples = Counter(
            "tidemark_audit_samples_total",
            "Cache entries and answers compared with MySQL",
            ["store", "result", "after_seconds"],
            registry=registry,
        )
        self.staleness = Gauge(
            "tidemark_audit_staleness_seconds",
            "The greatest possible age of a store's values",
            ["store"],
            registry=registry,
        )
        self.repaired = Counter(
            "tidemark_audit_repaired_total", "Differences that were gone after a repair", registry=registry
        )
