"""MySQL's rows as documents: derived from the declared projections, counters and lists, in plain SQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from binlog_projector.domain.changes import Row
from binlog_projector.domain.made import MADE
from binlog_projector.domain.mutations import DocumentId
from binlog_projector.domain.projections import (
    COUNTERS,
    PLANS,
    Counter,
    Listed,
    demand_fitting,
    document_id,
    identity,
    primary_key,
)
from binlog_projector.domain.truth import Truth
from binlog_projector.mysql.connections import Connection, query_rows
from binlog_projector.mysql.table_rows import Key, beyond, names, rows_of
from reader.read_model.declarations import COLLECTIONS
from reader.read_model.notifications import KEPT, NOTIFICATIONS, Notification, Told
from reader.read_model.scans import EPOCH, MICROSECOND, CachedList
from writer.schema import TABLES, Table

SEARCHED = 500  # newest rows


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

    def first_ids(self, one: CachedList, value: int | str) -> tuple[tuple[int, ...], int]:
        """The first ids of a list, and the least id of which this is known: 0, if of all.

        MySQL has an index of a field that is made of a column only if it calls them equal. Else only the
        newest rows are searched.
        """
        own = TABLES[one.collection].primary_key[0]
        ways = [
            f"`{own if name == '_id' else name}` {'DESC' if way < 0 else 'ASC'}" for name, way in one.order
        ]
        order = f" ORDER BY {', '.join(ways)}" if ways else ""
        listed, item = Listed.of(one), own if one.item_id == "_id" else one.item_id
        made = MADE.get(one.collection, {}).get(one.by)
        searched = made is not None and not made.is_equal
        column = made.columns[0] if made else one.by
        chosen = column and not searched
        condition, limit = f" WHERE `{column}` = %s" if chosen else "", SEARCHED if searched else one.limit
        columns = list(dict.fromkeys((item, *listed.place)))
        found = query_rows(
            self.connection,
            f"SELECT {names(columns)} FROM `{one.collection}`{condition}{order} LIMIT {limit}",  # noqa: S608
            (value,) if chosen else (),
        )
        rows = [dict(zip(columns, row, strict=True)) for row in found]
        ids = [row[item] for row in rows if not made or value in listed.values(row)]
        return tuple(ids[: one.limit]), rows[-1][item] if searched and len(rows) == SEARCHED else 0

    def told(self, user: int) -> Told:
        """The newest notifications of a user."""
        found: list[Notification] = []
        for number, one in enumerate(NOTIFICATIONS.sources, 1):
            own = TABLES[one.collection].primary_key[0]
            made = MADE.get(one.collection, {}).get(one.by)
            place = ["`created_at`", *(f"`{own if name == '_id' else name}`" for name, _ in one.order[1:])]
            columns = [*(own if name == "_id" else name for name in (one.item_id, one.of, one.actor))]
            comment = f"`{own if one.comment == '_id' else one.comment}`" if one.comment else "NULL"
            rows = query_rows(
                self.connection,
                f"SELECT `created_at`, {names(columns)}, {comment} FROM `{one.collection}` "  # noqa: S608
                f"WHERE `{made.columns[0] if made else one.by}` = %s AND `{one.actor}` <> %s "
                f"ORDER BY {', '.join(f'{column} DESC' for column in place)} LIMIT {KEPT}",
                (user, user),
            )
            found += [
                Notification((at - EPOCH) // MICROSECOND, number, id, of, actor, comment or 0)
                for at, id, of, actor, comment in rows
            ]
        marks = query_rows(
            self.connection, "SELECT `until` FROM `notification_reads` WHERE `user_id` = %s", (user,)
        )
        until = (marks[0][0] - EPOCH) // MICROSECOND if marks else 0
        return Told(until, sorted(found, reverse=True)[:KEPT])

    def _rows(self, name: str, ids: Sequence[DocumentId]) -> list[Row]:
        keys = [tuple(key.values()) for id in ids if (key := primary_key(name, id)) is not None]
        return rows_of(self.connection, TABLES[name], keys)

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
