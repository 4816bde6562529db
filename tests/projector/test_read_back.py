"""APPLY reads back values as their batch left them, or none: never newer, never of another history."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import redis
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from binlog_projector.domain.batch import Batch
from binlog_projector.domain.mutations import Invalidate, Mutation, Put, Remove
from binlog_projector.metrics import ProjectorMetrics
from binlog_projector.stores import cache, mongodb
from binlog_projector.stores.cache import CacheStage
from binlog_projector.stores.cache_values import MAX_LISTS
from binlog_projector.stores.control_store import ControlStore
from binlog_projector.stores.document_store import DocumentStore
from binlog_projector.stores.mongodb import BsonDocument
from binlog_projector.stores.read_back import Moment
from ops.stack import Stack
from reader.read_model.cached_values import Entry, cache_key, decode, encode_absent, encode_page
from reader.read_model.control import CONTROL, JournalEntry, journal_id
from tests.support.harness import wait_until
from tests.verification.faults.replica_set import replica_set, service_urls

NOW = "2026-11-23T00:00:00.000000Z"
TOO_OLD, UNAVAILABLE = 239, 246
WINDOW = "minSnapshotHistoryWindowInSeconds"


def post(body: str, *, new: bool = False, id: int = 1) -> Put:
    times = {"created_at": NOW, "updated_at": NOW}
    return Put("posts", id, {"author_id": id, "body": body, "hashtags": [], **times}, new=new)


GONE = Remove("posts", 1, {"author_id": 1, "body": "", "hashtags": [], "created_at": "", "updated_at": ""})


@dataclass
class Side:
    """The projector's two stores, and an entry of post 1 in the cache that any batch may replace."""

    documents: DocumentStore
    stage: CacheStage
    admin: redis.Redis

    def commit(self, *mutations: Mutation) -> JournalEntry:
        batch = Batch(self.documents.position.gtid_set)
        batch.fold(mutations)
        return self.documents.commit(batch, NOW)

    @property
    def key(self) -> str:
        return self.cached("post:1")

    def cached(self, key: str) -> str:
        return cache_key(self.documents.serving().epoch, key)

    def ids(self, key: str) -> object:
        """The ids of a cached list."""
        value = self.admin.get(self.cached(key))
        entry = decode(value if isinstance(value, bytes) else None)
        return entry and (entry.ids() if entry.present else "absent")

    def fill(self) -> None:
        self.admin.set(self.key, encode_absent(0), px=600_000)

    @property
    def entry(self) -> Entry | None:
        value = self.admin.get(self.key)
        return decode(value if isinstance(value, bytes) else None)

    def applied(self, entry: JournalEntry) -> Entry | None:
        """The cached entry after the batch. APPLY itself never fails."""
        self.stage.apply(entry)
        assert self.stage.watermark is not None and self.stage.watermark.seq >= entry.checkpoint.seq
        return self.entry


@contextlib.contextmanager
def side_of(stack: Stack, mongodb_url: str) -> Iterator[Side]:
    with (
        mongodb.connect(mongodb_url) as client,
        contextlib.closing(
            cache.connect(stack.environment()["TIDEMARK_PROJECTOR_REDIS_URL"])
        ) as redis_client,
        redis.Redis.from_url(stack.redis.admin_url) as admin,
    ):
        documents = ControlStore(client, 1).create_build(1)
        documents.serve(None, NOW)
        stage = CacheStage(redis_client, documents, ProjectorMetrics(), random.Random())
        stage.catch_up()
        side = Side(documents, stage, admin)
        side.fill()
        yield side


@pytest.fixture
def side(stack: Stack) -> Iterator[Side]:
    with side_of(stack, stack.environment()["TIDEMARK_PROJECTOR_MONGODB_URL"]) as side:
        yield side


@pytest.fixture
def admin(stack: Stack) -> Iterator[MongoClient[BsonDocument]]:
    with MongoClient[BsonDocument](stack.mongodb.admin_url) as client:
        yield client


