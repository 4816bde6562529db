"""One build in a real MongoDB and its cache: who may commit, what the journal keeps, what a probe is good for."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from pymongo import MongoClient
from pymongo.database import Database

from binlog_projector import cache, mongodb
from binlog_projector.batch import Batch
from binlog_projector.cache import CacheStage
from binlog_projector.control_store import ControlStore
from binlog_projector.document_store import DocumentStore
from binlog_projector.errors import StandDown
from binlog_projector.metrics import ProjectorMetrics
from binlog_projector.mutations import Put
from ops.stack import Stack
from reader.read_model import cache_key, decode, encode_absent, journal_id
from tests.harness import wait_until

FIELDS = {"author_id": 1, "body": "b", "hashtags": [], "created_at": "2026", "updated_at": "2026"}


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


def test_a_former_leader_stands_down_although_its_successor_has_an_entry_for_the_same_batch(
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


def test_entries_of_the_journal_say_when_they_expire(stack: Stack, database: Database[dict[str, Any]]) -> None:
    with control_of(stack, journal_hours=2) as control:
        control.open_serving(1)
        commit_posts(control.create_build(1), 1)
    (entry,) = database["control"].find({"expires_at": {"$exists": True}})
    left = entry["expires_at"].replace(tzinfo=UTC) - datetime.now(UTC)
    assert timedelta(hours=1.9) < left < timedelta(hours=2)
    assert database["control"].index_information()["expires_at_1"]["expireAfterSeconds"] == 0


@pytest.mark.long
def test_entries_of_the_journal_expire_and_nothing_else_does(stack: Stack, database: Database[dict[str, Any]]) -> None:
    """MongoDB looks for what has expired once a minute."""
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


@dataclass(frozen=True)
class Following:
    """A cache that follows a new build, and how tests look into it and tamper with it."""

    documents: DocumentStore
    stage: CacheStage
    cache: redis.Redis
    epoch: str

    def put(self, *keys: str) -> None:
        for key in keys:
            self.cache.set(cache_key(self.epoch, key), encode_absent(1))

    def remove(self, key: str) -> None:
        self.cache.delete(cache_key(self.epoch, key))

    def bodies(self, *keys: str) -> list[bytes | None]:
        values = (self.cache.get(cache_key(self.epoch, key)) for key in keys)
        return [
            entry.body if (entry := decode(value if isinstance(value, bytes) else None)) else None for value in values
        ]


@pytest.fixture
def following(stack: Stack) -> Iterator[Following]:
    with (
        control_of(stack) as control,
        contextlib.closing(cache.connect(stack.environment()["TIDEMARK_PROJECTOR_REDIS_URL"])) as client,
        redis.Redis.from_url(stack.redis.admin_url) as looking,
    ):
        documents = control.create_build(1)
        documents.serve(None, "2026")
        stage = CacheStage(client, documents, ProjectorMetrics(), random.Random())
        stage.catch_up()
        yield Following(documents, stage, looking, documents.serving().epoch)


def test_what_comes_into_redis_after_the_probe_is_deleted_and_what_was_there_is_replaced(following: Following) -> None:
    batch = batch_of(following.documents, 1, 2, 3)
    following.put("post:1", "post:2")
    following.stage.probe(batch.keys)
    following.remove("post:2")
    following.put("post:3")
    following.stage.apply(following.documents.commit(batch, "2026"))
    replaced, *others = following.bodies("post:1", "post:2", "post:3")
    assert replaced is not None and b'"body":"b"' in replaced
    assert others == [None, None]


def test_a_probe_is_of_no_use_to_another_batch_of_the_same_keys(following: Following) -> None:
    """The one that was probed may not have been committed."""
    following.stage.probe(batch_of(following.documents, 1).keys)
    following.put("post:1")
    following.stage.apply(following.documents.commit(batch_of(following.documents, 1), "2026"))
    (replaced,) = following.bodies("post:1")
    assert replaced is not None and b'"body":"b"' in replaced
