"""State that outlives a schedule: clients of the real stores, one growing build, its last leader's state."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import redis
from pymongo import MongoClient

from binlog_projector.metrics import ProjectorMetrics
from binlog_projector.stores import cache as projector_cache
from binlog_projector.stores import mongodb
from binlog_projector.stores.control_store import ControlStore
from binlog_projector.stores.read_back import Moment
from ops.stack import Stack
from reader.metrics import ReaderMetrics
from reader.read_model.cached_values import WATERMARK_KEY
from reader.read_model.control import CONTROL, SERVING_ID, JournalEntry, checkpoint_id, journal_id
from reader.read_model.declarations import COLLECTIONS, ENTITIES
from reader.read_model.entities import is_present
from reader.settings import ReaderSettings
from tests.conftest import service_environment
from tests.verification.schedules.history import History, batch_of, entity_content, last_number, opening_of
from tests.verification.schedules.projector_stores import (
    JOURNAL_HOURS,
    ProjectorConnection,
    ProjectorStore,
    Restored,
)
from tests.verification.schedules.promises import as_of
from tests.verification.schedules.reader_stores import Pools, Wires
from tests.verification.schedules.scheduler import QuietSelector
from tests.verification.schedules.wire import Wire
from tidemark.gtid import GtidSet
from tidemark.settings import load

FIRST_ID = 2**53 - 2  # ids of one length sort like numbers; Lua's doubles hold no greater ones exactly
THREADS = 8


class Bench:
    """Opens all clients once. Schedules run one after the other, in one event loop."""

    def __init__(self, stack: Stack, selector: QuietSelector) -> None:
        environment = service_environment(stack)
        self.selector = selector
        self.pools = Pools()
        self.threads = ThreadPoolExecutor(THREADS)
        self.wires = Wires(environment["TIDEMARK_READER_REDIS_URL"])
        self._reader_mongodb = MongoClient[dict[str, Any]](environment["TIDEMARK_READER_MONGODB_URL"])
        self.reader_database = self._reader_mongodb.get_default_database("tidemark")
        self.reader_settings = load(ReaderSettings, environment)
        self.reader_metrics, self.projector_metrics = ReaderMetrics(), ProjectorMetrics()
        self.admin_redis = redis.Redis.from_url(stack.redis.admin_url)
        self.watching_redis = Wire(stack.redis.admin_url)
        self.projector_redis = projector_cache.connect(environment["TIDEMARK_PROJECTOR_REDIS_URL"])
        self.projector_redis.connection_pool.connection_class = ProjectorConnection
        self._mongodb = mongodb.connect(environment["TIDEMARK_PROJECTOR_MONGODB_URL"])
        self._control = ControlStore(self._mongodb, JOURNAL_HOURS)
        self._restored = Restored()
        self._next_id = FIRST_ID
        self.checks: Counter[str] = Counter()
        self.lease_epoch = 1
        store = self._control.create_build(self.lease_epoch)
        store.finish_snapshot(GtidSet.parse(""), as_of(0), None, {})
        store.serve(None, as_of(0))
        self.position = store.position
        self.cache_epoch = store.serving().epoch

    def open_histories(self, seeds: Sequence[int]) -> list[History]:
        """One history for each seed. Their opening rows are committed together."""
        histories = [History(self._next_id + at, random.Random(seed)) for at, seed in enumerate(seeds)]
        self._next_id += len(seeds)
        store = self.store([])
        number = last_number(store.position.checkpoint.gtid_set) + 1
        opening = store.commit(
            batch_of(store.position.gtid_set, [opening_of(histories, number)]), as_of(number)
        )
        for history in histories:
            history.opened_seq = opening.checkpoint.seq
        self.position = store.position
        return histories

    def store(self, committed: list[JournalEntry]) -> ProjectorStore:
        """The build as its last leader left it. Commits are added to `committed`."""
        session = self._control.lease.session
        return ProjectorStore(self._mongodb, session, self.position, committed, self._restored)

    def take_over(self, committed: list[JournalEntry]) -> ProjectorStore:
        """The build as it is now, fenced for a new leader. Leaders share a session, so no commit waits."""
        self.lease_epoch += 1
        opened = self._control.open_serving(self.lease_epoch)
        assert opened is not None
        began_with = JournalEntry(opened.position.checkpoint, (), opened.position.partials)  # an empty batch
        committed.append(began_with)
        return ProjectorStore(self._mongodb, opened.session, opened.position, committed, self._restored)

    def now(self) -> str:
        """MongoDB's cluster time."""
        time = self._mongodb["tidemark"].command("ping")["operationTime"]
        return f"{time.time}.{time.inc}"

    def restore(self, history: History, at: str) -> None:
        """Brings MongoDB back to what it was at a cluster time, but for the leases."""
        build = self.position.checkpoint.build
        rows: dict[str, dict[str, Any]] = {
            "users": {"_id": history.id},
            "posts": {"_id": history.id},
            "comments": {"post_id": history.id},
            "likes": {"_id": {"$gte": {"p": history.id}, "$lt": {"p": history.id + 1}}},
        }
        queries = {COLLECTIONS[name].in_build(build): query for name, query in rows.items()}
        first = self.position.checkpoint.seq
        journal = {"_id": {"$gt": journal_id(build, first), "$lt": journal_id(build + 1, 0)}}
        queries[CONTROL] = {"$or": [{"_id": {"$in": [SERVING_ID, checkpoint_id(build)]}}, journal]}
        for name, query in queries.items():
            former = Moment(self._mongodb["tidemark"], at).find(name, query)
            self._mongodb["tidemark"][name].delete_many(query)
            if former:
                self._mongodb["tidemark"][name].insert_many(former)
        self._restored.at = self.now()

    def empty_cache(self, scripts: Sequence[Any]) -> None:
        """Leaves a cache with the last batch's watermark, `scripts`, and no entries."""
        watermark = self.position.checkpoint.watermark(self.cache_epoch)
        with self.admin_redis.pipeline() as pipeline:
            pipeline.flushall()
            pipeline.set(WATERMARK_KEY, watermark.encode())
            for script in scripts:
                pipeline.script_load(script)
            pipeline.execute()

    def assert_documents_follow(self, histories: Sequence[History]) -> None:
        """After the schedules, the documents are those that the rows imply."""
        for entity in ENTITIES.values():
            build = COLLECTIONS[entity.collection].in_build(self.position.checkpoint.build)
            expected = {
                one.id: history.states[-1][one.key]
                for history in histories
                for one in history.wanted
                if one.kind is entity
            }
            found = self._mongodb["tidemark"][build].find({"_id": {"$in": [*expected]}})
            shown = {one["_id"]: entity_content(entity, one) for one in found if is_present(one)}
            assert {**dict.fromkeys(expected), **shown} == expected

    def close(self) -> None:
        self.threads.shutdown()
        self.wires.close()
        self._reader_mongodb.close()
        self.admin_redis.close()
        self.watching_redis.close()
        self.projector_redis.close()
        self._mongodb.close()
