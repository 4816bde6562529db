"""One build in a real MongoDB and its cache: who may commit, the journal's entries, the keys of APPLY."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from pymongo import MongoClient
from pymongo.database import Database

from binlog_projector import fault_points
from binlog_projector.backoff import Backoff
from binlog_projector.domain.batch import Batch
from binlog_projector.domain.mutations import Increment, Put
from binlog_projector.domain.projections import project
from binlog_projector.errors import StandDown
from binlog_projector.fault_points import FaultPoint
from binlog_projector.leading.batcher import Batcher
from binlog_projector.leading.cache_thread import CacheThread, CacheThreads
from binlog_projector.leading.health import Health
from binlog_projector.leading.steps import Steps
from binlog_projector.metrics import ProjectorMetrics
from binlog_projector.mysql.freshness import Freshness
from binlog_projector.mysql.source import Clock
from binlog_projector.stores import cache, mongodb
from binlog_projector.stores.audit_store import AuditStore
from binlog_projector.stores.cache import CacheStage
from binlog_projector.stores.cache_nodes import CacheNode
from binlog_projector.stores.control_store import ControlStore
from binlog_projector.stores.document_store import DocumentStore
from ops.stack import Stack
from reader.read_model.cached_values import cache_key, encode_absent
from reader.read_model.control import Anchor, JournalEntry, journal_id
from tests.support.harness import wait_until
from tests.support.proxy import Proxy
from tidemark.gtid import EMPTY, Gtid

NOW = "2026-11-23T00:00:00.000000Z"
INDEXES = {
    "users": {"subject_1", "handles_1"},
    "posts": {"author_id_1__id_-1", "hashtags_1__id_-1"},
    "comments": {"post_id_1__id_-1", "author_id_1__id_-1", "told_1_created_at_-1__id_-1"},
    "likes": {"_id.u_1__id.p_-1", "told_1__id.t_-1__id.u_-1__id.p_-1"},
    "follows": {"_id.u_1__id.t_-1__id.p_-1"},
    "mentions": set(),
    "notification_reads": set(),
}
FIELDS = {"author_id": 1, "body": "b", "hashtags": [], "created_at": NOW, "updated_at": NOW}


@pytest.fixture
def database(stack: Stack) -> Iterator[Database[dict[str, Any]]]:
    with MongoClient[dict[str, Any]](stack.mongodb.admin_url) as client:
        yield client["tidemark"]


@contextlib.contextmanager
def control_of(stack: Stack, journal_hours: int = 1) -> Iterator[ControlStore]:
    with mongodb.connect(stack.environment()["TIDEMARK_PROJECTOR_MONGODB_URL"]) as client:
        yield ControlStore(client, journal_hours)


def batch_of(documents: DocumentStore, *ids: int) -> Batch:
    """New posts."""
    batch = Batch(documents.position.gtid_set)
    batch.fold(Put("posts", id, FIELDS, new=True) for id in ids)
    return batch


def commit_posts(documents: DocumentStore, *ids: int) -> None:
    documents.commit(batch_of(documents, *ids), "2026")


def written(documents: DocumentStore, name: str) -> dict[int, Any]:
    """Documents by id."""
    found = documents.database[f"{name}_b{documents.build}"].find({})
    return {document["_id"]: document for document in found}


def test_a_former_leader_stands_down_although_its_seq_is_taken(
    stack: Stack, database: Database[dict[str, Any]]
) -> None:
    with control_of(stack) as control:
        former = control.create_build(1)
        successor = control.open_build(former.build, 2)
        with pytest.raises(StandDown, match="another projector holds lease epoch 2; ours was 1"):
            commit_posts(former, 1)
        assert former.position.checkpoint.seq + 1 == successor.position.checkpoint.seq
        assert successor.batch_id(successor.position.checkpoint.seq) == successor.position.checkpoint.batch_id
        assert database[f"posts_b{former.build}"].count_documents({}) == 0
        commit_posts(successor, 1)


def test_a_build_has_the_indexes_that_its_scans_need(
    stack: Stack, database: Database[dict[str, Any]]
) -> None:
    with control_of(stack) as control:
        build = control.create_build(1).build
    found = {name: {*database[f"{name}_b{build}"].index_information()} - {"_id_"} for name in INDEXES}
    assert found == INDEXES
    assert {one.split("_b")[0] for one in database.list_collection_names() if "_b" in one} == INDEXES.keys()


def test_numbers_of_64_bits_are_plain_ints(stack: Stack) -> None:
    """PyMongo gives a subclass of int, which other libraries do not accept as a number."""
    large = 2**63 - 1
    with control_of(stack) as control:
        documents = control.create_build(1)
        documents.finish_snapshot(
            EMPTY, NOW, Anchor(Gtid("5d1c1f0e-0000-4000-8000-000000000002", 1), large), {}
        )
        documents.serve(None, NOW)
        commit_posts(documents, large)
        position = control.position()
        with AuditStore(control.client).view() as view:
            read_back = documents.read_back(documents.position.checkpoint, {"posts": [large]}).documents
            found = [read_back["posts"][large] or {}, view.documents("posts", [large])[large]]
    assert position is not None and position.anchor is not None
    numbers = [position.anchor.original_commit_us, *(each["_id"] for each in found)]
    assert [(number, type(number)) for number in numbers] == [(large, int)] * 3


def test_what_stands_in_the_journal_beyond_the_checkpoint_counts_for_nothing(
    stack: Stack, database: Database[dict[str, Any]]
) -> None:
    with control_of(stack) as control:
        documents = control.create_build(1)
        following = documents.position.checkpoint.seq + 1
        database["control"].insert_one({"_id": journal_id(documents.build, following), "batch_id": "stray"})
        assert documents.journal(following - 1, 10) == []
        commit_posts(documents, 1)
        (entry,) = documents.journal(following - 1, 10)
        assert entry.checkpoint == documents.position.checkpoint and entry.keys == ("post:1",)


def test_entries_of_the_journal_say_when_they_expire(
    stack: Stack, database: Database[dict[str, Any]]
) -> None:
    with control_of(stack, journal_hours=2) as control:
        control.open_serving(1)
        commit_posts(control.create_build(1), 1)
    (entry,) = database["control"].find({"expires_at": {"$exists": True}})
    left = entry["expires_at"].replace(tzinfo=UTC) - datetime.now(UTC)
    assert timedelta(hours=1.9) < left < timedelta(hours=2)
    assert database["control"].index_information()["expires_at_1"]["expireAfterSeconds"] == 0


@pytest.mark.long
def test_entries_of_the_journal_expire_and_nothing_else_does(
    stack: Stack, database: Database[dict[str, Any]]
) -> None:
    """MongoDB looks for expired documents once a minute."""
    others = {"expires_at": {"$exists": False}}
    with control_of(stack, journal_hours=0) as control:
        control.open_serving(1)
        documents = control.create_build(1)
        documents.serve(None, "2026")
        commit_posts(documents, 1)
        before = list(database["control"].find(others))
        wait_until(lambda: documents.journal(0, 10) == [], "the entries to expire", 90)
        assert list(database["control"].find()) == before
        assert control.position() == documents.position


class FilledDuringCommit(DocumentStore):
    """A reader fills one key just before MongoDB has committed."""

    fill: Callable[[], object]

    def commit(self, batch: Batch, as_of: str) -> JournalEntry:
        entry = super().commit(batch, as_of)
        self.fill()
        return entry


def cache_thread(stage: CacheStage, health: Health) -> CacheThreads:
    node = CacheNode(stage.client, [stage])
    return CacheThreads([CacheThread(node, health, Backoff(random.Random()), lambda: None, patient=True)])


def test_a_fill_during_a_commit_is_not_lost(stack: Stack) -> None:
    """Else readers would fill a hot post and batches would delete it again and again."""
    with (
        control_of(stack) as control,
        contextlib.closing(cache.connect(stack.environment()["TIDEMARK_PROJECTOR_REDIS_URL"])) as client,
        redis.Redis.from_url(stack.redis.admin_url) as reading,
    ):
        created = control.create_build(1)
        created.serve(None, NOW)
        documents = FilledDuringCommit(control.client, created.session, created.position, 1)
        health = Health(ProjectorMetrics())
        stage = CacheStage(client, documents, health.metrics, random.Random())
        stage.catch_up()
        key = cache_key(documents.serving().epoch, "post:1")
        documents.fill = lambda: reading.set(key, encode_absent(1))
        batcher = Batcher(documents.position.gtid_set, project)
        batcher.waiting.append(batch_of(documents, 1))
        with cache_thread(stage, health) as thread:
            Steps(batcher, documents, thread, Freshness(NOW), health).step()
        assert stage.watermark is not None and stage.watermark.seq == documents.position.checkpoint.seq
        value = reading.get(key)
    assert isinstance(value, bytes) and b'"body":"b"' in value


def test_commands_of_a_transaction_do_not_wait_for_each_other(stack: Stack) -> None:
    """The proxy delays a piece: the first answer, the others, and the commit's."""
    delay = 0.0
    url = stack.environment()["TIDEMARK_PROJECTOR_MONGODB_URL"]
    with (
        control_of(stack) as control,
        Proxy(stack.mongodb.port, lambda: delay) as proxy,
        mongodb.connect(
            url.replace(f":{stack.mongodb.port}", f":{proxy.port}").replace(
                "replicaSet=tidemark", "directConnection=true"
            )
        ) as delayed,
    ):
        documents = control.create_build(1)
        store = DocumentStore(delayed, delayed.start_session(), documents.position, 1)
        batch = batch_of(store, 1, 2)
        batch.fold(Put(name, 1, FIELDS, new=True) for name in ("users", "comments"))
        batch.fold([Increment("posts", 1, "like_count", 1), Increment("users", 2, "post_count", 0)])
        commit_posts(store, 3)  # connects
        delay = 0.2
        began = time.monotonic()
        store.commit(batch, "2026")
        waited = time.monotonic() - began
    assert 2 * delay <= waited < 4 * delay


