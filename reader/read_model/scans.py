"""Scans: the orders in which documents are read. Edges: documents stored in the order of one scan.

Lists: scans whose first ids are cached. Collections: documents with the indexes that scans need.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

Order = tuple[tuple[str, int], ...]
EPOCH = datetime(1970, 1, 1)
MICROSECOND = timedelta(microseconds=1)
ROWS: Mapping[str, Any] = {"created_at": {"$exists": True}}  # no stubs
CLUSTERED: Mapping[str, Any] = {"clusteredIndex": {"key": {"_id": 1}, "unique": True}}


@dataclass(frozen=True, kw_only=True)
class Scan:
    """A walk through one index, from the documents of one value of `by`, in `order`, to ids of items.

    `_id` stands for the id of the document itself. `by` is empty for a walk through all rows' documents.
    """

    collection: str
    by: str
    order: Order
    item_id: str

    @property
    def index(self) -> Order:
        return (*(((self.by, 1),) if self.by else ()), *self.order)

    def first(self, value: Any) -> dict[str, Any]:
        """The fields of MongoDB's `find` for the documents of one value, which are no edges.

        Only fields of the index are read. The index is named: the planner would at times walk all of `_id`.
        A walk through all rows' documents takes `_id`, and reads the documents, because some may be stubs.
        """
        filter, hint = ({self.by: value}, dict(self.index)) if self.by else (ROWS, {"_id": 1})
        names = dict.fromkeys((*(name for name, _ in self.order), self.item_id), True)
        return {
            "filter": filter,
            "projection": {"_id": False, **names},
            "sort": dict(self.order),
            "hint": hint,
        }


@dataclass(frozen=True, kw_only=True)
class CachedList(Scan):
    """A scan whose first `limit` ids are cached, under a key for each value of `by`."""

    name: str
    limit: int
    value_type: ClassVar[type] = int

    def key(self, value: Any) -> str:
        raise NotImplementedError

    def value(self, text: str) -> int | str:
        """The value in a key. Raises ValueError."""
        raise NotImplementedError

    @property
    def shows(self) -> tuple[str, ...]:
        """Columns that are cached, besides the item's id."""
        return ()

    @cached_property
    def label(self) -> str:
        """The list in words, for metrics: `post_comments`, `hashtag`."""
        return self.name

    def keys_of(self, document: Mapping[str, Any]) -> list[str]:
        """The keys of the lists that a document stands in; none for values that are no ids and no text."""
        found = document.get(self.by)
        values = found if isinstance(found, list) else [found]
        return [self.key(value) for value in values if isinstance(value, self.value_type)]


@dataclass(frozen=True, kw_only=True)
class TextList(CachedList):
    """A list by a text, in its key as hex: a text may contain any separator. An empty one is absent."""

    value_type = str

    def key(self, value: str) -> str:
        return f"{self.name}:{value.encode().hex()}"

    def value(self, text: str) -> str:
        return bytes.fromhex(text).decode()


@dataclass(frozen=True, kw_only=True)
class WholeList(CachedList):
    """A list of all rows of a collection, under one key. Its value is the empty text."""

    by: str = ""

    def key(self, value: str) -> str:
        return f"{self.name}:{self.collection}"

    def value(self, text: str) -> str:
        if text != self.collection:
            raise ValueError(f"{self.name} has no list {text}")
        return ""

    def keys_of(self, document: Mapping[str, Any]) -> list[str]:
        return [self.key("")]


class EdgeId(NamedTuple):
    """An edge's `_id`, in MongoDB {p, t, u} in this order: the list's owner, the time, the listed item.

    `t`: microseconds since 1970. MongoDB's dates keep only milliseconds, and text takes twice the room.
    """

    p: int
    t: int
    u: int

    def __str__(self) -> str:
        return f"{self.p}:{self.t}:{self.u}"


@dataclass(frozen=True)
class Edge:
    """Which columns of a row are p, t and u."""

    p: str
    t: str
    u: str

    @property
    def columns(self) -> tuple[str, str, str]:
        return self.p, self.t, self.u

    @cached_property
    def keys(self) -> dict[str, str]:
        """Column -> its name in `_id`."""
        return dict(zip(self.columns, EdgeId._fields, strict=True))

    def path(self, column: str) -> str:
        return f"_id.{self.keys[column]}" if column in self.keys else column

    def index(self, columns: Order) -> Order:
        """The documents' index for an index of columns."""
        return tuple((self.path(column), way) for column, way in columns)

    def id(self, row: Mapping[str, Any]) -> EdgeId:
        """Raises TypeError if the row has no date and time."""
        moment = row[self.t]
        if not isinstance(moment, datetime):
            raise TypeError(f"{self.t} is {moment!r}, not a date and time")
        return EdgeId(row[self.p], (moment - EPOCH) // MICROSECOND, row[self.u])

    def pair(self, id: EdgeId) -> dict[str, int]:
        return {self.p: id.p, self.u: id.u}


@dataclass(frozen=True, kw_only=True)
class Collection:
    """One MongoDB collection of a build, with the name of the MySQL table whose rows its documents are.

    A document without `created_at` is a stub: counters without a row. `counters`: shown by its entity.
    `indexes`: needed by its scans. A collection without an entity has edges, in the order of its first list.
    """

    name: str
    counters: tuple[str, ...]
    indexes: tuple[Order, ...]
    edge: Edge | None = None

    def in_build(self, build: int) -> str:
        return f"{self.name}_b{build}"

    @property
    def options(self) -> Mapping[str, Any]:
        """MongoDB's options for creating it."""
        return CLUSTERED if self.edge else {}


def time_text(microseconds: int) -> str:
    """A time as in entities, with all six digits."""
    return (EPOCH + microseconds * MICROSECOND).isoformat(timespec="microseconds") + "Z"


def microseconds(text: str) -> int:
    """The inverse of `time_text`. Raises ValueError."""
    return (datetime.fromisoformat(text.removesuffix("Z")) - EPOCH) // MICROSECOND
