"""A page of a scan in MongoDB: a range of one index, or of the ids of edges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from reader.paging import Page
from reader.read_model.cached_values import OrderValue, encode_cursor
from reader.read_model.control import UNNAMED_MODEL
from reader.read_model.declarations import COLLECTIONS
from reader.read_model.scans import Edge, Order, Scan, microseconds, time_text
from tidemark.ids import MAX_ID

BEYOND, UP_TO = {-1: "$lt", 1: "$gt"}, {-1: "$lte", 1: "$gte"}
BsonDocument = dict[str, Any]


@dataclass(frozen=True)
class StoredScan:
    """A scan of a build's documents. Without `edge`, the columns are fields."""

    scan: Scan
    edge: Edge | None

    @classmethod
    def of(cls, scan: Scan, model_version: int) -> Self:
        """Builds of version 2 and before have no edges: columns are fields, and each list has an index."""
        return cls(scan, COLLECTIONS[scan.collection].edge if model_version > UNNAMED_MODEL else None)

    def page(self, value: Any, page: Page, among: Sequence[int] = ()) -> BsonDocument:
        """The fields of a `find` command for a page's documents, and one more if there are more.

        `among`: only of these items.
        """
        found = (
            _of_edges(self.edge, self.scan, value, page) if self.edge else _of_fields(self.scan, value, page)
        )
        if among:
            name, filter = (
                self.edge.path(self.scan.item_id) if self.edge else self.scan.item_id,
                found["filter"],
            )
            found["filter"] = {**filter, name: {**filter.get(name, {}), "$in": [*among]}}
        return {**found, "limit": page.limit + 1, "batchSize": page.limit + 1}

    def together(self, collection: str, values: Sequence[Any], page: Page) -> BsonDocument:
        """An `aggregate` command for the first pages of several values at once: `found` by `value`."""
        query = _of_fields(self.scan, None, page)
        pages = [{"$sort": query["hint"]}, {"$limit": page.limit + 1}, {"$project": query["projection"]}]
        lookup = {"from": collection, "localField": "value", "foreignField": self.scan.by}
        return {
            "aggregate": 1,
            "pipeline": [
                {"$documents": [{"value": value} for value in values]},
                {"$lookup": {**lookup, "pipeline": pages, "as": "found"}},
            ],
            "cursor": {"batchSize": len(values) + 1},
        }

    def shown(self, found: Sequence[BsonDocument], limit: int) -> tuple[list[int], str | None]:
        """The ids of up to `limit` items, and the cursor behind them if there are more."""
        cursor = encode_cursor(self.place(found[limit - 1])) if len(found) > limit else None
        return [self.item(document) for document in found[:limit]], cursor

    def item(self, document: Mapping[str, Any]) -> int:
        return int(self.value(document, self.scan.item_id))

    def place(self, document: Mapping[str, Any]) -> list[OrderValue]:
        """The order values in the form of cursors."""
        values = {name: self.value(document, name) for name, _ in self.scan.order}
        if self.edge and self.edge.t in values:
            values[self.edge.t] = time_text(values[self.edge.t])
        return list(values.values())

    def projection(self, columns: Sequence[str]) -> dict[str, bool]:
        """The `projection` of a `find` command that shows these columns."""
        if self.edge:
            return {self.edge.path(column): True for column in columns}
        return {"_id": False, **dict.fromkeys(columns, True)}

    def value(self, document: Mapping[str, Any], name: str) -> Any:
        """A column's value in a document."""
        if self.edge is not None and name in self.edge.keys:
            return document["_id"][self.edge.keys[name]]
        return document[name]


def _of_edges(edge: Edge, scan: Scan, value: int, page: Page) -> BsonDocument:
    """A range of ids, or of the index that has them in another order.

    With a filter by `$or` on that index, MongoDB would read each document, and all edges of one moment.
    """
    index = edge.index(scan.index)
    if edge.t not in dict(scan.order):
        (by, _), *order = index
        return {
            "filter": {by: value, **_following(tuple(order), page.after)},
            "projection": {name: True for name, _ in index},
            "sort": dict(index),
            "hint": dict(index),
        }
    after = (microseconds(str(page.after[0])), *map(int, page.after[1:])) if page.after else None
    if edge.columns == tuple(column for column, _ in scan.index):
        end = {"t": after[0], "u": after[1]} if after else {"t": MAX_ID}  # no time is later
        ids = {"$gte": {"p": value}, "$lt": {"p": value, **end}}
        return {"filter": {"_id": ids}, "projection": {"_id": True}, "sort": {"_id": -1}}
    names = [name for name, _ in index]
    others = len(names) - 2
    first = (*after[:-1], after[-1] - 1) if after else (MAX_ID,) * (1 + others)
    return {
        "filter": {},
        "min": dict(zip(names, (value, *first), strict=True)),
        "max": dict(zip(names, (value, -MAX_ID, *[0] * others), strict=True)),
        "projection": dict.fromkeys(names, True),
        "sort": dict(index),
        "hint": dict(index),
    }


def _of_fields(scan: Scan, value: Any, page: Page) -> BsonDocument:
    found = scan.first(value)
    return {**found, "filter": {**found["filter"], **_following(scan.order, page.after)}}


def _following(order: Order, after: Sequence[OrderValue] | None) -> BsonDocument:
    """The filter for documents behind `after`. Its first field alone bounds the scan of the index."""
    if after is None:
        return {}
    (first, direction), *others = order
    if not others:
        return {first: {BEYOND[direction]: after[0]}}
    names = [name for name, _ in order]
    behind = [
        {**dict(zip(names[:at], after, strict=False)), name: {BEYOND[direction]: after[at]}}
        for at, (name, direction) in enumerate(order)
    ]
    return {first: {UP_TO[direction]: after[0]}, "$or": behind}
