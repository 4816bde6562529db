"""The actors of a schedule: reader processes with their requests, and projectors that lead in turn."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from msgspec import structs
from pymongo import AsyncMongoClient
from reader.read_through import ReadThrough

from binlog_projector.binlog.parts import Parts
from binlog_projector.domain.changes import Transaction
from binlog_projector.errors import CacheUnavailable, StandDown
from binlog_projector.stores.cache import CacheStage
from reader.cache import Cache
from reader.document_store import DocumentStore
from reader.parts import Wanted
from tests.verification.schedules.bench import Bench
from tests.verification.schedules.history import History, batch_of, last_number
from tests.verification.schedules.projector_stores import ProjectorStore
from tests.verification.schedules.promises import Promises, as_of
from tests.verification.schedules.reader_stores import ReaderClient
from tests.verification.schedules.scheduler import ACTOR, Scheduler, Worker
from writer.schema import TABLES

READS = 64
IDLE_TURNS = 1
CATCH_UP_TURNS = 8


@dataclass(frozen=True)
class Product:
    """The classes under test, and module attributes to replace. The defaults are the shipping product.

    `asked`: readers get requests. If not, only projectors change the cache.
    """

    cache: type[Cache] = Cache
    documents: type[DocumentStore] = DocumentStore
    read_through: type[ReadThrough] = ReadThrough
    stage: type[CacheStage] = CacheStage
    patches: dict[str, object] = field(default_factory=dict)
    asked: bool = True


class Reader:
    """The parts of one reader process that requests share."""

    def __init__(self, name: str, bench: Bench, product: Product, promises: Promises) -> None:
        self.name = name
        self._promises = promises
        bench.pools.reader = name
        self._selector = bench.selector
        self._mongodb = ReaderClient(bench.reader_mongodb)
        self._cache = product.cache(bench.reader_redis_url)
        documents = product.documents(cast(AsyncMongoClient[dict[str, Any]], self._mongodb), READS)
        self._read_through = product.read_through(self._cache, documents, bench.reader_metrics, lambda: 0.5)
        self._tasks: list[asyncio.Task[None]] = []

    def ask(self, wanted: Sequence[Wanted]) -> asyncio.Task[None]:
        context = contextvars.copy_context()
        context.run(ACTOR.set, f"{self.name}{len(self._tasks) + 1}")
        self._tasks.append(asyncio.get_running_loop().create_task(self._answer(wanted), context=context))
        return self._tasks[-1]

    def depose_primary(self) -> asyncio.Task[None]:
        """The primary behind this reader's connection receives no more writes."""
        return asyncio.get_running_loop().create_task(self._mongodb.depose(self._selector))

    def find_primary(self) -> asyncio.Task[None]:
        """Connects to the present primary again."""
        return asyncio.get_running_loop().create_task(self._mongodb.rejoin())

    async def end(self) -> None:
        """Closes the cache only if a command is under way: its connections serve the next schedule, too."""
        await self._mongodb.rejoin()
        if not all(task.done() for task in self._tasks):
            for task in self._tasks:
                task.cancel()
            await self._read_through.aclose()
            await self._cache.aclose()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _answer(self, wanted: Sequence[Wanted]) -> None:
        self._promises.answered(await self._read_through.get(wanted))


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
        """Takes further turns until APPLY is accepted at the checkpoint."""
        for _ in range(CATCH_UP_TURNS):
            self.stage.tick(self.store.position.checkpoint)
            if (
                self.stage.watermark is not None
                and self.stage.watermark.seq == self.store.position.checkpoint.seq
            ):
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
