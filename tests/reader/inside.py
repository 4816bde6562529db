"""The reader's own parts in this process, with gates at which a test can hold them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from pymongo import AsyncMongoClient
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from ops.stack import Stack
from reader.asked import EntityQuery, ListQuery, Query
from reader.cache import Cache, FillLease
from reader.composing import Answer
from reader.consistency import Consistency
from reader.demands import NO_DEMANDS, Demands, Need
from reader.document_store import DocumentStore, Moment
from reader.fetching import Fetching
from reader.following import Following
from reader.metrics import ReaderMetrics
from reader.moments import Moments
from reader.node import Node
from reader.paging import FIRST_PAGE, Page
from reader.parts import Wanted, WantedPage
from reader.read_model.cached_values import Watermark
from reader.read_model.entities import Entity, Listing
from reader.replica import Replica
from reader.strand import Request, Strand
from reader.view import View
from tests.reader.world import World
from tidemark.redis_url import RedisUrl

DEADLINE_SECONDS = 30
T = TypeVar("T")


class Commands(CommandListener):
    """The commands that the reader sent, as they went out."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name not in ("hello", "saslStart", "saslContinue", "endSessions"):
            self.sent.append(dict(event.command))

    def collections(self) -> list[str]:
        """The collections of which documents were asked, in order of name."""
        return sorted(command["find"] for command in self.sent if "find" in command)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        pass

    def failed(self, event: CommandFailedEvent) -> None:
        pass


class Gate:
    """A place where work waits while a test holds it; open at first."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._opened = asyncio.Event()
        self._opened.set()
        self._passes = 0

    @asynccontextmanager
    async def holding(self, work: Coroutine[Any, Any, T], passes: int = 0) -> AsyncIterator[asyncio.Task[T]]:
        """Start `work`, which passes here so many times; then it waits here while the block runs."""
        with self.closed(passes):
            task = asyncio.create_task(work)
            await self.reached.wait()
            yield task

    @contextmanager
    def closed(self, passes: int = 0) -> Iterator[None]:
        """The caller after so many others waits while the block runs; `reached` tells."""
        self._passes = passes
        self.reached.clear()
        self._opened.clear()
        try:
            yield
        finally:
            self.open()

    def open(self) -> None:
        self._opened.set()

    async def pass_through(self) -> None:
        """The first that comes to a closed gate is held; others, which it may wait for, pass."""
        if self._opened.is_set() or self.reached.is_set():
            return
        if self._passes:
            self._passes -= 1
            return
        self.reached.set()
        await self._opened.wait()


class GatedStore(DocumentStore):
    """The document store with gates before it looks for a moment, and before the documents.

    `values_read` counts reads of documents.
    """

    before_moment: Gate
    before_values: Gate
    values_read = 0

    async def present(self) -> Moment:
        await self.before_moment.pass_through()
        return await super().present()

    async def at(self, watermark: Watermark) -> Moment:
        await self.before_moment.pass_through()
        return await super().at(watermark)

    async def values(self, moment: Moment, wanted: Sequence[Wanted | WantedPage]) -> dict[str, bytes]:
        await self.before_values.pass_through()
        self.values_read += 1
        return await super().values(moment, wanted)


class GatedCache(Cache):
    """The cache with a gate between the missed MGET and the lease, and one before the fill."""

    before_lease: Gate
    before_fill: Gate

    async def lease(self, keys: Iterable[str]) -> list[FillLease]:
        await self.before_lease.pass_through()
        return await super().lease(keys)

    async def fill(self, lease: FillLease, values: Mapping[str, bytes]) -> dict[str, str]:
        await self.before_fill.pass_through()
        return await super().fill(lease, values)


class GatedNode(Node):
    """A connection with a gate before each request."""

    before_send: Gate

    async def send(self, packed: bytes, *requests: Request) -> None:
        await self.before_send.pass_through()
        await super().send(packed, *requests)


class GatedFollowing(Following):
    """Following with a gate before each request."""

    def __init__(self, url: RedisUrl, replica: Replica, metrics: ReaderMetrics) -> None:
        self.before_send = Gate()
        super().__init__(url, replica, metrics)

    def _make_node(self, url: str, strands: Sequence[Strand]) -> Node:
        node = GatedNode(url, strands, self, self.metrics)
        node.before_send = self.before_send
        return node


class GatedFetching(Fetching):
    """Fetching with a gate before each level of a composition."""

    before_level: Gate

    async def fetch(self, view: View) -> None:
        await self.before_level.pass_through()
        await super().fetch(view)


@dataclass
class Inside:
    """One reader's parts."""

    following: GatedFollowing
    replica: Replica
    cache: GatedCache
    documents: GatedStore
    fetching: GatedFetching
    consistency: Consistency
    metrics: ReaderMetrics
    commands: Commands  # to MongoDB
    task: asyncio.Task[None]  # that follows the tide

    async def ask(self, query: Query, path: str = "") -> Answer:
        return await self.consistency.answer(query, NO_DEMANDS, path)

    async def answer(self, entity: Entity, id: int, need: Need) -> Answer:
        return await self.consistency.answer(EntityQuery(entity, id), Demands(need))

    async def read(self, kind: Entity | Listing, id: int, page: Page = FIRST_PAGE, path: str = "") -> Answer:
        query = EntityQuery(kind, id) if isinstance(kind, Entity) else ListQuery(kind, id, page)
        return await self.consistency.answer(query, NO_DEMANDS, path)

    async def follows(self, world: World) -> None:
        """Until the tide is the world's watermark, and is used."""
        await until(
            lambda: self.following.bypass is None and self.following.tide == world.watermark(), "the tide"
        )

    def counted(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"tidemark_{name}_total", labels) or 0.0

    def fills(self, entity: str, result: str) -> float:
        return self.counted("cache_fills", entity=entity, result=result)

    def requests(self, layer: str, entity: str, result: str) -> float:
        return self.counted("cache_requests", layer=layer, entity=entity, result=result)

    def drops(self, cause: str) -> float:
        return self.counted("replica_drops", cause=cause)

    def resets(self, cause: str) -> float:
        return self.counted("tide_resets", cause=cause)


