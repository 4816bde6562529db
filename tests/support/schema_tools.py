"""gh-ost and pt-online-schema-change: the statements of both tools, executed in their order and sessions.

Both copy a table in chunks while it changes. gh-ost follows the binlog, and pt-online-schema-change uses
triggers.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pymysql
from pymysql.constants import ER

from binlog_projector.binlog.packets import Packets
from binlog_projector.binlog.transactions import TransactionReader
from binlog_projector.domain.changes import Row, RowChange
from binlog_projector.mysql.connections import Connection
from ops.stack import Stack
from tests.projector.reading import dump, executed, projector_url
from tests.support.harness import admin_connection, rows, run_sql, wait_until
from tidemark.gtid import GrowingGtidSet
from writer.schema import SCHEMA, TABLES, Table

CHUNK = 7
TRIES = 20
AGAIN = (ER.LOCK_DEADLOCK, ER.LOCK_WAIT_TIMEOUT)
HANDLER = "DECLARE CONTINUE HANDLER FOR 1146 begin end;"
Before = Callable[[], object]
Tool = Callable[[Stack, str, str, Sequence[str], Before], None]


def persistently(connection: Connection, statement: str, arguments: Sequence[object] = ()) -> None:
    """Execute the statement again after a deadlock, as the tools do."""
    for attempt in range(TRIES):
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement, arguments)
            return
        except pymysql.MySQLError as error:
            if error.args[0] not in AGAIN or attempt == TRIES - 1:
                raise


def gh_ost(stack: Stack, name: str, alter: str, spoiling: Sequence[str], before_swap: Before) -> None:
    """With --discard-foreign-keys. gh-ost refuses a table that another one refers to."""
    table = TABLES[name]
    ghost, changelog, old = (f"`{SCHEMA}`.`_{name}_{end}`" for end in ("gho", "ghc", "del"))
    own = f"`{SCHEMA}`.`{name}`"
    with admin_connection(stack) as connection:
        run_sql(
            connection,
            *(f"drop /* gh-ost */ table if exists {each}" for each in (ghost, changelog)),
            f"create /* gh-ost */ table {changelog} (id bigint unsigned auto_increment,"
            " last_update timestamp not null DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,"
            " hint varchar(64) charset ascii not null, value varchar(4096) charset ascii not null,"
            " primary key(id), unique key hint_uidx(hint)) auto_increment=256",
            f"create /* gh-ost */ table {ghost} like {own}",
            f"alter /* gh-ost */ table {ghost} {alter}",
        )
        columns = _names(_shared(connection, table, ghost))
        with _following(stack, connection, table) as changes:
            _tell(connection, changelog, 2, "state", "GhostTableMigrated")
            for part in _chunks(connection, table):
                persistently(
                    connection,
                    f"insert /* gh-ost {own} */ ignore into {ghost} ({columns}) (select {columns}"
                    f" from {own} force index (`PRIMARY`) where {part} lock in share mode)",
                )
                _apply(connection, ghost, table, changes())
            _tell(connection, changelog, 3, "copy iteration", "done")
            _apply(connection, ghost, table, changes())
            run_sql(connection, *spoiling)
            before_swap()
            _cut_over(stack, name, ghost, lambda: _catch_up(connection, changelog, ghost, table, changes))
        run_sql(connection, *(f"drop /* gh-ost */ table if exists {each}" for each in (changelog, old)))


def _catch_up(
    connection: Connection, changelog: str, ghost: str, table: Table, changes: Callable[[], list[RowChange]]
) -> None:
    _tell(connection, changelog, 2, "state", "AllEventsUpToLockProcessed")
    _apply(connection, ghost, table, changes())


def _cut_over(stack: Stack, name: str, ghost: str, catch_up: Before) -> None:
    """The atomic one: a second session's RENAME waits for the sentry to be dropped, and then for the lock.

    The second wait is not gh-ost's. Without it, a write of these tests got the old table at times, between
    lock and RENAME, and was lost; the projector noticed.
    """
    own, old = f"`{SCHEMA}`.`{name}`", f"`{SCHEMA}`.`_{name}_del`"
    with admin_connection(stack) as locking, admin_connection(stack) as renaming:
        run_sql(
            locking,
            f"create /* gh-ost */ table {old} (id int auto_increment primary key)"
            " engine=InnoDB comment='ghost-cut-over-sentry'",
            f"lock /* gh-ost */ tables {own} write, {old} write",
        )
        catch_up()
        with ThreadPoolExecutor(1) as threads, admin_connection(stack) as watching:
            swap = f"rename /* gh-ost */ table {own} to {old}, {ghost} to {own}"
            renamed = threads.submit(run_sql, renaming, swap)
            waits = (
                "SELECT 1 FROM performance_schema.metadata_locks AS locks"
                " JOIN performance_schema.threads ON thread_id = owner_thread_id"
                f" WHERE processlist_info = '{swap}' AND lock_status = 'PENDING' AND object_name = '%s'"
            )
            wait_until(lambda: rows(watching, waits % f"_{name}_del"), "the RENAME to wait for the sentry")
            run_sql(locking, f"drop /* gh-ost */ table if exists {old}")
            wait_until(lambda: rows(watching, waits % name), "the RENAME to wait for the table")
            run_sql(locking, "unlock tables")
            renamed.result()


def _tell(connection: Connection, changelog: str, number: int, hint: str, value: str) -> None:
    run_sql(
        connection,
        f"insert /* gh-ost */ into {changelog} (id, hint, value) values (NULLIF({number}, 0), '{hint}',"
        f" '{value}') on duplicate key update last_update=NOW(), value=VALUES(value)",
    )


@contextlib.contextmanager
def _following(stack: Stack, connection: Connection, table: Table) -> Iterator[Callable[[], list[RowChange]]]:
    """A function that returns the next changes of the table, up to all that is committed."""
    start = executed(connection)
    packets = Packets(dump(projector_url(stack), start))
    reader = TransactionReader(packets, SCHEMA, {table.name: table})
    reached = GrowingGtidSet(start)

    def changes() -> list[RowChange]:
        found: list[RowChange] = []
        wanted = executed(connection)
        while not reached.current() >= wanted:
            for transaction in reader.read():
                found += transaction.changes
                reached.add(transaction.gtid)
        return found

    with contextlib.closing(reader):
        yield changes


def _apply(connection: Connection, ghost: str, table: Table, changes: Sequence[RowChange]) -> None:
    places = ", ".join(["%s"] * len(table.columns))
    same = " and ".join(f"`{column}` = %s" for column in table.primary_key)
    for change in changes:
        before, after = change.before, change.after
        if before is not None and (after is None or _key(table, before) != _key(table, after)):
            persistently(connection, f"delete /* gh-ost */ from {ghost} where {same}", _key(table, before))
        if after is not None:
            persistently(
                connection,
                f"replace /* gh-ost */ into {ghost} ({_names(table.columns)}) values ({places})",
                [after[column] for column in table.columns],
            )


def _key(table: Table, row: Row) -> list[object]:
    return [row[column] for column in table.primary_key]


def pt_osc(stack: Stack, name: str, alter: str, spoiling: Sequence[str], before_swap: Before) -> None:
    """With --alter-foreign-keys-method=rebuild_constraints."""
    table, new, own = TABLES[name], f"`{SCHEMA}`.`_{name}_new`", f"`{SCHEMA}`.`{name}`"
    old = f"`{SCHEMA}`.`_{name}_old`"
    with admin_connection(stack) as connection:
        (_, made) = rows(connection, f"SHOW CREATE TABLE {own}")[0]
        made = made.replace(f"CREATE TABLE `{name}`", f"CREATE TABLE {new}", 1)
        run_sql(connection, re.sub("CONSTRAINT `", "CONSTRAINT `_", made), f"ALTER TABLE {new} {alter}")
        table = replace(table, columns=_shared(connection, table, new))
        columns = _names(table.columns)
        for trigger in _triggers(table, own, new):
            persistently(connection, trigger)
        for part in _chunks(connection, table):
            persistently(
                connection,
                f"INSERT LOW_PRIORITY IGNORE INTO {new} ({columns}) SELECT {columns} FROM {own}"
                f" FORCE INDEX(`PRIMARY`) WHERE {part} LOCK IN SHARE MODE"
                " /*pt-online-schema-change 4242 copy nibble*/",
            )
        run_sql(connection, *spoiling, f"ANALYZE TABLE {new} /* pt-online-schema-change */")
        before_swap()
        persistently(connection, f"RENAME TABLE {own} TO {old}, {new} TO {own}")
        for rebuilt in _constraints(connection, f"_{name}_old", name):
            persistently(connection, rebuilt)
        triggers = [f"`{SCHEMA}`.`pt_osc_{SCHEMA}_{name}_{end}`" for end in ("del", "upd", "ins")]
        run_sql(
            connection,
            "SET foreign_key_checks=0",
            f"DROP TABLE IF EXISTS {old}",
            *(f"DROP TRIGGER IF EXISTS {each}" for each in triggers),
        )


def _triggers(table: Table, own: str, new: str) -> list[str]:
    old_row = " AND ".join(f"{new}.`{column}` <=> OLD.`{column}`" for column in table.primary_key)
    same_key = " AND ".join(f"OLD.`{column}` <=> NEW.`{column}`" for column in table.primary_key)
    values = ", ".join(f"NEW.`{column}`" for column in table.columns)
    put = f"REPLACE INTO {new} ({_names(table.columns)}) VALUES ({values});"
    delete = f"DELETE IGNORE FROM {new} WHERE"
    bodies = {
        "DELETE": f"{delete} {old_row};",
        "UPDATE": f"{delete} !({same_key}) AND {old_row}; {put}",
        "INSERT": put,
    }
    return [
        f"CREATE TRIGGER `{SCHEMA}`.`pt_osc_{SCHEMA}_{table.name}_{verb[:3].lower()}` AFTER {verb} ON {own}"
        f" FOR EACH ROW BEGIN {HANDLER} {body} END"
        for verb, body in bodies.items()
    ]


def _constraints(connection: Connection, old: str, name: str) -> list[str]:
    """One ALTER for each table whose foreign keys have followed the old table."""
    children = rows(
        connection,
        "SELECT DISTINCT table_name FROM information_schema.referential_constraints"
        f" WHERE constraint_schema = '{SCHEMA}'"
        f" AND referenced_table_name = '{old}' AND table_name <> '{old}'",
    )
    altered = []
    for (child,) in children:
        (_, made) = rows(connection, f"SHOW CREATE TABLE `{child}`")[0]
        found = re.findall(rf"CONSTRAINT `(\w+)` (FOREIGN KEY \(.*?\)) REFERENCES `{old}` (\(.*?\))", made)
        items = ", ".join(
            f"DROP FOREIGN KEY `{key}`, ADD CONSTRAINT `_{key}` {own} REFERENCES `{SCHEMA}`.`{name}` {other}"
            for key, own, other in found
        )
        altered.append(f"ALTER TABLE `{SCHEMA}`.`{child}` {items}")
    return altered


def _chunks(connection: Connection, table: Table) -> Iterator[str]:
    """Conditions of ranges by the first column of the key."""
    column = table.primary_key[0]
    (last,) = rows(connection, f"SELECT COALESCE(MAX(`{column}`), 0) FROM `{table.name}`")[0]
    for first in range(0, int(last) + 1, CHUNK):
        yield f"(`{column}` >= {first} AND `{column}` < {first + CHUNK})"


def _shared(connection: Connection, table: Table, copy: str) -> tuple[str, ...]:
    """The columns that both have."""
    copied = {column for column, *_ in rows(connection, f"SHOW COLUMNS FROM {copy}")}
    return tuple(column for column in table.columns if column in copied)


def _names(columns: Sequence[str]) -> str:
    return ", ".join(f"`{column}`" for column in columns)
