"""The loop: take the batch that waits, commit it to MongoDB, hand it to the cache.

Three threads overlap. The stream's thread reads, decodes, and folds transactions into the batch that waits.
This thread commits. The cache's thread applies committed batches to Redis. A thread pauses when too much
waits for the next one.
"""

from __future__ import annotations

import time

import structlog

from binlog_projector.leading.batcher import Batcher
from binlog_projector.leading.cache_thread import CacheThreads, Committed
from binlog_projector.leading.health import Health
from binlog_projector.leading.repair import Repairs
from binlog_projector.mysql.freshness import INTERVAL_SECONDS, Freshness
from binlog_projector.stores.document_store import DocumentStore

MONGODB_TICK_SECONDS = 0.5
log = structlog.get_logger()


class Steps:
    """The turns of the loop, over an open stream."""

    def __init__(
        self,
        batcher: Batcher,
        documents: DocumentStore,
        cache: CacheThreads,
        freshness: Freshness,
        health: Health,
    ) -> None:
        self.batcher = batcher
        self.documents = documents
        self.cache = cache
        self.freshness = freshness
        self.health = health
        self.repairs = Repairs(documents, health.metrics)
        self.ticked = documents.position.checkpoint.as_of
        self.mongodb_tick = 0.0

    def step(self) -> None:
        """Commit one batch, or wait briefly for one. Raises the error that ended another thread."""
        before = self.documents.position.gtid_set
        batch = self.repairs.next() or self.batcher.take(INTERVAL_SECONDS)
        if batch is not None:
            with self.health.stage("mongodb"):
                entry = self.documents.commit(batch, self.freshness.as_of(batch.gtid_set))
            self.ticked = entry.checkpoint.as_of  # APPLY tells it to readers, too
            parts = entry.by_shard(self.documents.shards)
            self.cache.apply(Committed(parts, batch.last.immediate_commit_us if batch.last else None))
            rows_of = self.documents.position.rows_of
            progress = {"rows_of": rows_of} if rows_of else {}
            log.info(
                "batch",
                seq=entry.checkpoint.seq,
                gtids=str(batch.gtid_set - before),
                rows=batch.rows,
                **progress,
            )
            self.health.committed(batch)
        self.cache.check()
        self._tick()
        self.health.part("source")
        self.health.part("mongodb")
        self.health.metrics.partial_rows.set(sum(self.documents.position.rows_of.values()))
        self.health.served(self.documents.position.checkpoint)

    def _tick(self) -> None:
        """Tell readers that everything MySQL had committed at `as_of` is applied."""
        as_of = self.freshness.as_of(self.documents.position.gtid_set)
        if as_of > self.documents.position.checkpoint.as_of and time.monotonic() >= self.mongodb_tick:
            with self.health.working("mongodb"):
                self.documents.tick(as_of)
                self.health.metrics.journal.set(self.documents.journal_size())
            self.mongodb_tick = time.monotonic() + MONGODB_TICK_SECONDS
        if as_of > self.ticked:
            self.cache.tick(self.documents.position.checkpoint.at(as_of))
            self.ticked = as_of