def test_a_batch_is_read_back_as_it_left_its_documents(side: Side) -> None:
    first, second, third = (
        side.commit(post("1", new=True)),
        side.commit(GONE),
        side.commit(post("3", new=True)),
    )
    for entry, body in ((first, b'"1"'), (second, None), (third, b'"3"')):
        found = side.applied(entry)
        assert found is not None and found.present == (body is not None), entry
        assert found.version == entry.checkpoint.seq and (body or b"") in found.body


def test_only_keys_of_entities_and_lists_are_read_back(side: Side) -> None:
    """Others are deleted, whatever stands behind their first colon. Lists of edges are deleted, too."""
    others = (
        "hashtag:1",
        "hashtag:tide",
        "subject:1",
        "post:1:likes",
        "user:1:followees",
        "user:\u00b2",
        "post:1:x",
        "post:x",
        "1",
    )
    for key in others:
        side.admin.set(cache_key(side.documents.serving().epoch, key), encode_absent(0))
    found = side.applied(side.commit(post("1", new=True), *map(Invalidate, others)))
    assert found is not None and found.present
    assert side.admin.keys(cache_key("*", "*")) == [side.key.encode()]


def test_cached_lists_are_read_back_with_the_items_that_they_lack(side: Side) -> None:
    """A post that is in no cached list becomes no entry."""
    side.admin.delete(side.key)
    lists = ("user:1:posts", "hashtag:74", "everybody:posts")
    for key in lists:
        side.admin.set(side.cached(key), encode_page(0, [], None), px=600_000)
    other = post("other", new=True, id=2)
    head = (*lists[:2], "user:2:posts")
    side.admin.delete(side.cached(lists[2]))
    side.applied(side.commit(post("new", new=True), other, *map(Invalidate, head)))
    assert side.ids("user:1:posts") == [1]
    assert side.entry is not None and b'"new"' in side.entry.body
    assert side.ids("hashtag:74") == "absent"
    assert side.admin.exists(side.cached("user:2:posts"), side.cached("post:2")) == 0

    side.applied(untimed(side.commit(GONE, Invalidate("user:1:posts"))))
    assert side.ids("user:1:posts") is None  # a replay does not know lists


def test_no_more_lists_are_read_back_than_apply_has_time_for(side: Side) -> None:
    keys = [f"user:{id}:posts" for id in range(1, MAX_LISTS + 3)]
    for key in keys:
        side.admin.set(side.cached(key), encode_page(0, [7], None))
    side.applied(side.commit(post("1", new=True), *map(Invalidate, keys)))
    assert sorted(map(str, map(side.ids, keys))) == sorted(["None"] * 2 + ["[1]"] + ["[]"] * (MAX_LISTS - 1))


def test_each_watermark_tells_a_time_at_which_the_checkpoint_was_its_own(
    side: Side, admin: MongoClient[BsonDocument]
) -> None:
    """The watermarks of an empty cache, of batches, of a tick, and of a tick that MongoDB has seen."""
    found = [side.stage.watermark]
    side.applied(side.commit(post("1", new=True)))
    found.append(side.stage.watermark)
    side.stage.tick(side.documents.position.checkpoint.at("2026-11-23T00:00:01.000000Z"))
    found.append(side.stage.watermark)
    side.documents.tick("2026-11-23T00:00:02.000000Z")
    side.stage.tick(side.documents.position.checkpoint)
    found.append(side.stage.watermark)
    side.applied(side.commit(post("2")))
    for mark in (*found, side.stage.watermark):
        assert mark is not None
        (checkpoint,) = Moment(admin["tidemark"], mark.cluster_time).find(
            CONTROL, {"_id": f"checkpoint:{mark.build}"}
        )
        assert (checkpoint["seq"], checkpoint["batch_id"]) == (mark.seq, mark.batch_id)
    batch, tick, later_tick = (mark.cluster_time for mark in found[1:] if mark)
    assert batch == tick < later_tick


