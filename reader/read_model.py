"""The read contract: collections, document shapes, indexes, cache keys, and how a document becomes JSON bytes.

The projector writes by it and the reader reads by it. It does no I/O. MODEL_VERSION changes whenever cached bytes,
document shapes or the rule for a field do; a reader that meets another version in the watermark bypasses Redis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

MODEL_VERSION = 2
Document = Mapping[str, Any]
Order = tuple[tuple[str, int], ...]

PAGE_LIMIT = 20  # of the first page, the one that is cached
PAGE_LIMIT_MAX = 100


@dataclass(frozen=True)
class Collection:
    """One MongoDB collection of a build. A document without `created_at` is a stub: counters without a row."""

    name: str
    counters: tuple[str, ...] = ()
    indexes: tuple[Order, ...] = ()

    def in_build(self, build: int) -> str:
        return f"{self.name}_b{build}"


COLLECTIONS = {
    collection.name: collection
    for collection in (
        Collection("users", ("post_count", "follower_count", "following_count"), ((("subject", 1),),)),
        Collection(
            "posts",
            ("like_count", "comment_count"),
            ((("author_id", 1), ("_id", -1)), (("hashtags", 1), ("_id", -1))),
        ),
        Collection("comments", (), ((("post_id", 1), ("_id", -1)),)),
        Collection("likes", (), ((("post_id", 1), ("created_at", -1), ("user_id", -1)),)),
        Collection(
            "follows",
            (),
            (
                (("followee_id", 1), ("created_at", -1), ("follower_id", -1)),
                (("follower_id", 1), ("created_at", -1), ("followee_id", -1)),
            ),
        ),
    )
}


def is_present(document: Document | None) -> bool:
    """False for no document and for a stub: readers see neither."""
    return document is not None and "created_at" in document


@dataclass(frozen=True)
class Entity:
    """A document that is cached under a key of its own; `head` is what a reader needs before the body."""

    name: str
    collection: str
    to_json: Callable[[Document], dict[str, Any]]
    to_head: Callable[[Document], bytes]

    def key(self, id: int) -> str:
        return f"{self.name}:{id}"


@dataclass(frozen=True)
class Listing:
    """A cached first page: ids of `item`s, taken from the edges of `collection` whose `by` is the parent's id."""

    path: str
    name: str
    parent: Entity
    collection: str
    by: str
    order: Order
    item: Entity
    item_id: str

    def key(self, parent_id: int) -> str:
        return f"{self.parent.name}:{parent_id}:{self.name}"


def _user_json(user: Document) -> dict[str, Any]:
    return {
        **_author_json(user),
        "bio": user["bio"],
        **_counts("users", user),
        "created_at": user["created_at"],
        "updated_at": user["updated_at"],
    }


def _counts(collection: str, document: Document) -> dict[str, Any]:
    return {name: document[name] for name in COLLECTIONS[collection].counters}


def _author_json(user: Document) -> dict[str, Any]:
    return {"id": str(user["_id"]), "handle": user["handle"], "display_name": user["display_name"]}


def _post_json(post: Document) -> dict[str, Any]:
    return {
        "id": str(post["_id"]),
        "body": post["body"],
        "hashtags": post["hashtags"],
        **_counts("posts", post),
        "created_at": post["created_at"],
        "updated_at": post["updated_at"],
    }


def _comment_json(comment: Document) -> dict[str, Any]:
    return {
        "id": str(comment["_id"]),
        "post_id": str(comment["post_id"]),
        "body": comment["body"],
        "created_at": comment["created_at"],
        "updated_at": comment["updated_at"],
    }


def _author_id(document: Document) -> bytes:
    return b"%d" % document["author_id"]


def _author_bytes(user: Document) -> bytes:
    return msgspec.json.encode(_author_json(user))


USER = Entity("user", "users", _user_json, to_head=_author_bytes)
POST = Entity("post", "posts", _post_json, to_head=_author_id)
COMMENT = Entity("comment", "comments", _comment_json, to_head=_author_id)
ENTITIES = {entity.name: entity for entity in (USER, POST, COMMENT)}
AUTHORED = frozenset({POST.name, COMMENT.name})  # their JSON is completed with the author by `with_author`

LISTINGS = (
    Listing("/post/{id}/comments", "comments", POST, "comments", "post_id", (("_id", -1),), COMMENT, "_id"),
    Listing(
        "/post/{id}/likes", "likes", POST, "likes", "post_id", (("created_at", -1), ("user_id", -1)), USER, "user_id"
    ),
    Listing("/user/{id}/posts", "posts", USER, "posts", "author_id", (("_id", -1),), POST, "_id"),
    Listing(
        "/user/{id}/followers",
        "followers",
        USER,
        "follows",
        "followee_id",
        (("created_at", -1), ("follower_id", -1)),
        USER,
        "follower_id",
    ),
    Listing(
        "/user/{id}/following",
        "following",
        USER,
        "follows",
        "follower_id",
        (("created_at", -1), ("followee_id", -1)),
        USER,
        "followee_id",
    ),
)


def with_author(body: bytes, author: bytes | None) -> bytes:
    """A post's or comment's JSON completed with its author's (`None`: the author is gone)."""
    return body[:-1] + b',"author":' + (author or b"null") + b"}"


