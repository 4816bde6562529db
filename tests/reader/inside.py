"""The reader's own parts in this process, with gates at which a test can hold them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from pymongo import AsyncMongoClient
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent
from reader.queries import Queries
from reader.read_through import ReadThrough

from ops.stack import Stack
from reader.cache import Cache, FillLease
from reader.document_store import DocumentStore, View
from reader.metrics import ReaderMetrics
from reader.parts import Wanted
from reader.read_model.cached_values import Watermark

DEADLINE_SECONDS = 30
T = TypeVar("T")


class Commands(CommandListener):
    """The commands that the reader sent, as they went out."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name not in ("hello", "saslStart", "saslContinue", "endSessions"):
            self.sent.append(dict(event.command))

    def succeeded(self, event: CommandSucceededEvent) -> None:
        pass

    def failed(self, event: CommandFailedEvent) -> None:
        pass


def watched_store(stack: Stack, reads: int) -> tuple[DocumentStore, Commands]:
    """A document store, and the commands that it sends."""
    commands = Commands()
    url = stack.environment()["TIDEMARK_READER_MONGODB_URL"]
    return DocumentStore(AsyncMongoClient[dict[str, Any]](url, event_listeners=[commands]), reads), commands


class Gate:
    """A place where work waits while a test holds it; open at first."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()
        self.opened.set()

    @asynccontextmanager
    async def holding(self, work: Coroutine[Any, Any, T]) -> AsyncIterator[asyncio.Task[T]]:
        """Start `work`; while the block runs, `work` waits here."""
        self.reached.clear()
        self.opened.clear()
        task = asyncio.create_task(work)
        await self.reached.wait()
        try:
            yield task
        finally:
            self.opened.set()

    async def pass_through(self) -> None:
        self.reached.set()
        await self.opened.wait()


class GatedStore(DocumentStore):
    """The document store with gates before the checkpoint and before the documents.

    `values_read` counts reads of documents.
    """

    before_view: Gate
    before_values: Gate
    values_read = 0

    async def view(self, watermark: Watermark | None = None) -> View:
        await self.before_view.pass_through()
        return await super().view(watermark)

    async def values(self, view: View, wanted: Sequence[Wanted]) -> dict[str, bytes]:
        await self.before_values.pass_through()
        self.values_read += 1
        return await super().values(view, wanted)


class GatedCache(Cache):
    """The cache with a gate between the missed MGET and the lease, and one after the fill."""

    before_lease: Gate
    after_fill: Gate

    async def lease(self, keys: Iterable[str], epoch: str) -> FillLease:
        await self.before_lease.pass_through()
        return await super().lease(keys, epoch)

    async def fill(self, lease: FillLease, values: Mapping[str, tuple[bytes, int]]) -> dict[str, str]:
        results = await super().fill(lease, values)
        await self.after_fill.pass_through()
        return results


@dataclass
class Inside:
    """One reader's parts."""

    cache: GatedCache
    documents: GatedStore
    read_through: ReadThrough
    queries: Queries
    metrics: ReaderMetrics

    def fills(self, entity: str, result: str) -> float:
        return (
            self.metrics.registry.get_sample_value(
                "tidemark_cache_fills_total", {"entity": entity, "result": result}
            )
            or 0.0
        )

    def requests(self, layer: str, entity: str, result: str) -> float:
        return (
            self.metrics.registry.get_sample_value(
                "tidemark_cache_requests_total", {"layer": layer, "entity": entity, "result": result}
            )
            or 0.0
        )


@asynccontextmanager
async def inside(stack: Stack, redis_url: str = "", reads: int = 64) -> AsyncIterator[Inside]:
    environment = stack.environment()
    cache = GatedCache(redis_url or environment["TIDEMARK_READER_REDIS_URL"])
    documents = GatedStore.connect(environment["TIDEMARK_READER_MONGODB_URL"], reads)
    cache.before_lease, cache.after_fill = Gate(), Gate()
    documents.before_view, documents.before_values = Gate(), Gate()
    metrics = ReaderMetrics()
    read_through = ReadThrough(cache, documents, metrics)
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            yield Inside(cache, documents, read_through, Queries(read_through, documents, metrics), metrics)
    finally:
        await read_through.aclose()
        await cache.aclose()
        await documents.aclose()
