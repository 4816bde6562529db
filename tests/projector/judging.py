"""Executes statements on a real MySQL, and judges the result of a projector that reads its binlog."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymysql

from binlog_projector.binlog.packets import Event, Packets
from binlog_projector.binlog.transactions import TransactionReader
from binlog_projector.domain.changes import RowChange
from binlog_projector.errors import UnprojectableRow, UnsupportedEvent
from binlog_projector.mysql.connections import Connection
from ops.stack import MySqlServer
from tests.projector.reading import dump, executed
from tests.support.harness import create_tables, rows, run_sql
from tests.support.statements_at_random import SETUP, SETUP_ELSEWHERE, Sample
from tests.verification.faults.mysql_pair import admin_of
from writer.schema import SCHEMA, TABLES

IN_MEMORY = Path("/dev/shm")
QUICK = (
    *("--sync-binlog=0", "--innodb-flush-log-at-trx-commit=0", "--skip-innodb-doublewrite"),
    "--log-bin-trust-function-creators=ON",
)
ROTATE, FORMAT_DESCRIPTION = 4, 15
ROWS = (
    "INSERT INTO users (id, subject, handle, display_name, bio) VALUES (1, 'a', 'a', 'A漢', '漢  '),"
    " (2, 'b', 'b', 'B', 'xyz   '), (3, 'c', 'c', 'C', 'é😀')",
    "INSERT INTO posts (id, author_id, body) VALUES (1, 1, '漢  '), (2, 2, 'two')",
    "INSERT INTO comments (id, post_id, author_id, body) VALUES (1, 1, 2, 'c')",
    "INSERT INTO likes (post_id, user_id) VALUES (1, 2), (2, 1)",
    "INSERT INTO follows (follower_id, followee_id) VALUES (1, 2), (2, 1)",
)
AFTERWARDS = (  # each may fail, for example by a foreign key
    "UPDATE users SET display_name = 'changed' WHERE id = 1",
    "INSERT INTO likes (post_id, user_id) VALUES (1, 1)",
    "DELETE FROM comments WHERE post_id = 1",
    "DELETE FROM likes WHERE post_id = 1",
    "DELETE FROM users WHERE id = 2",
)
Table = dict[tuple[Any, ...], tuple[Any, ...]]  # rows by primary key


class Feed(Packets):
    """Events read earlier."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def read(self) -> Iterator[Event]:
        events, self.events = self.events, []
        return iter(events)


@dataclass
class Judged:
    """The result of one statement."""

    error: str = ""  # of MySQL
    stopped: str = ""  # the projector's reason to stop
    differences: list[str] = field(default_factory=list)  # of its rows to MySQL's, if it went on


class Bench:
    """The watched tables with some rows, and a projector's reader that has seen every row."""

    def __init__(self, packets: Packets, connection: Connection, session: Connection) -> None:
        self.packets, self.connection, self.session = packets, connection, session
        self.file, self.offset = "", 0
        self.head: list[Event] = []
        self.is_fresh = False

    def reset(self, *given: str) -> None:
        """New tables, rows and reader. The reader never sees the statements `given` before the first row."""
        if self.is_fresh and not given:
            return
        connection = self.connection
        run_sql(connection, "SET foreign_key_checks = OFF", f"DROP DATABASE IF EXISTS {SCHEMA}")
        run_sql(connection, "SET foreign_key_checks = ON", "DROP DATABASE IF EXISTS elsewhere")
        run_sql(connection, f"CREATE DATABASE {SCHEMA} CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci")
        run_sql(connection, "CREATE DATABASE elsewhere", f"USE {SCHEMA}")
        create_tables(connection)
        run_sql(connection, *SETUP, *SETUP_ELSEWHERE, *given)
        self._events()
        run_sql(connection, *ROWS)
        self.feed, self.shown = Feed(), {name: Table() for name in TABLES}
        self.restart()
        self._judge(judged := Judged())
        assert judged == Judged(), judged
        self.is_fresh = True

    def restart(self) -> None:
        """A new reader has seen no row."""
        self.reader = TransactionReader(self.feed, SCHEMA, TABLES)

    def judge(self, session: Sequence[str], *statements: str | bytes, afterwards: bool = True) -> Judged:
        """Executes the statements and lets the reader read on. After a stop, call `reset`."""
        judged = Judged()
        run_sql(self.session, *session)
        try:
            for statement in statements:
                self.session.query(statement)  # sends bytes unchanged
        except pymysql.MySQLError as error:
            judged.error = str(error)
        self.is_fresh = False
        self._judge(judged)
        if afterwards and not (judged.stopped or judged.differences):
            for statement in AFTERWARDS:
                with contextlib.suppress(pymysql.MySQLError):
                    run_sql(self.connection, statement)
            self._judge(judged)
        return judged

    def sample(self, sample: Sample, *, afterwards: bool) -> Judged:
        return self.judge(sample.session, sample.statement, afterwards=afterwards)

    def _judge(self, judged: Judged) -> None:
        self.feed.events += [*self.head, *self._events()]
        try:
            while self.feed.events:
                for transaction in self.reader.read():
                    for change in transaction.changes:
                        self._show(change)
            if self.reader.failed:
                raise self.reader.failed
        except (UnsupportedEvent, UnprojectableRow) as error:
            judged.stopped = str(error)
        else:
            judged.differences = list(self._differences())

    def _show(self, change: RowChange) -> None:
        table, shown = TABLES[change.table], self.shown[change.table]
        if change.before is not None:
            shown.pop(tuple(change.before[name] for name in table.primary_key), None)
        if change.after is not None:
            key = tuple(change.after[name] for name in table.primary_key)
            shown[key] = tuple(change.after[name] for name in table.columns)

    def _differences(self) -> Iterator[str]:
        for name, table in TABLES.items():
            try:
                found = rows(self.connection, f"SELECT {', '.join(table.columns)} FROM {SCHEMA}.{name}")
            except pymysql.MySQLError as error:
                yield str(error)
                continue
            keyed = {tuple(row[table.columns.index(key)] for key in table.primary_key): row for row in found}
            if keyed != self.shown[name]:
                yield f"{name}: MySQL has {keyed}, shown is {self.shown[name]}"

    def _events(self) -> list[Event]:
        """All events up to the present end of the binlog."""
        file, end = rows(self.connection, "SHOW BINARY LOG STATUS")[0][:2]
        found: list[Event] = []
        while (self.file, self.offset) != (file, end):
            for kind, offset, event in self.packets.read():
                if kind == ROTATE:
                    self.file, self.head = event[27:-4].decode(), []
                if kind in (ROTATE, FORMAT_DESCRIPTION):
                    self.head.append((kind, offset, event))
                elif offset:
                    self.offset = offset
                    found.append((kind, offset, event))
        return found


@contextlib.contextmanager
def bench() -> Iterator[Bench]:
    """On its own MySQL, in memory where the system has a folder for that: most of the work is DDL."""
    with tempfile.TemporaryDirectory(dir=IN_MEMORY if IN_MEMORY.is_dir() else None) as folder:
        server = MySqlServer(Path(folder) / "mysql", options=QUICK)
        server.start()
        try:
            with admin_of(server) as connection, admin_of(server) as session:
                packets = Packets(dump(server.admin_url, executed(connection)))
                with contextlib.closing(packets):
                    yield Bench(packets, connection, session)
        finally:
            server.kill()
