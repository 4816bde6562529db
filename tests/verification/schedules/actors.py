"""The actors of a schedule: reader processes with their requests, and projectors that lead in turn."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import random
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from msgspec import structs
from pymongo import AsyncMongoClient

from binlog_projector.binlog.parts import Parts
from binlog_projector.domain.changes import Transaction
from binlog_projector.errors import CacheUnavailable, StandDown
from binlog_projector.stores.cache import CacheStage
from reader.asked import Query
from reader.cache import Cache
from reader.consistency import Consistency
from reader.demands import NO_DEMANDS, Demands, Need
from reader.document_store import DocumentStore
from reader.errors import DocumentsUnavailable
from reader.fetching import Fetching
from reader.following import Following
from reader.live.connections import Connections
from reader.live.hub import Hub
from reader.moments import Moments
from reader.read_model.control import JournalEntry
from reader.replica import Replica
from tests.verification.schedules.bench import Bench
from tests.verification.schedules.history import History, batch_of, last_number
from tests.verification.schedules.projector_stores import ProjectorStore
from tests.verification.schedules.promises import BrokenPromise, Promises, as_of
from tests.verification.schedules.reader_stores import CLOCK, Clock, ReaderMongoDB, ReaderRedis
from tests.verification.schedules.refreshes import Refreshes
from tests.verification.schedules.scheduler import ACTOR, Scheduler, Worker
from tests.verification.schedules.watchers import Client, Pieces
from tidemark.gtid import GtidSet
from tidemark.problem import Problem
from tidemark.redis_url import RedisUrl
from writer.schema import TABLES

READS = 64
REPLICA_BYTES = (2**20, 2**20, 0)
WAITS_SECONDS = (0.0, 3_600.0)  # the tide comes sooner, without waiting
IDLE_TURNS = 1
CATCH_UP_TURNS = 8


@dataclass(frozen=True)
class Product:
    """The classes under test, and module attributes to replace. The defaults are the shipping product.

    `asked`: readers get requests. If not, only projectors change the cache.
    """

    documents: type[DocumentStore] = DocumentStore
    stage: type[CacheStage] = CacheStage
    patches: dict[str, object] = field(default_factory=dict)
    asked: bool = True


class Reader:
    """One reader process: it follows the tide, answers, and keeps reads current for its clients."""

    def __init__(
        self, name: str, bench: Bench, product: Product, promises: Promises, scheduler: Scheduler
    ) -> None:
        self.name = name
        self.clock = Clock()
        self.redis = bench.pools.next = ReaderRedis(name, bench.wires, scheduler)
        self.mongodb = ReaderMongoDB(bench.reader_database)
        self._promises = promises
        self._chance = scheduler.chance
        metrics = bench.reader_metrics
        self._replica = Replica(self._chance.choice(REPLICA_BYTES), metrics)
        self.following = Following(RedisUrl("", ("",)), self._replica, metrics)
        documents = product.documents(cast(AsyncMongoClient[dict[str, Any]], self.mongodb), READS)
        moments, cache = Moments(documents), Cache(self.following, lambda: 0.5)
        self._refreshes = Refreshes(cache, self._replica)
        fetching = Fetching(self.following, cache, documents, moments, metrics)
        self._consistency = Consistency(self.following, fetching, moments, metrics, READS)
        self._fetching = fetching
        self._hub = Hub(self.following, self._consistency)
        self.following.named.listener = Sorted(self._hub)
        self._connections = Connections(self._hub, bench.reader_settings, metrics, lambda: 0.0)
        self.clients: list[Client] = []
        self._pieces = Pieces()
        self._told = Told(0, 0)
        self._requests = 0
        self._runs: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._runs.append(self._task(self.following.run(), self.name))

    def connect(self, history: History, *, slow: bool) -> Client:
        """A client that watches."""
        if not self.clients:
            self._runs += [self._task(one.run(), f"{self.name}!") for one in (self._hub, self._connections)]
        name = f"{self.name}'s client {len(self.clients) + 1}"
        client = Client(
            name, self._connections, self.mongodb, self._promises, history, self._pieces, slow=slow
        )
        self.clients.append(client)
        self._runs.append(self._task(client.run(), name))
        return client

    def ask(self, asked: str, query: Query, token: JournalEntry | None) -> asyncio.Task[None]:
        self._requests += 1
        return self._task(self._answer(asked, query, token), f"{self.name}{self._requests}")

    def look(self, keys: Iterable[str]) -> None:
        """Checks the promises of the replica and to clients, and that the reader still works."""
        for run in self._runs:
            if run.done():
                run.result()
        for client in self.clients:
            client.look()
        self._refreshes.look()
        entries = {key: entry for key in keys if (entry := self._replica.get(key)) is not None}
        self._promises.replicated(self.following.tide, entries)

    def at_the_end(self) -> None:
        """Redis has answered all, and no fault has hindered it."""
        self._refreshes.at_the_end()

    async def end(self, requests: Iterable[asyncio.Task[None]]) -> None:
        tasks = [*requests, *self._runs]
        for task in tasks:
            task.cancel()
        await self._fetching.aclose()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _task(self, coroutine: Coroutine[None, None, None], actor: str) -> asyncio.Task[None]:
        context = contextvars.copy_context()
        context.run(ACTOR.set, actor)
        context.run(CLOCK.set, self.clock)
        return asyncio.get_running_loop().create_task(coroutine, context=context)

    async def _answer(self, asked: str, query: Query, token: JournalEntry | None) -> None:
        """Only MongoDB's fault excuses that there is no answer."""
        told, life = self._told, self.following.position.life
        try:
            if token is None:
                answer = self._consistency.ready(asked)
                answer = answer or await self._consistency.answer(query, NO_DEMANDS, asked)
            else:
                gtids = GtidSet.parse(token.checkpoint.gtid_set)
                need = Need(gtids, self._chance.choice(WAITS_SECONDS), preferred=False)
                answer = await self._consistency.answer(query, Demands(need))
        except (DocumentsUnavailable, Problem) as error:
            if not self.mongodb.was_deposed:
                raise BrokenPromise(f"{asked} is not answered: {error!r}") from error
            return
        goes_on = life == self.following.position.life and self.following.tide is not None
        floor = told.state if goes_on and told.life == life else 0
        state = self._promises.answered(asked, answer, floor)
        if token is not None and state < self._promises.state_with(token.checkpoint.gtid_set):
            raise BrokenPromise(f"{asked} is of state {state}, older than its token")
        if goes_on and token is None:  # MongoDB may have answered to the token, for this request alone
            self._told = max(self._told, Told(life, state - state % 2))


