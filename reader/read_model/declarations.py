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
NEWEST_FIRST: Order = (("_id", -1),)


@dataclass(frozen=True, kw_only=True)
class Collection:
    """One MongoDB collection of a build, with the name of the MySQL table whose rows its documents are.

    A document without `created_at` is a stub: counters without a row. `indexes` are those of all scans.
    """

    name: str
    counters: tuple[str, ...]
    indexes: tuple[Order, ...]

    def in_build(self, build: int) -> str:
        return f"{self.name}_b{build}"


@dataclass(frozen=True, kw_only=True)
class Entity:
    """A document that is cached under a key of its own; `head` is what a reader needs before the body."""

    name: str
    collection: str
    to_json: Callable[[Document], dict[str, Any]]
    to_head: Callable[[Document], bytes]

    def key(self, id: int) -> str:
        return f"{self.name}:{id}"


@dataclass(frozen=True, kw_only=True)
class Scan:
    """A walk through one index, from the documents of one value of `by`, in `order`, to ids of items.

    `_id` stands for the id of the document itself.
    """

    collection: str
    by: str
    order: Order
    item_id: str

    @property
    def index(self) -> Order:
        return ((self.by, 1), *self.order)


@dataclass(frozen=True, kw_only=True)
class Listing(Scan):
    """A scan whose first page is cached and whose pages are answers: ids of `item`s, `by` the parent's id."""

    path: str
    name: str
    parent: Entity
    item: Entity

    def key(self, parent_id: int) -> str:
        return f"{self.parent.name}:{parent_id}:{self.name}"


def is_present(document: Document | None) -> bool:
    """False for no document and for a stub: readers see neither."""
    return document is not None and "created_at" in document


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


USER = Entity(name="user", collection="users", to_json=_user_json, to_head=_author_bytes)
POST = Entity(name="post", collection="posts", to_json=_post_json, to_head=_author_id)
COMMENT = Entity(name="comment", collection="comments", to_json=_comment_json, to_head=_author_id)
ENTITIES = {entity.name: entity for entity in (USER, POST, COMMENT)}
AUTHORED = frozenset({POST.name, COMMENT.name})  # their JSON is completed with the author by `with_author`

POST_COMMENTS = Listing(
    path="/post/{id}/comments",
    name="comments",
    parent=POST,
    item=COMMENT,
    collection="comments",
    by="post_id",
    order=NEWEST_FIRST,
    item_id="_id",
)
POST_LIKES = Listing(
    path="/post/{id}/likes",
    name="likes",
    parent=POST,
    item=USER,
    collection="likes",
    by="post_id",
    order=(("created_at", -1), ("user_id", -1)),
    item_id="user_id",
)
USER_POSTS = Listing(
    path="/user/{id}/posts",
    name="posts",
    parent=USER,
    item=POST,
    collection="posts",
    by="author_id",
    order=NEWEST_FIRST,
    item_id="_id",
)
USER_FOLLOWERS = Listing(
    path="/user/{id}/followers",
    name="followers",
    parent=USER,
    item=USER,
    collection="follows",
    by="followee_id",
    order=(("created_at", -1), ("follower_id", -1)),
    item_id="follower_id",
)
USER_FOLLOWING = Listing(
    path="/user/{id}/following",
    name="following",
    parent=USER,
    item=USER,
    collection="follows",
    by="follower_id",
    order=(("created_at", -1), ("followee_id", -1)),
    item_id="followee_id",
)
LISTINGS = (POST_COMMENTS, POST_LIKES, USER_POSTS, USER_FOLLOWERS, USER_FOLLOWING)

USERS_BY_SUBJECT = Scan(collection="users", by="subject", order=(), item_id="_id")
POSTS_BY_HASHTAG = Scan(collection="posts", by="hashtags", order=NEWEST_FIRST, item_id="_id")
SCANS: tuple[Scan, ...] = (*LISTINGS, USERS_BY_SUBJECT, POSTS_BY_HASHTAG)


def _collection(name: str, counters: tuple[str, ...] = ()) -> Collection:
    indexes = dict.fromkeys(scan.index for scan in SCANS if scan.collection == name)
    return Collection(name=name, counters=counters, indexes=tuple(indexes))


COLLECTIONS = {
    collection.name: collection
    for collection in (
        _collection("users", counters=("post_count", "follower_count", "following_count")),
        _collection("posts", counters=("like_count", "comment_count")),
        _collection("comments"),
        _collection("likes"),
        _collection("follows"),
    )
}