def page_body(items: list[bytes], next_cursor: str | None) -> bytes:
    """The JSON of one page of a list: items in order, and where to go on."""
    return b'{"items":[' + b",".join(items) + b'],"next":' + msgspec.json.encode(next_cursor) + b"}"


# Cached values. Versions are 16 hex digits so that Redis' Lua can compare them as strings (its numbers are doubles).
VALUE, ABSENT, LEASE = b"V", b"N", b"L"
WATERMARK_KEY = "tidemark:watermark"
VALUE_TTL_MS = 3_600_000  # +- 10 %
ABSENT_TTL_MS = (10_000, 30_000)
LEASE_TTL_MS = 2_000
MAX_VALUE_BYTES = 256 * 1024


def cache_key(epoch: str, key: str) -> str:
    return f"tidemark:e{epoch}:{key}"


def value_ttl_ms(fraction: float) -> int:
    """An hour +- 10 % for `fraction` in [0, 1): what is filled together does not expire together."""
    return int(VALUE_TTL_MS * (0.9 + 0.2 * fraction))


def absent_ttl_ms(fraction: float) -> int:
    least, most = ABSENT_TTL_MS
    return int(least + (most - least) * fraction)


def encode_version(version: int) -> bytes:
    return b"%016x" % version


def encode_entity(entity: Entity, document: Document) -> bytes:
    """V, version, head, newline, JSON. JSON escapes newlines, so the first one ends the head."""
    body = msgspec.json.encode(entity.to_json(document))
    return VALUE + encode_version(document["v"]) + entity.to_head(document) + b"\n" + body


def encode_absent(version: int) -> bytes:
    return ABSENT + encode_version(version)


def encode_page(version: int, ids: list[int], next_cursor: str | None) -> bytes:
    """V, version, cursor of the next page (empty: none), newline, ids separated by commas."""
    return VALUE + encode_version(version) + (next_cursor or "").encode() + b"\n" + b",".join(b"%d" % id for id in ids)


class Entry(msgspec.Struct, frozen=True):
    """A cached value taken apart. `present` is False for a known absence."""

    present: bool
    version: int
    head: bytes = b""
    body: bytes = b""

    def ids(self) -> list[int]:
        return [int(id) for id in self.body.split(b",")] if self.body else []


def decode(value: bytes | None) -> Entry | None:
    """The entry of a cached value, or None if the key was missing or held a lease."""
    if value is None or value[:1] == LEASE:
        return None
    version = int(value[1:17], 16)
    if value[:1] == ABSENT:
        return Entry(False, version)
    head, _, body = value[17:].partition(b"\n")
    return Entry(True, version, head, body)


@dataclass(frozen=True)
class Watermark:
    """The tide mark: everything up to `seq` of this build is in the cache, and `as_of` (MySQL's clock) is how
    recent that is. `lineage` is what must match for the cache to be a continuation of MongoDB's history."""

    build: int
    epoch: str
    model_version: int
    seq: int
    batch_id: str
    as_of: str
    gtid_set: str

    @property
    def lineage(self) -> str:
        return f"{self.build}|{self.epoch}|{self.model_version}|{self.seq}|{self.batch_id}|"

    def encode(self) -> str:
        return f"{self.lineage}{self.as_of}|{self.gtid_set}"

    @classmethod
    def decode(cls, text: bytes | str) -> Watermark:
        build, epoch, model_version, seq, batch_id, as_of, gtid_set = (
            text.decode() if isinstance(text, bytes) else text
        ).split("|")
        return cls(int(build), epoch, int(model_version), int(seq), batch_id, as_of, gtid_set)


# The control collection says who serves and how far each build is. It holds the journals, too: which keys each batch
# touched, so that the cache can be brought up to date from any watermark that is still in there. All in one collection,
# because a batch's checkpoint and its entry are then one command.
CONTROL = "control"
SERVING_ID = "serving"


def checkpoint_id(build: int) -> str:
    return f"checkpoint:{build}"


def journal_id(build: int, seq: int) -> dict[str, int]:
    """Ids of one build's entries follow one another; no other document of the collection has an id of this type."""
    return {"build": build, "seq": seq}


@dataclass(frozen=True)
class Serving:
    """The build that readers use and the epoch of its cache keys."""

    build: int
    epoch: str

    @classmethod
    def decode(cls, document: Document) -> Serving:
        return cls(document["build"], document["epoch"])


@dataclass(frozen=True)
class Checkpoint:
    """Everything in `gtid_set` is in the documents of `build`; `as_of` (MySQL's clock) is how recent that is."""

    build: int
    seq: int
    batch_id: str
    as_of: str
    gtid_set: str

    @classmethod
    def decode(cls, document: Document) -> Checkpoint:
        return cls(*(document[name] for name in ("build", "seq", "batch_id", "as_of", "gtid_set")))

    def watermark(self, epoch: str) -> Watermark:
        return Watermark(self.build, epoch, MODEL_VERSION, self.seq, self.batch_id, self.as_of, self.gtid_set)

    def at(self, as_of: str) -> Checkpoint:
        """The same checkpoint, known to be complete at a later moment."""
        return replace(self, as_of=as_of)
