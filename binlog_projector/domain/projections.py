"""From rows to documents: a copy of the table's columns, the fields in MADE, and the declared counters.

Snapshot, stream, audit and the tests' oracle all derive from PROJECTIONS and COUNTERS. Counters belong to an
id, not to a row: a like of a missing post counts, and a post that is deleted and made again keeps its likes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Any

from binlog_projector.domain.changes import Row, RowChange
from binlog_projector.domain.made import MADE, NOT_COPIED, Made
from binlog_projector.domain.mutations import DocumentId, Fields, Increment, Invalidate, Mutation, Put, Remove
from binlog_projector.errors import UnprojectableRow
from reader.read_model.declarations import COLLECTIONS, LISTS
from reader.read_model.scans import CachedList, Edge, EdgeId
from tidemark.hashtags import at_most
from tidemark.ids import MAX_ID
from writer.schema import TABLES, Table

Projection = Callable[[Row], Fields]


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


def identity(table: Table) -> tuple[str, ...]:
    """The columns that make a document's `_id`: another value in one of them is another document."""
    edge = COLLECTIONS[table.name].edge
    return edge.columns if edge else table.primary_key


def projection(table: Table) -> Projection:
    """A copy of a table's columns, except those in `_id`, and its made fields. Times become text."""
    columns = [name for name in table.columns if name not in NOT_COPIED and name not in identity(table)]
    times = [column for column in columns if column.endswith("_at")]
    made = [(field, one.value) for field, one in MADE.get(table.name, {}).items()]

    def fields_of(row: Row) -> Fields:
        fields = {column: row[column] for column in columns}
        for column in times:
            fields[column] = _timestamp(column, fields[column])
        for field, value in made:
            fields[field] = value(row)
        return fields

    return fields_of


PROJECTIONS = {name: projection(table) for name, table in TABLES.items()}


def most_hashtags(change: RowChange) -> int:
    """A number that the hashtags of both rows do not exceed, found without reading the text."""
    if change.table != "posts":
        return 0
    return sum(at_most(row["body"]) for row in (change.before, change.after) if row is not None)


def project(change: RowChange) -> list[Mutation]:
    """The mutations of one row change. Raises UnprojectableRow."""
    table, before, after = change.table, change.before, change.after
    plan = PLANS[table]
    mutations: list[Mutation] = []
    is_another = before is None or after is None or plan.are_apart(before, after)
    if before is not None and is_another:
        mutations.append(Remove(table, *plan.document(before)))
    if after is not None:
        mutations.append(Put(table, *plan.document(after), is_another))
    for counter in plan.counters:
        _count(mutations, counter, before, after)
    for listed in plan.listings:
        _list(mutations, listed, before, after)
    return mutations


def is_of_edges(one: CachedList) -> bool:
    """Whether it is the list in whose order a collection of edges lies."""
    edge = COLLECTIONS[one.collection].edge
    return edge is not None and edge.columns == tuple(column for column, _ in one.index)


@dataclass(frozen=True)
class Listed:
    """A cached list fed by this table. `place`: columns that decide membership and order.

    A row is in the lists of all its `values`. Fields of documents are columns of the same names, or MADE.
    NULL names no list.
    """

    key: Callable[[Any], str]
    values: Callable[[Row], Iterable[Any]]
    place: tuple[str, ...]

    @classmethod
    def of(cls, one: CachedList) -> Listed:
        column, values_in = _values(one)
        fields = (*column, *(name for name, _ in one.order), one.item_id, *one.shows)
        key = TABLES[one.collection].primary_key
        columns = [column for field in fields for column in (key if field == "_id" else (field,))]
        if is_of_edges(one):  # the journal must name each change of an edge by a list that its id names
            columns += TABLES[one.collection].columns
        return cls(one.key, values_in, tuple(dict.fromkeys(columns)))