def test_a_refused_batch_leaves_a_connection_that_works(stack: Stack) -> None:
    """MongoDB answers each command behind the refused one, and each answer is read."""
    with control_of(stack) as control:
        documents = control.create_build(1)
        commit_posts(documents, 1)
        connection = documents.database.command("hello")["connectionId"]
        batch = batch_of(documents, 1, 2)
        batch.fold([Put("users", 1, {"handle": "h"}, new=True), Increment("users", 2, "post_count", 1)])
        documents.commit(batch, "2026")
        commit_posts(documents, 3)
        assert documents.database.command("hello")["connectionId"] == connection
        found = written(documents, "posts")
        assert written(documents, "users")[2]["post_count"] == 1
    assert sorted(found) == [1, 2, 3]


def test_a_batch_that_is_as_fresh_as_mysql_needs_no_tick(stack: Stack) -> None:
    with (
        control_of(stack) as control,
        contextlib.closing(cache.connect(stack.environment()["TIDEMARK_PROJECTOR_REDIS_URL"])) as client,
        redis.Redis.from_url(stack.redis.admin_url) as reading,
    ):
        documents = control.create_build(1)
        documents.serve(None, NOW)
        health, freshness = Health(ProjectorMetrics()), Freshness(NOW)
        stage = CacheStage(client, documents, health.metrics, random.Random())
        stage.catch_up()
        batcher = Batcher(documents.position.gtid_set, project)
        applied = []
        for id in (1, 2):
            freshness.observe(Clock(datetime(2026, 11, 23, 1, id, tzinfo=UTC), EMPTY))
            batcher.waiting.append(batch_of(documents, id))
            with cache_thread(stage, health) as thread:
                Steps(batcher, documents, thread, freshness, health).step()
            applied.append(reading.info("commandstats")["cmdstat_evalsha"]["calls"])
        assert stage.watermark is not None and stage.watermark.as_of == "2026-11-23T01:02:00.000000Z"
    assert applied[1] - applied[0] == 1


def test_a_commit_whose_answer_is_lost_counts_once(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection breaks behind the commit: the next attempt finds it done."""
    armed = threading.Event()
    inside: FaultPoint = "inside_transaction"
    monkeypatch.setattr(fault_points, "listener", lambda at: armed.set() if at == inside else None)

    def cut() -> float:
        if armed.is_set():
            armed.clear()
            cuts.append(proxy.port)
            proxy.switch(stack.mongodb.port)
        return 0.0

    cuts: list[int] = []
    url = stack.environment()["TIDEMARK_PROJECTOR_MONGODB_URL"]
    with control_of(stack) as control, Proxy(stack.mongodb.port) as proxy:
        documents = control.create_build(1)
        direct = url.replace("replicaSet=tidemark", "directConnection=true")
        with mongodb.connect(direct.replace(f":{stack.mongodb.port}", f":{proxy.port}")) as client:
            store = DocumentStore(client, client.start_session(), documents.position, 1)
            proxy.answer_delay = cut
            batch = batch_of(store, 1)
            batch.fold([Increment("posts", 1, "like_count", 1)])
            store.commit(batch, "2026")
        assert written(documents, "posts")[1]["like_count"] == 1
    assert cuts
