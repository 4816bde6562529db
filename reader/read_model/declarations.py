"""Which collections, entities and lists there are, what documents look like, and how they become JSON.

MODEL_VERSION changes whenever cached bytes, document shapes or the rule for a field do. A reader that meets another
version in the watermark bypasses Redis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