def shown(answer: Answer) -> Any:
    """Its JSON; None if it says that there is no such document."""
    return None if answer.body is None else json.loads(answer.body)


async def until(condition: Callable[[], object], what: str, seconds: float = 10) -> None:
    """Let the loop run until `condition` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        await asyncio.sleep(0.001)


@asynccontextmanager
async def inside(
    stack: Stack, *, redis_url: str = "", reads: int = 64, local_bytes: int = 2**20, follow: bool = True
) -> AsyncIterator[Inside]:
    """A reader's parts, which follow the tide from the start. `local_bytes`: the replica's limit."""
    environment = stack.environment()
    metrics, commands = ReaderMetrics(), Commands()
    client = AsyncMongoClient[Any](environment["TIDEMARK_READER_MONGODB_URL"], event_listeners=[commands])
    documents = GatedStore(client, reads)
    replica = Replica(local_bytes, metrics)
    url = RedisUrl.parse(redis_url or environment["TIDEMARK_READER_REDIS_URL"])
    following = GatedFollowing(url, replica, metrics)
    cache = GatedCache(following)
    moments = Moments(documents)
    fetching = GatedFetching(following, cache, documents, moments, metrics)
    cache.before_lease, cache.before_fill, fetching.before_level = Gate(), Gate(), Gate()
    documents.before_moment, documents.before_values = Gate(), Gate()
    consistency = Consistency(following, fetching, moments, metrics, max_waiters=10)
    task = asyncio.create_task(following.run())
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            if follow:
                await until(lambda: following.bypass is None, "the tide")
            yield Inside(following, replica, cache, documents, fetching, consistency, metrics, commands, task)
    finally:
        await fetching.aclose()
        task.cancel()
        await asyncio.wait([task])
        await documents.aclose()
