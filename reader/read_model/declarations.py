"""The declared collections, entities and lists: the shapes of documents, and how they become JSON.

MODEL_VERSION changes whenever cached bytes, document shapes or the rule for a field change. A reader that
meets another version in the watermark bypasses Redis.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from reader.read_model.entities import AUTHOR, VIEWER, Count, Document, Entity, Listing, OwnedList, json_of
from reader.read_model.notifications import NOTIFICATIONS
from reader.read_model.scans import CachedList, Collection, Edge, Order, TextList, WholeList, microseconds
from tidemark.ids import Id

MODEL_VERSION = 4
PAGE_LIMIT_MAX = 100
NEWEST_FIRST: Order = (("_id", -1),)
HEAD = 100  # ids of the lists from which feeds and hashtags are made
MAX_FOLLOWEES = 5_000  # of whom the feed shows posts: the most recently followed
MAX_LIKED = 5_000  # posts whose likes by one user are cached: the newest posts

Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]


class Author(msgspec.Struct):
    """The user who wrote a post or comment."""

    id: Id
    handle: str
    display_name: str


class UserViewer(msgspec.Struct):
    """Whether the caller follows the user, and the user the caller."""

    following: bool
    followed_by: bool


class PostViewer(msgspec.Struct):
    """Whether the caller likes the post."""

    liked: bool


class User(msgspec.Struct):
    id: Id
    handle: str
    display_name: str
    bio: str
    post_count: Count
    follower_count: Count
    following_count: Count
    created_at: Time
    updated_at: Time
    viewer: UserViewer | UnsetType = UNSET  # if the request includes it


class Post(msgspec.Struct):
    id: Id
    body: str
    hashtags: list[str]
    like_count: Count
    comment_count: Count
    created_at: Time
    updated_at: Time
    author: Author | None  # null: gone
    viewer: PostViewer | UnsetType = UNSET  # if the request includes it


class Comment(msgspec.Struct):
    """A comment with its author (null: gone)."""

    id: Id
    post_id: Id
    body: str
    created_at: Time
    updated_at: Time
    author: Author | None


def _author_id(document: Document) -> bytes:
    return b"%d" % document["author_id"]


def _author_and_rank(post: Document) -> bytes:
    """The author's id, and what a ranking needs: `created_at` in seconds, likes, comments."""
    second = microseconds(post["created_at"]) // 1_000_000
    return b"%d %d %d %d" % (post["author_id"], second, post["like_count"], post["comment_count"])


def _author_bytes(user: Document) -> bytes:
    return msgspec.json.encode(_author_json(user))


_author_json = json_of(Author)
USER = Entity(name="user", collection="users", shown=User, to_head=_author_bytes)
POST = Entity(name="post", collection="posts", shown=Post, to_head=_author_and_rank)
COMMENT = Entity(name="comment", collection="comments", shown=Comment, to_head=_author_id)
ENTITIES = {entity.name: entity for entity in (USER, POST, COMMENT)}
AUTHORED, VIEWED = (
    frozenset(name for name, entity in ENTITIES.items() if field in entity.shown.__struct_fields__)
    for field in (AUTHOR, VIEWER)
)

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
    limit=HEAD,
    parent=USER,
    item=POST,
    collection="posts",
    by="author_id",
    order=NEWEST_FIRST,
    item_id="_id",
)
USER_COMMENTS = Listing(
    path="/user/{id}/comments",
    name="comments",
    parent=USER,
    item=COMMENT,
    collection="comments",
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
LISTINGS = (
    POST_COMMENTS,
    POST_LIKES,
    USER_POSTS,
    USER_COMMENTS,
    USER_FOLLOWING,
    USER_FOLLOWERS,
)

USER_FOLLOWEES = OwnedList(
    name="followees",
    parent=USER,
    limit=MAX_FOLLOWEES,
    collection=USER_FOLLOWING.collection,
    by=USER_FOLLOWING.by,
    order=USER_FOLLOWING.order,
    item_id=USER_FOLLOWING.item_id,
)
USER_LIKED = OwnedList(
    name="liked",
    parent=USER,
    limit=MAX_LIKED,
    collection="likes",
    by="user_id",
    order=(("post_id", -1),),
    item_id="post_id",
)
USERS_BY_SUBJECT = TextList(
    name="subject", limit=1, collection="users", by="subject", order=(), item_id="_id"
)
USERS_BY_HANDLE = TextList(name="handle", limit=1, collection="users", by="handles", order=(), item_id="_id")
POSTS_BY_HASHTAG = TextList(
    name="hashtag", limit=HEAD, collection="posts", by="hashtags", order=NEWEST_FIRST, item_id="_id"
)
EVERYBODY_POSTS = WholeList(
    name="everybody", limit=HEAD, collection="posts", order=NEWEST_FIRST, item_id="_id"
)
LISTS: tuple[CachedList, ...] = (
    *LISTINGS,
    USER_FOLLOWEES,
    USER_LIKED,
    USERS_BY_SUBJECT,
    USERS_BY_HANDLE,
    POSTS_BY_HASHTAG,
    EVERYBODY_POSTS,
    *NOTIFICATIONS.sources,
    NOTIFICATIONS,
)


def _collection(name: str) -> Collection:
    indexes = tuple(dict.fromkeys(scan.index for scan in LISTS if scan.collection == name and scan.by))
    for entity in ENTITIES.values():
        if entity.collection == name:
            return Collection(name=name, counters=entity.counters, indexes=indexes)
    edge, others = Edge(*(column for column, _ in indexes[0])), indexes[1:]
    return Collection(name=name, counters=(), indexes=tuple(map(edge.index, others)), edge=edge)


COLLECTIONS = {
    name: _collection(name)
    for name in ("users", "posts", "comments", "likes", "follows", "mentions", "notification_reads")
}
