"""A RENAME TABLE by which a tool swaps a watched table for a copy: it may pass once the copy is compared."""

from __future__ import annotations

from binlog_projector.binlog.sql_tokens import NotUnderstood, Reading, Unreadable
from binlog_projector.binlog.statement_events import Statement
from binlog_projector.binlog.statements import Watched, hidden_change
from binlog_projector.errors import TableSwapped, UnsupportedEvent
from tidemark.gtid import Gtid
from writer.schema import Table


def demand_harmless(statement: Statement, watched: Watched, gtid: Gtid | None) -> None:
    """Raises UnsupportedEvent for a statement that may change rows without row events.

    Raises TableSwapped if it is a swap that does not pass. A swap that passes brings unknown columns.
    """
    reason = hidden_change(statement, watched)
    if reason is None:
        return
    table = _swapped(statement, watched)
    if table is None or gtid is None:
        raise UnsupportedEvent(f"{reason}: {statement}")
    if not watched.passes(table.name, gtid):
        raise TableSwapped(f"{reason}: {statement}", table.name, gtid)
    watched.columns.pop(table.name, None)


def _swapped(statement: Statement, watched: Watched) -> Table | None:
    """The watched table in `RENAME TABLE watched TO old, copy TO watched`. None for any other statement."""
    try:
        names = _renamed(Reading([*statement.tokens()]))
    except (NotUnderstood, Unreadable):
        return None
    tables = [watched.table(statement.schema if schema is None else schema, name) for schema, name in names]
    match tables:
        case [Table() as first, None, None, Table() as last] if first is last:
            return first
    return None


def _renamed(reading: Reading) -> list[tuple[str | None, str]]:
    """The names of a RENAME TABLE, each with its schema if that is named. Raises NotUnderstood."""
    reading.demand(reading.has("RENAME") and reading.one_of(("TABLE", "TABLES")))
    names = []
    while True:
        names.append(reading.table())
        reading.demand(reading.has("TO"))
        names.append(reading.table())
        if not reading.mark(","):
            break
    reading.demand(reading.ended())
    return names
