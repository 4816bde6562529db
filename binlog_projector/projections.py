"""From rows to documents: one pure function per table, and the declared counters.

Snapshot, stream, audit and the tests' oracle all derive from PROJECTIONS and COUNTERS. Counters belong to an id, not to
a row: a like of a missing post counts, and a post that is deleted and made again keeps the likes of its id.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from binlog_projector.changes import Row, RowChange
from binlog_projector.errors import UnprojectableRow
from binlog_projector.mutations import DocumentId, Fields, Increment, Invalidate, Mutation, Put, Remove
from reader.read_model import LISTINGS, Listing
from writer.schema import TABLES

HASHTAG = re.compile(r"#(?<![\w&]#)(\w{1,64})")  # found by its first character, then by what is before it


@dataclass(frozen=True)
class Counter:
    """`collection`.`field` of the document `by` counts the rows of `table`."""

    collection: str
    field: str
    table: str
    by: str


COUNTERS = (
    Counter("posts", "like_count", table="likes", by="post_id"),
    Counter("posts", "comment_count", table="comments", by="post_id"),
    Counter("users", "post_count", table="posts", by="author_id"),
    Counter("users", "follower_count", table="follows", by="followee_id"),
    Counter("users", "following_count", table="follows", by="follower_id"),
)


def user(row: Row) -> Fields:
    names = ("subject", "handle", "display_name", "bio")
    return {**{name: row[name] for name in names}, **_times(row, "created_at", "updated_at")}


def post(row: Row) -> Fields:
    return {
        "author_id": row["author_id"],
        "body": row["body"],
        "hashtags": hashtags(row["body"]),
        **_times(row, "created_at", "updated_at"),
    }


def comment(row: Row) -> Fields:
    names = ("post_id", "author_id", "body")
    return {**{name: row[name] for name in names}, **_times(row, "created_at", "updated_at")}


def like(row: Row) -> Fields:
    return {"post_id": row["post_id"], "user_id": row["user_id"], **_times(row, "created_at")}


def follow(row: Row) -> Fields:
    return {"follower_id": row["follower_id"], "followee_id": row["followee_id"], **_times(row, "created_at")}


PROJECTIONS: dict[str, Callable[[Row], Fields]] = {
    "users": user,
    "posts": post,
    "comments": comment,
    "likes": like,
    "follows": follow,
}


def project(change: RowChange) -> list[Mutation]:
    """The mutations of one row change. Raises UnprojectableRow."""
    table, plan = change.table, PLANS[change.table]
    before = plan.document(change.before) if change.before is not None else None
    after = plan.document(change.after) if change.after is not None else None
    mutations: list[Mutation] = []
    if before and (not after or before[0] != after[0]):
        mutations.append(Remove(table, *before))
    if after:
        mutations.append(Put(table, *after, before is None))
    for counter in plan.counters:
        _count(mutations, counter, change.before, change.after)
    for listing in plan.listings:
        _list(mutations, listing, before, after)
    return mutations


@dataclass(frozen=True)
class Plan:
    """What is done with the rows of one table, looked up once."""

    table: str
    primary_key: tuple[str, ...]
    project: Callable[[Row], Fields]
    counters: tuple[Counter, ...]
    listings: tuple[Listing, ...]

    def document(self, row: Row) -> tuple[DocumentId, Fields]:
        """Raises UnprojectableRow."""
        try:
            return _id(self.primary_key, row), self.project(row)
        except (KeyError, TypeError) as error:
            key = {column: row.get(column) for column in self.primary_key}
            raise UnprojectableRow(f"row {key} of table {self.table} cannot be projected: {error!r}") from error


PLANS = {
    name: Plan(
        name,
        TABLES[name].primary_key,
        projection,
        tuple(counter for counter in COUNTERS if counter.table == name),
        tuple(listing for listing in LISTINGS if listing.collection == name),
    )
    for name, projection in PROJECTIONS.items()
}


def hashtags(body: str) -> list[str]:
    """The distinct hashtags of a body, lower case, without the #, in order of appearance."""
    return list(dict.fromkeys(tag.lower() for tag in HASHTAG.findall(body)))


def document_id(table: str, row: Row) -> DocumentId:
    """The row's primary key: the number itself, or the numbers of a pair joined by a colon."""
    return _id(TABLES[table].primary_key, row)


def primary_key(table: str, id: DocumentId) -> tuple[int, ...] | None:
    """The primary key that `document_id` made into this id; None if no row can have it."""
    columns = TABLES[table].primary_key
    parts = [id] if len(columns) == 1 else str(id).split(":")
    usable = len(parts) == len(columns) and all(str(part).isdecimal() for part in parts)
    key = tuple(int(part) for part in parts) if usable else ()
    return key if key and document_id(table, dict(zip(columns, key, strict=True))) == id else None


def _id(primary_key: tuple[str, ...], row: Row) -> DocumentId:
    first, *others = primary_key
    id: DocumentId = row[first]
    return ":".join([str(id), *(str(row[column]) for column in others)]) if others else id


def _count(mutations: list[Mutation], counter: Counter, before: Row | None, after: Row | None) -> None:
    old = before[counter.by] if before is not None else None
    new = after[counter.by] if after is not None else None
    if old == new:
        return
    if old is not None:
        mutations.append(Increment(counter.collection, old, counter.field, -1))
    if new is not None:
        mutations.append(Increment(counter.collection, new, counter.field, +1))


def _list(
    mutations: list[Mutation],
    listing: Listing,
    before: tuple[DocumentId, Fields] | None,
    after: tuple[DocumentId, Fields] | None,
) -> None:
    if before is None and after is not None:
        mutations.append(Invalidate(listing.key(_field(after, listing.by))))
        return
    old, new = (_place(listing, document) for document in (before, after))
    if old != new:
        mutations += (Invalidate(listing.key(place[0])) for place in (old, new) if place is not None)


def _place(listing: Listing, document: tuple[DocumentId, Fields] | None) -> tuple[Any, ...] | None:
    """What decides whether and where a document stands in the list: its parent, its order, the item it names."""
    if document is None:
        return None
    names = (listing.by, *(name for name, _ in listing.order), listing.item_id)
    return tuple(_field(document, name) for name in names)


def _field(document: tuple[DocumentId, Fields], name: str) -> Any:
    id, fields = document
    return id if name == "_id" else fields[name]


def _times(row: Row, *names: str) -> dict[str, str]:
    return {name: _timestamp(name, row[name]) for name in names}


def _timestamp(name: str, moment: object) -> str:
    """RFC 3339 in UTC with all six digits: MongoDB's own date type would keep only milliseconds."""
    if not isinstance(moment, datetime):
        raise TypeError(f"{name} is {moment!r}, not a date and time")
    return moment.isoformat(timespec="microseconds") + "Z"