class Sorted:
    """Tells a hub of one name after the other: the order of a set is not the seed's."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.reset = hub.reset

    def named(self, names: frozenset[str], counted: frozenset[str]) -> None:
        for name in sorted(names):
            self._hub.named(frozenset((name,)), counted)


class Told(NamedTuple):
    """The newest whole transaction that a process has told in a life of its tide."""

    life: int
    state: int


class Projector:
    """One leader: the turns of the product's loop over the transactions that its build lacks."""

    def __init__(self, bench: Bench, product: Product, store: ProjectorStore, scheduler: Scheduler) -> None:
        self.store = store
        self.stage = product.stage(bench.projector_redis, store, bench.projector_metrics, random.Random(1))
        self._scheduler = scheduler
        self._chance = scheduler.chance

    def work(self, stream: Iterable[Transaction]) -> None:
        """Runs until a few turns after the stream's end, or until another projector leads."""
        left = [
            part
            for one in stream
            if one.gtid not in self.store.position.gtid_set
            for part in self._parts(one)
        ]
        try:
            for batch in self._batches(left):
                self._commit(batch)
                self._follow()
            for _ in range(IDLE_TURNS):
                self._tick()
                self._follow()
        except StandDown:
            return

    def catch_up(self) -> None:
        """Takes further turns until APPLY is accepted at the checkpoint, as of a later time than any."""
        checkpoint = self.store.position.checkpoint
        last = checkpoint.at(as_of(last_number(checkpoint.gtid_set), seconds=6))
        for _ in range(CATCH_UP_TURNS):
            self.stage.tick(last)
            watermark = self.stage.watermark
            if watermark is not None and (watermark.seq, watermark.as_of) == (last.seq, last.as_of):
                return
            self._follow()

    def _parts(self, transaction: Transaction) -> Iterator[Transaction]:
        """The transaction as a stream delivers it if two changes are too many for one batch."""
        parts = Parts(TABLES, self.store.position.partials)
        first, last = transaction.changes[:1], transaction.changes[1:]
        for changes in (first, last) if last else (first,):
            whole = changes is not first or not last
            left, before, partial = parts.next(transaction.gtid, 0, changes, whole=whole)
            if left or whole:
                yield structs.replace(transaction, changes=tuple(left), rows_before=before, partial=partial)

    def _batches(self, left: Sequence[Transaction]) -> Iterator[Sequence[Transaction]]:
        while left:
            self._scheduler.sleep(ACTOR.get())
            size = self._chance.choice((1, 1, 2))
            yield left[:size]
            left = left[size:]

    def _commit(self, transactions: Sequence[Transaction]) -> None:
        batch = batch_of(self.store.position.gtid_set, transactions)
        entry = self.store.commit(batch, as_of(last_number(str(batch.gtid_set))))
        self.stage.apply(entry)
        if self._chance.random() < 0.3:
            self._tick()

    def _tick(self) -> None:
        moment = as_of(last_number(self.store.position.checkpoint.gtid_set), seconds=5)
        if self._chance.random() < 0.1:
            self.store.tick(moment)
        self.stage.tick(self.store.position.checkpoint.at(moment))

    def _follow(self) -> None:
        if self.stage.watermark is None:
            with contextlib.suppress(CacheUnavailable):  # a later turn looks again
                self.stage.catch_up()