def test_a_moment_that_mongodb_has_no_longer_gives_no_value(
    side: Side, admin: MongoClient[BsonDocument]
) -> None:
    entry = side.commit(post("1", new=True))
    posts = f"posts_b{side.documents.build}"
    admin["tidemark"][posts].rename("elsewhere")
    admin["tidemark"]["elsewhere"].rename(posts)
    assert refusal(side, admin, entry) == UNAVAILABLE
    assert side.applied(entry) is None

    side.fill()
    entry = side.commit(post("2"))
    former = admin.admin.command({"getParameter": 1, WINDOW: 1})[WINDOW]
    admin.admin.command({"setParameter": 1, WINDOW: 0})
    try:
        wait_until(lambda: refusal(side, admin, entry) == TOO_OLD, "the history to end", 60)
        assert side.applied(entry) is None
    finally:
        admin.admin.command({"setParameter": 1, WINDOW: former})


def refusal(side: Side, admin: MongoClient[BsonDocument], entry: JournalEntry) -> int | None:
    """MongoDB's error for a read at the batch's time, while its clock goes on."""
    admin["tidemark"]["other"].insert_one({})
    moment = Moment(admin["tidemark"], entry.checkpoint.cluster_time)
    try:
        moment.find(f"posts_b{side.documents.build}", {})
    except OperationFailure as error:
        return error.code
    return None


def test_a_batch_that_mongodb_has_lost_gives_no_value(side: Side, admin: MongoClient[BsonDocument]) -> None:
    """After a restore MongoDB has another batch of that number at the time of the lost one."""
    kept = side.commit(post("1", new=True))
    lost = replace(kept, checkpoint=replace(kept.checkpoint, batch_id="lost"))
    assert side.applied(lost) is None


def test_a_replay_stores_only_what_no_later_batch_has_changed(side: Side) -> None:
    """The journal does not tell a batch's cluster time, so a replay reads at present."""
    first = untimed(side.commit(post("1", new=True)))
    second = untimed(side.commit(post("2")))
    assert side.applied(first) is None
    side.fill()
    found = side.applied(second)
    assert found is not None and b'"2"' in found.body
    third = untimed(side.commit(GONE))
    assert side.applied(third) is None


def test_a_replay_needs_the_word_of_the_journal(side: Side, admin: MongoClient[BsonDocument]) -> None:
    """A document of a lost history may be older than the batch and still not be the batch's."""
    side.applied(side.commit(post("1", new=True)))
    side.fill()
    entry = untimed(side.commit(post("2")))
    side.commit()
    ours = journal_id(side.documents.build, entry.checkpoint.seq)
    admin["tidemark"][CONTROL].update_one({"_id": ours}, {"$set": {"batch_id": "another"}})
    assert side.applied(entry) is None


def untimed(entry: JournalEntry) -> JournalEntry:
    return replace(entry, checkpoint=replace(entry.checkpoint, cluster_time=""))


def test_the_last_batch_is_replayed_with_its_cluster_time(side: Side) -> None:
    former = side.commit(post("1", new=True))
    side.applied(former)
    last = side.commit(GONE)
    assert [one.checkpoint for one in side.documents.journal(former.checkpoint.seq - 1, 10)] == [
        replace(former.checkpoint, cluster_time=""),
        last.checkpoint,
    ]
    side.stage.catch_up()
    assert side.stage.watermark == last.checkpoint.watermark(side.documents.serving().epoch)
    found = side.entry
    assert found is not None and not found.present


def test_another_primary_reads_back_what_the_former_has_committed(stack: Stack, tmp_path: Path) -> None:
    """An election between the commit and the read: the new primary's history goes as far back."""
    with replica_set(tmp_path) as nodes:
        url = service_urls(stack, nodes[0])["TIDEMARK_PROJECTOR_MONGODB_URL"]
        with side_of(stack, url) as side, MongoClient[BsonDocument](nodes[0].admin_url) as admin:
            first = side.commit(post("1", new=True))
            second = side.commit(post("2"))
            before = admin.primary
            admin.admin.command("replSetStepDown", 60, secondaryCatchUpPeriodSecs=10)
            clients = admin, side.documents.database.client
            wait_until(lambda: {one.primary for one in clients}.isdisjoint({None, before}), "another primary")
            for entry, body in ((first, b'"1"'), (second, b'"2"')):
                found = side.applied(entry)
                assert found is not None and body in found.body, found
                assert found.version == entry.checkpoint.seq
