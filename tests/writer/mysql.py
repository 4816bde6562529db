"""MySQL as its administrator sees it, beside the writer under test."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import pymysql

from ops.stack import Stack
from ops.stack.urls import mysql_arguments
from tests.support.harness import wait_until


class MySql:
    """A stack's MySQL with a migrated schema; `url` is the writer's."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.url = stack.environment()["TIDEMARK_WRITER_MYSQL_URL"]

    @contextlib.contextmanager
    def session(self, *, autocommit: bool = True) -> Iterator[pymysql.cursors.Cursor]:
        """A cursor in a session of its own; without `autocommit` its locks last until the block ends."""
        arguments = {**mysql_arguments(self.stack.mysql.admin_url), "database": "tidemark"}
        connection = pymysql.connect(**arguments, autocommit=autocommit)
        with connection, connection.cursor() as cursor:
            yield cursor

    def rows(self, sql: str, *values: object) -> Sequence[tuple[Any, ...]]:
        with self.session() as cursor:
            cursor.execute(sql, values)
            return cursor.fetchall()

    def value(self, sql: str, *values: object) -> Any:
        return self.rows(sql, *values)[0][0]

    def execute(self, sql: str, *values: object) -> None:
        self.rows(sql, *values)

    @contextlib.contextmanager
    def locked(self, sql: str, *values: object) -> Iterator[None]:
        """While the block runs, a transaction holds the locks of `sql`."""
        with self.session(autocommit=False) as cursor:
            cursor.execute(sql, values)
            yield

    def wait_for_lock_waits(self, count: int) -> None:
        """Wait for `count` lock waits. (`innodb_trx` is no source: it refreshes only if unread for 0.1 s.)"""
        waiting = "SELECT COUNT(*) FROM performance_schema.data_lock_waits"
        wait_until(lambda: self.value(waiting) == count, f"{count} lock waits")

    def kill_writers(self) -> int:
        """End all sessions of the writer's account and wait for their end; return their number."""
        writers = "SELECT id FROM information_schema.processlist WHERE user = 'writer'"
        ids = self.rows(writers)
        for (id,) in ids:
            with contextlib.suppress(pymysql.err.OperationalError):  # the session may have ended by itself
                self.execute(f"KILL {id}")
        wait_until(lambda: not {*ids} & {*self.rows(writers)}, "the writer's sessions to end")
        return len(ids)

    def kill_waiting_statement(self) -> None:
        """Interrupt the one statement that waits for a lock; its session stays open."""
        waiting = (
            "SELECT trx_mysql_thread_id FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
        )
        self.execute(f"KILL QUERY {self.value(waiting)}")
