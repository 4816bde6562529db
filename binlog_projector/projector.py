"""The projector: MySQL's binlog -> whole transactions -> batches -> one MongoDB transaction each -> one APPLY each.

A leader opens the build that serves (or takes a snapshot), connects to the source right behind its checkpoint, and goes
on. Whatever fails, the checkpoint in MongoDB and the watermark in Redis say where: nothing in memory is needed.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Iterator

import structlog

from binlog_projector.backoff import Backoff
from binlog_projector.batcher import Batcher
from binlog_projector.cache import CacheStage, Client
from binlog_projector.cache_thread import CacheThread
from binlog_projector.control_store import ControlStore
from binlog_projector.document_store import DocumentStore
from binlog_projector.errors import CacheUnavailable, Retry, StandDown
from binlog_projector.failover import Servers
from binlog_projector.freshness import ClockThread, Freshness
from binlog_projector.health import Health
from binlog_projector.lease import Standby
from binlog_projector.projections import project
from binlog_projector.snapshot import take_snapshot
from binlog_projector.source import Stream
from binlog_projector.steps import Steps

log = structlog.get_logger()


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
        stage = CacheStage(self.cache_client, documents, self.health.metrics, self.chance)
        freshness = Freshness(documents.position.checkpoint.as_of)
        log.info("streaming", build=documents.build, gtid_set=documents.position.checkpoint.gtid_set)
        batcher = Batcher(documents.position.gtid_set, project)
        with (
            ClockThread(stream.source, freshness),
            self.health.watched("source", stream.silent_seconds),
            contextlib.closing(batcher),
            CacheThread(stage, self.health, Backoff(self.chance)) as cache,
        ):
            self.health.metrics.waiting.labels("mongodb").set_function(lambda: batcher.size)
            self.health.metrics.waiting.labels("redis").set_function(lambda: cache.size)
            stream.start(batcher)
            steps = Steps(batcher, documents, cache, freshness, self.health)
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
