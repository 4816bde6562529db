"""The projector: MySQL's binlog -> transactions -> batches -> one MongoDB transaction each -> one APPLY each.

A leader opens the build that serves (or takes a snapshot), connects to MySQL right behind its checkpoint, and
projects. After any failure it continues from the checkpoint in MongoDB and the watermark in Redis. It needs
nothing from memory.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Iterator

import structlog

from binlog_projector.backoff import Backoff
from binlog_projector.domain.projections import project
from binlog_projector.errors import (
    CacheMoved,
    PositionLost,
    Retry,
    SourceUnavailable,
    StandDown,
    Stop,
    StoreUnavailable,
    TableSwapped,
)
from binlog_projector.fault_points import reached
from binlog_projector.leading.batcher import Batcher
from binlog_projector.leading.cache_thread import CacheThread, CacheThreads
from binlog_projector.leading.health import Health
from binlog_projector.leading.housekeeping import Housekeeping
from binlog_projector.leading.lease import Lease, Standby
from binlog_projector.leading.rebuild import Rebuild
from binlog_projector.leading.steps import Steps
from binlog_projector.leading.swap import Comparison
from binlog_projector.mysql.failover import Servers
from binlog_projector.mysql.freshness import ClockThread, Freshness
from binlog_projector.mysql.source import Stream
from binlog_projector.snapshot.snapshot import take_snapshot
from binlog_projector.stores.audit_store import AuditStore
from binlog_projector.stores.cache_nodes import CacheNode
from binlog_projector.stores.cache_topology import CacheTopology
from binlog_projector.stores.control_store import ControlStore
from binlog_projector.stores.document_store import DocumentStore
from tidemark.gtid import Gtid

log = structlog.get_logger()


class Projector:
    """One process of any number: leads while it holds the lease, stands by otherwise."""

    def __init__(
        self,
        servers: Servers,
        control: ControlStore,
        topology: CacheTopology,
        housekeeping: Housekeeping,
        health: Health,
        chance: random.Random,
        stopping: threading.Event,
        commit_interval_seconds: float,
        rebuild_if_lost: Rebuild | None = None,
    ) -> None:
        self.servers = servers
        self.control = control
        self.topology = topology
        self.housekeeping = housekeeping
        self.health = health
        self.chance = chance
        self.backoff = Backoff(chance)
        self.stopping = stopping
        self.commit_interval_seconds = commit_interval_seconds
        self.rebuild_if_lost = rebuild_if_lost
        self.verified: set[Gtid] = set()  # swaps of tables; after a restart, they are compared again

    def run(self) -> None:
        """Project until `stopping` is set. Raises Stop when an operator has to act."""
        while not self.stopping.is_set():
            try:
                standby = Standby(self.control.lease, looked=self.health.looked, says=self.health.says)
                with standby.leadership(self.stopping) as lease:
                    if lease is not None:
                        self._lead(lease)
            except Retry as error:
                self._pause(error)
            except StandDown as error:
                log.warning("standing down", reason=str(error))
            finally:
                self.health.led(None)

    def _lead(self, lease: Lease) -> None:
        """Project until told to stop, or until another process asks for the lease."""
        self.health.led(lease.epoch)
        try:
            while self._goes_on(lease):
                self._lead_once(lease)
        except Stop as error:
            self.health.part("lease", f"stopped: {type(error).__name__}: {error}")
            raise

    def _lead_once(self, lease: Lease) -> None:
        try:
            with self._opened(lease) as (documents, stream):
                self._project(documents, stream, lease)
        except PositionLost as error:
            self._rebuild(error, lease)
        except CacheMoved as error:
            log.info("beginning again", reason=str(error))
        except Retry as error:
            self._pause(error)

    def _goes_on(self, lease: Lease) -> bool:
        return not (self.stopping.is_set() or lease.wanted.is_set())

    def _rebuild(self, error: PositionLost, lease: Lease) -> None:
        """Rebuild unattended, while this process leads: no other one can project either."""
        if self.rebuild_if_lost is None:
            raise error
        log.error("rebuilding", kind=type(error).__name__, reason=str(error))
        self.health.part("source", f"rebuilding: {error}")
        self.rebuild_if_lost.run(contextlib.nullcontext(lease), lease.wanted)

    @contextlib.contextmanager
    def _opened(self, lease: Lease) -> Iterator[tuple[DocumentStore, Stream]]:
        """The serving build and the stream right behind it. The first time, a snapshot makes both."""
        documents = self.control.open_serving(lease.epoch)
        if documents is None:
            source = self.servers.usable()
            documents, stream = take_snapshot(source, self.control, lease.epoch, self.stopping, lease.wanted)
            documents.serve(None, documents.position.checkpoint.as_of)
        else:
            stream = self.servers.stream(documents.position, lambda table, gtid: gtid in self.verified)
        self.health.metrics.binlog_expire.set(self.servers.retention_seconds)
        with contextlib.closing(stream):
            yield documents, stream

    def _project(self, documents: DocumentStore, stream: Stream, lease: Lease) -> None:
        freshness = Freshness(documents.position.checkpoint.as_of)
        at = documents.position
        log.info("streaming", build=documents.build, gtid_set=at.checkpoint.gtid_set, rows_of=at.rows_of)
        batcher = Batcher(documents.position.gtid_set, project, self.commit_interval_seconds)
        with (
            self.housekeeping.running(),
            ClockThread(stream.source, freshness),
            self.health.watched("source", stream.silent_seconds),
            contextlib.closing(batcher),
            CacheThreads([self._cache_thread(node) for node in self.topology.open(documents)]) as cache,
            self.health.caching(lambda: cache.watermarks),
        ):
            self.health.metrics.waiting.labels("mongodb").set_function(lambda: batcher.size)
            self.health.metrics.waiting.labels("redis").set_function(lambda: cache.size)
            stream.start(batcher)
            steps = Steps(batcher, documents, cache, freshness, self.health)
            try:
                while self._goes_on(lease):
                    steps.step()
                    self.backoff.reset()
            except TableSwapped as swap:
                self._compare(swap, documents, lease)

    def _compare(self, swap: TableSwapped, documents: DocumentStore, lease: Lease) -> None:
        """Hold the stream until the new table is proved to be the same. The cache follows meanwhile."""
        log.warning("comparing", table=swap.table, gtid=str(swap.gtid), reason=str(swap))
        reached("before_swap")

        def passes(table: str, gtid: Gtid) -> bool:
            return gtid == swap.gtid or table != swap.table

        position = documents.position
        with contextlib.closing(self.servers.stream(position, passes)) as stream:
            store = AuditStore(self.control.client)
            Comparison(swap, position, stream, store, self.health, lambda: self._goes_on(lease)).run()
        self.verified.add(swap.gtid)

    def _cache_thread(self, node: CacheNode) -> CacheThread:
        """One server alone may hold up commits: no journal need be read again. None of many may."""
        single = not self.topology.url.cluster
        backoff = Backoff(self.chance) if single else Backoff(self.chance, most=1.0)
        return CacheThread(node, self.health, backoff, self.topology.demand_unmoved, patient=single)

    def _pause(self, error: Retry) -> None:
        seconds = self.backoff.next_seconds()
        kind = type(error).__name__
        self.health.metrics.errors.labels(kind).inc()
        away = "away: " if isinstance(error, SourceUnavailable | StoreUnavailable) else ""
        self.health.failed("mongodb" if isinstance(error, StoreUnavailable) else "source", f"{away}{error}")
        log.warning("retrying", error=str(error), kind=kind, seconds=round(seconds, 2))
        self.stopping.wait(seconds)
