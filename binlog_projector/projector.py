"""The loop: MySQL's binlog -> whole transactions -> batches -> one MongoDB transaction each -> one Redis APPLY each.

A leader opens the build that serves (or takes a snapshot), connects to the source right behind its checkpoint, and goes
on. Whatever fails, the checkpoint in MongoDB and the watermark in Redis say where: nothing in memory is needed.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator

import structlog

from binlog_projector.batch import Batcher
from binlog_projector.cache import CacheStage, Client
from binlog_projector.control_store import ControlStore
from binlog_projector.document_store import DocumentStore
from binlog_projector.errors import CacheUnavailable, Retry, StandDown
from binlog_projector.failover import Servers
from binlog_projector.freshness import INTERVAL_SECONDS, ClockThread, Freshness
from binlog_projector.health import Health
from binlog_projector.lease import Standby
from binlog_projector.projections import project
from binlog_projector.repair import Repairs
from binlog_projector.snapshot import take_snapshot
from binlog_projector.source import Stream

MONGODB_TICK_SECONDS = 0.5
log = structlog.get_logger()


class Backoff:
    """Waits that double from 0.1 s to 5 s, with jitter, until something succeeds."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.failures = 0

    def next_seconds(self) -> float:
        self.failures += 1
        return float(min(5.0, 0.1 * 2 ** min(self.failures - 1, 10)) * self.chance.uniform(0.5, 1.0))

    def reset(self) -> None:
        self.failures = 0


class Projector:
    """One process of any number: leads while it holds the lease, stands by otherwise."""

    def __init__(
        self,
        servers: Servers,
        control: ControlStore,
        cache_client: Client,
        health: Health,
        chance: random.Random,
    ) -> None:
        self.servers = servers
        self.control = control
        self.cache_client = cache_client
        self.health = health
        self.chance = chance
        self.backoff = Backoff(chance)
        self.stopping = threading.Event()

    def run(self) -> None:
        """Until `stopping` is set. Raises Stop when an operator has to act."""
        while not self.stopping.is_set():
            try:
                with Standby(self.control).leadership(self.stopping) as epoch:
                    if epoch is not None:
                        self._lead(epoch)
            except Retry as error:
                self._pause(error)
            except StandDown as error:
                log.warning("standing down", reason=str(error))
            finally:
                self.health.led(None)

    def rebuild(self) -> int | None:
        """Make a new build from a new snapshot and let it serve; returns its number, None if it was stopped first.

        It needs the lease, so it waits for a running projector to stop. Readers are served from the old build until the
        new one is complete. Raises Stop, Retry and StandDown; then nothing has changed for readers.
        """
        log.info("waiting for the lease; a running projector has to be stopped")
        with Standby(self.control).leadership(self.stopping) as epoch:
            if epoch is None:
                return None
            source = self.servers.usable()
            self.control.open_serving(epoch)  # claims the old build: a paused leader of it could switch back else
            documents, stream = take_snapshot(source, self.control, epoch)
            stream.close()
            with contextlib.suppress(CacheUnavailable):  # then the next start does it
                CacheStage(self.cache_client, documents, self.health.metrics, self.chance).catch_up()
            log.info("former builds dropped", builds=self.control.drop_former(documents.build))
            return documents.build

    def _lead(self, epoch: int) -> None:
        self.health.led(epoch)
        while not self.stopping.is_set():
            try:
                with self._opened(epoch) as (documents, stream):
                    self._project(documents, stream)
            except Retry as error:
                self._pause(error)

    @contextlib.contextmanager
    def _opened(self, epoch: int) -> Iterator[tuple[DocumentStore, Stream]]:
        """The serving build and the stream right behind it; the first time, a snapshot makes both."""
        documents = self.control.open_serving(epoch)
        if documents is None:
            documents, stream = take_snapshot(self.servers.usable(), self.control, epoch)
        else:
            stream = self.servers.stream(documents.position.gtid_set, documents.position.anchor)
        self.health.metrics.binlog_expire.set(self.servers.retention_seconds)
        with contextlib.closing(stream):
            yield documents, stream

    def _project(self, documents: DocumentStore, stream: Stream) -> None:
        cache = CacheStage(self.cache_client, documents, self.health.metrics, self.chance)
        freshness = Freshness(documents.position.checkpoint.as_of)
        log.info("streaming", build=documents.build, gtid_set=documents.position.checkpoint.gtid_set)
        with ClockThread(stream.source, freshness), self.health.watched("source", stream.silent_seconds):
            stream.start()
            steps = Steps(Batcher(stream, project), documents, cache, freshness, self.health, Backoff(self.chance))
            while not self.stopping.is_set():
                steps.step()
                self.backoff.reset()

    def _pause(self, error: Retry) -> None:
        seconds = self.backoff.next_seconds()
        kind = type(error).__name__
        self.health.metrics.errors.labels(kind).inc()
        self.health.part("mongodb" if kind == "StoreUnavailable" else "source", str(error))
        log.warning("retrying", error=str(error), kind=kind, seconds=round(seconds, 2))
        self.stopping.wait(seconds)


class Steps:
    """One turn of the loop after the other, over an open stream."""

    def __init__(
        self,
        batcher: Batcher,
        documents: DocumentStore,
        cache: CacheStage,
        freshness: Freshness,
        health: Health,
        backoff: Backoff,
    ) -> None:
        self.batcher = batcher
        self.documents = documents
        self.cache = cache
        self.freshness = freshness
        self.health = health
        self.backoff = backoff
        self.repairs = Repairs(documents, health.metrics)
        self.look_at_cache = 0.0
        self.mongodb_tick = 0.0

    def step(self) -> None:
        before = self.documents.position.gtid_set
        batch = self.repairs.next() or self.batcher.next(before, INTERVAL_SECONDS)
        if batch is not None:
            with self.health.stage("mongodb"):
                applied = self.documents.commit(batch, self.freshness.as_of(batch.gtid_set))
            log.info("batch", seq=applied.checkpoint.seq, gtids=str(batch.gtid_set - before), rows=batch.rows)
            self.health.committed(batch)
            with self.health.stage("redis"):
                self.cache.apply(applied)
            self.health.applied(batch)
        self._tick()
        self._follow_with_cache()
        self.health.part("source")
        self.health.part("mongodb")
        self.health.served(self.documents.position.checkpoint, self.cache.watermark)

    def _tick(self) -> None:
        as_of = self.freshness.as_of(self.documents.position.gtid_set)
        checkpoint = self.documents.position.checkpoint
        if as_of > checkpoint.as_of and time.monotonic() >= self.mongodb_tick:
            with self.health.working("mongodb"):
                self.documents.tick(as_of)
            self.mongodb_tick = time.monotonic() + MONGODB_TICK_SECONDS
        if self.cache.watermark is not None and as_of > self.cache.watermark.as_of:
            self.cache.tick(checkpoint.at(as_of))

    def _follow_with_cache(self) -> None:
        if self.cache.watermark is not None or time.monotonic() < self.look_at_cache:
            return
        try:
            self.cache.catch_up()
            self.backoff.reset()
        except CacheUnavailable as error:
            log.warning("cache unavailable", error=str(error))
            self.look_at_cache = time.monotonic() + self.backoff.next_seconds()
