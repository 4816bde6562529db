"""All metrics of the reader; docs/metrics.md says what each means."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector

from tidemark.build import build_info
from tidemark.queueing import refusals
from tidemark.tally import HistogramTally, Tally

SERVICE = "reader"
REQUEST_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)
LIVE_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10)
ROUNDS = (0, 1, 2, 3, 4, 5, 6)
FRESHNESS_SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


class ReaderMetrics:
    """The reader's instruments on a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        ProcessCollector(registry=registry)
        self.build_info = build_info(registry)
        self.refused = refusals(registry)
        self.cache_requests = Tally(
            "tidemark_cache_requests_total",
            "Lookups of entities and lists: local gives hit; redis hit, absent, miss or lease_wait; "
            "mongo hit, absent or error",
            ["layer", "entity", "result"],
            registry,
        )
        self.cache_fills = Tally(
            "tidemark_cache_fills_total",
            "Fills by outcome: stored, lease_lost, behind_watermark or error",
            ["entity", "result"],
            registry,
        )
        self.replica_drops = Tally(
            "tidemark_replica_drops_total",
            "Entries that left the replica: named by a message, for memory, or by a reset",
            ["cause"],
            registry,
        )
        self.replica_size = Gauge(
            "tidemark_replica_size", "What the replica holds", ["unit"], registry=registry
        )
        self.tide_resets = Tally(
            "tidemark_tide_resets_total",
            "Times that the tide was lost: its connection ended, what came did not continue it, or was late",
            ["cause"],
            registry,
        )
        self.shards_away = Gauge(
            "tidemark_tide_shards_away", "Shards of the cache that are not at the tide", registry=registry
        )
        self.tide_age = Gauge("tidemark_tide_age_seconds", "Now minus the tide's as-of", registry=registry)
        self.blind_seconds = Gauge(
            "tidemark_tide_blind_seconds", "Time without a usable tide since the start", registry=registry
        )
        self.rounds = HistogramTally(
            "tidemark_answer_rounds",
            "Levels of an answer that needed Redis or MongoDB",
            [],
            ROUNDS,
            registry,
        )
        self.redis_commands = Tally(
            "tidemark_redis_commands_total", "Commands sent to Redis by requests", [], registry
        )
        self.mongodb_reads = Tally(
            "tidemark_mongodb_reads_total", "Reads of MongoDB, by collection", ["collection"], registry
        )
        self.sessions = Tally(
            "tidemark_session_answers_total",
            "Answers from one snapshot of MongoDB at present, by the reason",
            ["reason"],
            registry,
        )
        self.request_seconds = HistogramTally(
            "tidemark_http_request_duration_seconds",
            "Time from request to answer",
            ["service", "route", "method", "code"],
            REQUEST_SECONDS,
            registry,
        )
        self.decisions = Tally(
            "tidemark_authorizer_decisions_total",
            "Decisions on bearer tokens, by their source (cache, verify) and their result",
            ["source", "result"],
            registry,
        )
        self.consistency = Tally(
            "tidemark_consistency_reads_total",
            "Reads with a consistency token: immediate, waited, mongo or failed",
            ["outcome"],
            registry,
        )
        self.consistency_wait = HistogramTally(
            "tidemark_consistency_wait_seconds",
            "How long reads waited for the watermark to contain their token",
            [],
            REQUEST_SECONDS,
            registry,
        )
        self.freshness = HistogramTally(
            "tidemark_freshness_bound_seconds",
            "How old an answer may be: now minus its oldest part's as-of",
            [],
            FRESHNESS_SECONDS,
            registry,
        )
        self.mongodb_places = Gauge(
            "tidemark_reader_mongodb_places",
            "Places for reads of MongoDB, and the reads that wait for one",
            ["state"],
            registry=registry,
        )
        self.live_connections = Gauge(
            "tidemark_live_connections", "Connections of clients that watch", registry=registry
        )
        self.live_limit = Gauge(
            "tidemark_live_limit", "Connections of clients that watch, at most", registry=registry
        )
        self.live_due = Gauge(
            "tidemark_live_due_seconds",
            "How long the changed read that waits longest has waited for its new state",
            registry=registry,
        )
        self.live_watches = Gauge(
            "tidemark_live_watches", "Reads that are watched, each counted once", registry=registry
        )
        self.live_states = Tally(
            "tidemark_live_states_total", "States sent to clients that watch", ["transport"], registry
        )
        self.live_delay = HistogramTally(
            "tidemark_live_delay_seconds",
            "From the message that names a key of a watched read to the sending of its new state",
            [],
            LIVE_SECONDS,
            registry,
        )
        self.live_ends = Tally(
            "tidemark_live_ends_total",
            "Ended connections of clients that watched, by reason",
            ["transport", "reason"],
            registry,
        )
        self.worker_restarts = Counter(
            "tidemark_reader_worker_restarts_total",
            "Times that a worker of --workers was started again",
            ["worker"],
            registry=registry,
        )

    def observe_request(self, method: str, route: str, code: int, seconds: float) -> None:
        self.request_seconds.observe(seconds, SERVICE, route, method, code)
