"""A read model in real stores, written directly, as a projector would leave it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import redis
from bson.timestamp import Timestamp
from pymongo import IndexModel, ReplaceOne, WriteConcern
from pymongo.client_session import ClientSession

from reader.read_model.announcements import encode
from reader.read_model.cached_values import Watermark
from reader.read_model.control import CONTROL, SERVING_ID, Checkpoint, Serving, checkpoint_id
from reader.read_model.declarations import COLLECTIONS, MODEL_VERSION
from reader.read_model.scans import microseconds
from reader.read_model.shards import SINGLE, Shard, shard_number

SOURCE = "00000000-0000-0000-0000-000000000001"
Document = dict[str, Any]


def moment(second: float = 0) -> str:
    """A time as documents hold it, `second` seconds after an arbitrary start."""
    return (datetime(2026, 11, 23, 16, tzinfo=UTC) + timedelta(seconds=second)).strftime(
        "%Y-%m-%dT%H:%M:%S.%fZ"
    )


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class World:
    """One serving build with its checkpoint, documents, and the watermark and keys of the cache."""

    shards: Sequence[Shard] = (SINGLE,)

    def __init__(self, database: Any, cache: redis.Redis, build: int = 3, epoch: str = "7") -> None:
        self.database = database
        self.cache = cache
        self.build = build
        self.epoch = epoch
        self._gathered: dict[str, list[Document]] | None = None
        self._session: ClientSession | None = None
        self.clear()
        self.begin()

    def clear_build(self, build: int) -> None:
        for collection in COLLECTIONS.values():
            self.database.drop_collection(collection.in_build(build))

    def clear(self) -> None:
        """Empty this build's collections, with their indexes, and the cache."""
        self.database[CONTROL].delete_many({})
        for collection in COLLECTIONS.values():
            self.database[collection.in_build(self.build)].delete_many({})
        self._create_collections()
        self.cache.flushall()

    def begin_build(self, build: int, epoch: str) -> None:
        """Write all later documents and commits to a build of their own."""
        self.build, self.epoch = build, epoch
        self._create_collections()

    def _create_collections(self) -> None:
        there = self.database.list_collection_names()
        for collection in COLLECTIONS.values():
            if (name := collection.in_build(self.build)) not in there:
                self.database.create_collection(name, **collection.options)
            if collection.indexes:
                self.database[name].create_indexes([IndexModel(list(keys)) for keys in collection.indexes])

    def begin(self) -> None:
        """A first watermark that names no cluster time: documents put before the next batch are seen."""
        self.set_watermark(replace(self.commit(1), cluster_time=""))

    def batch(
        self, seq: int, keys: Sequence[str] = (), *, batch_id: str = "", as_of: str = "", open: bool = False
    ) -> Checkpoint:
        """Leave the state after a batch that went through both stages."""
        checkpoint = replace(self.commit(seq, batch_id, as_of), open=open)
        self.apply(checkpoint, keys)
        return checkpoint

    def commit(self, seq: int, batch_id: str = "", as_of: str = "") -> Checkpoint:
        """Leave the state after a batch that is in MongoDB but not yet in Redis."""
        checkpoint = Checkpoint(
            self.build, seq, batch_id or secrets.token_hex(8), as_of or now(), f"{SOURCE}:1-{seq}"
        )
        fields = {name: getattr(checkpoint, name) for name in ("seq", "batch_id", "as_of", "gtid_set")}
        of_build = {"build": self.build, "model_version": MODEL_VERSION}
        epochs = tuple(self.epoch for _ in self.shards) if len(self.shards) > 1 else ()
        control = (
            {"_id": SERVING_ID, **Serving(self.build, self.epoch, epochs).encode()},
            {"_id": checkpoint_id(self.build), **of_build, **fields},
        )
        replacements = [{"q": {"_id": one["_id"]}, "u": one, "upsert": True} for one in control]
        concern = {} if self._session else {"writeConcern": {"w": "majority"}}
        answer = self.database.command(
            "update", CONTROL, updates=replacements, session=self._session, **concern
        )
        return replace(checkpoint, cluster_time=_text(answer["operationTime"]))

    def apply(
        self,
        checkpoint: Checkpoint,
        keys: Sequence[str] = (),
        counted: Sequence[str] = (),
        values: Mapping[str, bytes] | None = None,
    ) -> None:
        """As APPLY of each shard, one after the other."""
        for shard in self.shards:
            self.apply_to(shard, checkpoint, keys, counted, values)

    def apply_to(
        self,
        shard: Shard,
        checkpoint: Checkpoint,
        keys: Sequence[str] = (),
        counted: Sequence[str] = (),
        values: Mapping[str, bytes] | None = None,
    ) -> None:
        """As APPLY: in one step, its keys get values or leave, its watermark is set, and readers are told."""
        found, watermark = self.watermark(shard), checkpoint.watermark(self.epoch)
        assert found.epoch == watermark.epoch, "a new epoch begins with SET_WATERMARK"
        keys, counted = ([key for key in some if self.shard_of(key) is shard] for some in (keys, counted))
        with self.cache_of(shard).pipeline(transaction=True) as step:
            for key in (*keys, *counted):
                step.delete(shard.cache_key(self.epoch, key))
            for key, value in (values or {}).items():
                if self.shard_of(key) is shard:
                    step.set(shard.cache_key(self.epoch, key), value)
            step.set(shard.watermark_key, watermark.encode())
            for message in encode(found.lineage, watermark, keys, counted):
                step.spublish(shard.channel, message)
            step.execute()

    def set_watermark(self, checkpoint: Checkpoint, model_version: int = MODEL_VERSION) -> None:
        """As SET_WATERMARK, which begins an epoch and announces nothing."""
        watermark = replace(checkpoint.watermark(self.epoch), model_version=model_version)
        for shard in self.shards:
            self.cache_of(shard).set(shard.watermark_key, watermark.encode())

    def cache_of(self, shard: Shard) -> redis.Redis:
        """Of the server that has the shard."""
        return self.cache

    def shard_of(self, key: str) -> Shard:
        return self.shards[shard_number(key, len(self.shards))]

    def watermark(self, shard: Shard = SINGLE) -> Watermark:
        text = self.cache_of(shard).get(shard.watermark_key)
        assert isinstance(text, bytes)
        return Watermark.decode(text)

    def cached(self, key: str) -> bytes | None:
        shard = self.shard_of(key)
        value = self.cache_of(shard).get(shard.cache_key(self.epoch, key))
        assert value is None or isinstance(value, bytes)
        return value

    def put_cached(self, key: str, value: bytes, ttl_ms: int = 60_000) -> None:
        shard = self.shard_of(key)
        self.cache_of(shard).set(shard.cache_key(self.epoch, key), value, px=ttl_ms)

    def all_cached(self) -> dict[Any, Any]:
        """All of Redis."""
        names = self.cache.keys("*")
        assert isinstance(names, list)
        return {bytes(name): self.cache.get(name) for name in names if isinstance(name, bytes)}

    def ttl_ms(self, key: str) -> int:
        left = self.cache.pttl(SINGLE.cache_key(self.epoch, key))
        assert isinstance(left, int)
        return left

    def user(self, id: int, **fields: Any) -> Document:
        handle = fields.get("handle", f"user_{id}")
        document = {
            "_id": id,
            "subject": f"subject-{id}",
            "handle": handle,
            "handles": [handle.lower()],
            "display_name": f"User {id}",
            "bio": "",
            "created_at": moment(),
            "updated_at": moment(),
            **dict.fromkeys(COLLECTIONS["users"].counters, 0),
            "v": 1,
        }
        return self.put("users", {**document, **fields})

    def post(self, id: int, author_id: int = 1, **fields: Any) -> Document:
        body = fields.get("body", f"post {id}")
        document = {
            "_id": id,
            "author_id": author_id,
            "body": body,
            "hashtags": re.findall(r"#(\w+)", body.lower()),
            **dict.fromkeys(COLLECTIONS["posts"].counters, 0),
            "created_at": moment(id),
            "updated_at": moment(id),
            "v": 1,
        }
        return self.put("posts", {**document, **fields})

    def comment(
        self, id: int, post_id: int, author_id: int = 1, body: str = "", told: int | None = None
    ) -> Document:
        times = {"created_at": moment(id), "updated_at": moment(id)}
        return self.put(
            "comments",
            {
                "_id": id,
                "post_id": post_id,
                "author_id": author_id,
                "body": body or f"c {id}",
                **times,
                "told": told,
                "v": 1,
            },
        )

    def like(self, post_id: int, user_id: int, second: float = 0, told: int | None = None) -> Document:
        return self._edge("likes", post_id, user_id, second, told=told)

    def follow(self, follower_id: int, followee_id: int, second: float = 0) -> Document:
        return self._edge("follows", follower_id, followee_id, second)

    def mention(self, user_id: int, id: int, author_id: int = 2, post_id: int = 1) -> Document:
        return self._edge("mentions", user_id, id, id, author_id=author_id, post_id=post_id, comment_id=None)

    def _edge(self, collection: str, p: int, u: int, second: float, **fields: Any) -> Document:
        return self.put(collection, {"_id": {"p": p, "t": microseconds(moment(second)), "u": u}, **fields})

    def put(self, collection: str, document: Document) -> Document:
        if self._gathered is None:
            self._replace(COLLECTIONS[collection].in_build(self.build), document)
        else:
            self._gathered.setdefault(COLLECTIONS[collection].in_build(self.build), []).append(document)
        return document

    @contextmanager
    def many(self) -> Iterator[None]:
        """Gather the documents of the block; put them together at the end."""
        gathered: dict[str, list[Document]] = {}
        self._gathered = gathered
        yield
        self._gathered = None
        for collection, documents in gathered.items():
            self.database[collection].bulk_write(
                [ReplaceOne({"_id": one["_id"]}, one, upsert=True) for one in documents]
            )

    def remove(self, collection: str, id: int | str) -> None:
        self.database[COLLECTIONS[collection].in_build(self.build)].delete_one(
            {"_id": id}, session=self._session
        )

    @contextmanager
    def transaction(self) -> Iterator[Callable[[], str]]:
        """All that the block does with MongoDB is of one moment. Gives what then tells the cluster time."""
        with self.database.client.start_session() as session:
            with session.start_transaction(write_concern=WriteConcern("majority")):
                self._session = session
                yield lambda: _text(session.operation_time)
            self._session = None

    def _replace(self, collection: str, document: Document) -> None:
        self.database[collection].replace_one(
            {"_id": document["_id"]}, document, upsert=True, session=self._session
        )


def _text(time: Timestamp) -> str:
    return f"{time.time}.{time.inc}"
