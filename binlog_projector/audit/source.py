"""MySQL's rows as documents: derived from the declared projections, counters and lists, in plain SQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from binlog_projector.domain.changes import Row
from binlog_projector.domain.mutations import DocumentId
from binlog_projector.domain.projections import (
    COUNTERS,
    PLANS,
    Counter,
    demand_fitting,
    document_id,
    identity,
    primary_key,
)
from binlog_projector.domain.truth import Truth
from binlog_projector.mysql.connections import Connection, query_rows
from binlog_projector.mysql.table_rows import Key, beyond, names
from reader.read_model.declarations import COLLECTIONS, Listing
from writer.schema import TABLES, Table


@dataclass(frozen=True)
class SourceView:
    """Reads MySQL over one connection: the committed rows, or one consistent view inside a transaction.

    Raises UnprojectableRow.
    """

    connection: Connection

    def truths(self, collection: str, ids: Iterable[DocumentId]) -> dict[DocumentId, Truth]:
        """Id -> the right document."""
        ids = list(ids)
        fields = dict(PLANS[collection].document(row) for row in self._rows(collection, ids))
        counts = {one: self._counts(one, ids) for one in COUNTERS if one.collection == collection}
        return {
            id: Truth(collection, id, fields.get(id), {one.field: counts[one].get(id, 0) for one in counts})
            for id in ids
        }

    def rows_after(self, table: Table, last: Key | None, limit: int) -> list[Row]:
        """Up to `limit` rows by primary key: the columns that make documents' ids and counters."""
        counted = [one.by for one in COUNTERS if one.table == table.name]
        columns = list(dict.fromkeys([*table.primary_key, *identity(table), *counted]))
        condition, arguments = beyond(table.primary_key, last)
        found = query_rows(
            self.connection,
            f"SELECT {names(columns)} FROM `{table.name}` WHERE {condition} "  # noqa: S608 - our own schema
            f"ORDER BY {names(table.primary_key)} LIMIT {limit}",
            arguments,
        )
        rows: list[Row] = [dict(zip(columns, row, strict=True)) for row in found]
        for row in rows:
            demand_fitting(table.name, row)
        return rows

    def first_ids(self, listing: Listing, parent_id: int, limit: int) -> list[int]:
        """The first ids of a list."""
        own = TABLES[listing.collection].primary_key[0]
        order = ", ".join(
            f"`{own if name == '_id' else name}` {'DESC' if way < 0 else 'ASC'}"
            for name, way in listing.order
        )
        item = own if listing.item_id == "_id" else listing.item_id
        found = query_rows(
            self.connection,
            f"SELECT `{item}` FROM `{listing.collection}` "  # noqa: S608 - our own schema
            f"WHERE `{listing.by}` = %s ORDER BY {order} LIMIT {limit}",
            (parent_id,),
        )
        return [id for (id,) in found]

    def _rows(self, name: str, ids: Sequence[DocumentId]) -> list[Row]:
        table = TABLES[name]
        keys = [tuple(key.values()) for id in ids if (key := primary_key(name, id)) is not None]
        if not keys:
            return []
        found = query_rows(
            self.connection,
            f"SELECT {names(table.columns)} FROM `{name}` "  # noqa: S608 - our own schema
            f"WHERE ({names(table.primary_key)}) IN ({_places(keys)})",
            [part for key in keys for part in key],
        )
        return [dict(zip(table.columns, row, strict=True)) for row in found]

    def _counts(self, counter: Counter, ids: Sequence[DocumentId]) -> dict[DocumentId, int]:
        numbers = [id for id in ids if isinstance(id, int)]
        if not numbers:
            return {}
        found = query_rows(
            self.connection,
            f"SELECT `{counter.by}`, COUNT(*) FROM `{counter.table}` "  # noqa: S608 - our own schema
            f"WHERE `{counter.by}` IN ({', '.join(['%s'] * len(numbers))}) GROUP BY `{counter.by}`",
            numbers,
        )
        return dict(found)


def documents_of(table: Table, rows: Iterable[Row]) -> dict[str, set[DocumentId]]:
    """The documents that these rows need, as ids by collection: their own, and those that count them."""
    wanted: dict[str, set[DocumentId]] = {name: set() for name in COLLECTIONS}
    for row in rows:
        wanted[table.name].add(document_id(table.name, row))
        for counter in COUNTERS:
            if counter.table == table.name:
                wanted[counter.collection].add(row[counter.by])
    return wanted


def _places(keys: Sequence[Key]) -> str:
    return ", ".join("(" + ", ".join(["%s"] * len(key)) + ")" for key in keys)
