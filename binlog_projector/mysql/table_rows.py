"""Whole tables of MySQL in chunks, by primary key, each row with the counters that belong to its id."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from binlog_projector.domain.projections import Counter
from binlog_projector.mysql.connections import Connection, execute, query_rows
from writer.schema import Table

Key = tuple[int, ...]
Chunk = list[tuple[Any, ...]]


def rows(connection: Connection, table: Table, counters: Sequence[Counter], size: int) -> Iterator[Chunk]:
    """All rows of `table`: its columns, then how often `counters` count the row's id."""
    return _chunks(connection, f"`{table.name}`", table.columns, table.primary_key, counters, size)


def orphans(connection: Connection, table: Table, counters: Sequence[Counter], size: int) -> Iterator[Chunk]:
    """Ids that are counted though `table` has no such row, then how often; only without foreign keys there are any."""
    key = table.primary_key[0]
    counted = [
        f"SELECT `{one.by}` AS `{key}` FROM `{one.table}` AS counted WHERE NOT EXISTS "  # noqa: S608 - our own schema
        f"(SELECT 1 FROM `{table.name}` AS parent WHERE parent.`{key}` = counted.`{one.by}`)"
        for one in counters
    ]
    return (
        _chunks(connection, f"({' UNION '.join(counted)})", (key,), (key,), counters, size)
        if counted
        else iter(())
    )


def estimated_rows(connection: Connection, tables: Iterable[str]) -> int:
    """How many rows there are by InnoDB's statistics, which may be wrong by a tenth or more."""
    execute(
        connection, "SET SESSION information_schema_stats_expiry = 0"
    )  # else as they were up to a day ago
    found = query_rows(
        connection,
        "SELECT table_name, table_rows FROM information_schema.tables WHERE table_schema = DATABASE()",
    )
    return sum(rows for name, rows in found if name in tables)


def beyond(columns: Sequence[str], last: Key | None) -> tuple[str, list[int]]:
    """The condition for rows behind `last`: an index is used for OR of ranges, not for a comparison of tuples."""
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
    """A statement for each chunk: one for all could only be stopped by reading what is left of it."""
    counts = [
        f"(SELECT COUNT(*) FROM `{one.table}` AS counted WHERE counted.`{one.by}` = own.`{key[0]}`)"  # noqa: S608
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