class Leadership:
    """The projector that leads. Former leaders may still be at work."""

    def __init__(
        self,
        bench: Bench,
        product: Product,
        scheduler: Scheduler,
        promises: Promises,
        history: History,
        stream: Sequence[Transaction],
    ) -> None:
        self._bench = bench
        self._history = history
        self._backup = ""
        self._product = product
        self._scheduler = scheduler
        self._promises = promises
        self._stream = stream
        self.leader = Projector(bench, product, bench.store(promises.committed), scheduler)
        if scheduler.chance.random() < 0.7:  # it has caught up before
            self.leader.stage.watermark = bench.position.checkpoint.watermark(bench.cache_epoch)
        self.workers: list[Worker] = []

    def start(self) -> None:
        """Lets the present leader work."""
        work, name = self.leader.work, f"P{len(self.workers) + 1}"
        self.workers.append(Worker(self._scheduler, name, lambda: work(self._stream), self._bench.threads))

    def crash(self) -> None:
        """The leader's process ends at once, and the next one takes over."""
        self.workers[-1].crash()
        self.take_over()

    def take_over(self) -> None:
        """Another process takes over. The former leader stands still, and may go on later."""
        store = self._bench.take_over(self._promises.committed)
        self.leader = Projector(self._bench, self._product, store, self._scheduler)
        self.start()

    def back_up(self) -> None:
        """Notes a moment to which MongoDB may be restored."""
        self._backup = self._bench.now()

    def restore(self) -> None:
        """MongoDB goes back to the backup, and another process takes over."""
        self._bench.restore(self._history, self._backup)
        self._promises.restored()
        self.take_over()

    def lose_answer(self) -> None:
        """Redis executes the leader's next command, but the answer is lost."""
        self.workers[-1].loses_answer = True

    def end(self) -> None:
        for worker in self.workers:
            worker.crash()
