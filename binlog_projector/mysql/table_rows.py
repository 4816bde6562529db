"""Whole tables of MySQL in chunks by primary key; each row comes with the counters of its id."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from binlog_projector.domain.changes import Row
from binlog_projector.domain.projections import Counter
from binlog_projector.mysql.connections import Connection, execute, query_rows
from writer.schema import Table

Key = tuple[int, ...]
Chunk = list[tuple[Any, ...]]


def rows(connection: Connection, table: Table, counters: Sequence[Counter], size: int) -> Iterator[Chunk]:
    """All rows of `table`: its columns, then the values of `counters` for the row's id."""
    return _chunks(connection, f"`{table.name}`", table.columns, table.primary_key, counters, size)


def rows_of(connection: Connection, table: Table, keys: Sequence[Key]) -> list[Row]:
    """The rows with these primary keys."""
    if not keys:
        return []
    places = ", ".join(f"({', '.join(['%s'] * len(key))})" for key in keys)
    found = query_rows(
        connection,
        f"SELECT {names(table.columns)} FROM `{table.name}` "  # noqa: S608 - our own schema
        f"WHERE ({names(table.primary_key)}) IN ({places})",
        [part for key in keys for part in key],
    )
    return [dict(zip(table.columns, row, strict=True)) for row in found]


def orphans(connection: Connection, table: Table, counters: Sequence[Counter], size: int) -> Iterator[Chunk]:
    """Counted ids without a row in `table`, then their counters. With foreign keys there are none."""
    key = table.primary_key[0]
    counted = [
        f"SELECT `{one.by}` AS `{key}` FROM `{one.table}` AS counted WHERE NOT EXISTS "  # noqa: S608
        f"(SELECT 1 FROM `{table.name}` AS parent WHERE parent.`{key}` = counted.`{one.by}`)"
        for one in counters
    ]
    return (
        _chunks(connection, f"({' UNION '.join(counted)})", (key,), (key,), counters, size)
        if counted
        else iter(())
    )


def estimated_rows(connection: Connection, tables: Iterable[str]) -> int:
    """The number of rows by InnoDB's statistics, which may be wrong by a tenth or more."""
    # Without this, the statistics may be a day old.
    execute(connection, "SET SESSION information_schema_stats_expiry = 0")
    found = query_rows(
        connection,
        "SELECT table_name, table_rows FROM information_schema.tables WHERE table_schema = DATABASE()",
    )
    return sum(rows for name, rows in found if name in tables)


def beyond(columns: Sequence[str], last: Key | None) -> tuple[str, list[int]]:
    """The condition for rows behind `last`: MySQL uses an index for ORs of ranges, not to compare tuples."""
    if last is None:
        return "TRUE", []
    terms: list[str] = []
    arguments: list[int] = []
    for at, column in enumerate(columns):
        terms.append(
            "(" + " AND ".join([*(f"`{name}` = %s" for name in columns[:at]), f"`{column}` > %s"]) + ")"
        )
        arguments += last[: at + 1]
    return f"({' OR '.join(terms)})", arguments


def names(columns: Iterable[str]) -> str:
    return ", ".join(f"`{column}`" for column in columns)


def _chunks(
    connection: Connection,
    source: str,
    columns: Sequence[str],
    key: Sequence[str],
    counters: Sequence[Counter],
    size: int,
) -> Iterator[Chunk]:
    """Read each chunk with its own statement: one statement could only be stopped by reading all its rows."""
    counts = [
        f"(SELECT COUNT(*) FROM `{one.table}` AS counted "  # noqa: S608
        f"WHERE counted.`{one.by}` = own.`{key[0]}`)"
        for one in counters
    ]
    selected = ", ".join([names(columns), *counts])
    last: Key | None = None
    while True:
        condition, arguments = beyond(key, last)
        chunk = query_rows(
            connection,
            f"SELECT {selected} FROM {source} AS own WHERE {condition} "  # noqa: S608 - our own schema
            f"ORDER BY {names(key)} LIMIT {size}",
            arguments,
        )
        if chunk:
            yield chunk
        if len(chunk) < size:
            return
        last = tuple(chunk[-1][columns.index(column)] for column in key)