@dataclass(frozen=True)
class Plan:
    """The projection, counters and lists of one table, looked up once."""

    table: str
    identity: tuple[str, ...]
    edge: Edge | None
    project: Projection
    counters: tuple[Counter, ...]
    listings: tuple[Listed, ...]

    def id(self, row: Row) -> DocumentId:
        """Raises KeyError or TypeError."""
        return self.edge.id(row) if self.edge else row[self.identity[0]]

    def are_apart(self, before: Row, after: Row) -> bool:
        """Whether the two rows make two documents."""
        return any(before[column] != after[column] for column in self.identity)

    def document(self, row: Row) -> tuple[DocumentId, Fields]:
        """Raises UnprojectableRow."""
        demand_fitting(self.table, row)
        try:
            return self.id(row), self.project(row)
        except (KeyError, TypeError) as error:
            key = {column: row.get(column) for column in TABLES[self.table].primary_key}
            raise UnprojectableRow(
                f"row {key} of table {self.table} cannot be projected: {error!r}"
            ) from error


def _values(one: CachedList) -> tuple[tuple[str, ...], Callable[[Row], Iterable[Any]]]:
    """The columns that decide in which lists a row is, if any do, and the lists' values for a row."""
    if not one.by:
        return (), lambda row: ("",)
    by = MADE.get(one.collection, {}).get(one.by) or Made((one.by,), itemgetter(one.by))
    return by.columns, lambda row: _each(by.value(row))


def _each(value: Any) -> Iterable[Any]:
    if isinstance(value, list):
        return value
    return () if value is None else (value,)


PLANS = {
    name: Plan(
        name,
        identity(TABLES[name]),
        COLLECTIONS[name].edge,
        projection,
        tuple(counter for counter in COUNTERS if counter.table == name),
        tuple(Listed.of(one) for one in LISTS if one.collection == name),
    )
    for name, projection in PROJECTIONS.items()
}


def demand_fitting(table: str, row: Row) -> None:
    """Raises UnprojectableRow for a number that MongoDB cannot hold."""
    for value in row.values():
        if type(value) is int and value > MAX_ID:
            column = next(name for name in row if row[name] == value)
            key = {name: row[name] for name in TABLES[table].primary_key if name in row}
            raise UnprojectableRow(
                f"row {key or {column: value}} of table {table} cannot be projected: {column} is {value}, "
                f"and MongoDB has no numbers beyond {MAX_ID}; correct it in MySQL, then run `rebuild`"
            )


def document_id(table: str, row: Row) -> DocumentId:
    """The id of the row's document: its primary key, or for a pair its place in a list."""
    return PLANS[table].id(row)


def primary_key(table: str, id: DocumentId) -> dict[str, int] | None:
    """The primary key of the row whose document has this id. None if no row can have the id."""
    edge, columns = PLANS[table].edge, TABLES[table].primary_key
    if edge and isinstance(id, EdgeId):
        return {column: edge.pair(id)[column] for column in columns}
    return None if edge or type(id) is not int else {columns[0]: id}


def _count(mutations: list[Mutation], counter: Counter, before: Row | None, after: Row | None) -> None:
    old = before[counter.by] if before is not None else None
    new = after[counter.by] if after is not None else None
    if old == new:
        return
    if old is not None:
        mutations.append(Increment(counter.collection, old, counter.field, -1))
    if new is not None:
        mutations.append(Increment(counter.collection, new, counter.field, +1))


def _list(mutations: list[Mutation], listed: Listed, before: Row | None, after: Row | None) -> None:
    if before is not None and after is not None and all(before[name] == after[name] for name in listed.place):
        return
    rows = [row for row in (before, after) if row is not None]
    mutations += [Invalidate(listed.key(value)) for row in rows for value in listed.values(row)]


def _timestamp(name: str, moment: object) -> str:
    """RFC 3339 in UTC with all six digits: MongoDB's own date type would keep only milliseconds."""
    if not isinstance(moment, datetime):
        raise TypeError(f"{name} is {moment!r}, not a date and time")
    return moment.isoformat(timespec="microseconds") + "Z"
