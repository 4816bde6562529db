"""MySQL for commands: a pool of connections, one transaction per command, repeated if that is safe."""

from __future__ import annotations

import asyncio
import contextvars
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import anyio
import pymysql
import structlog
from dbutils.pooled_db import PooledDB
from pymysql.constants import CLIENT, COMMAND, ER

from tidemark.ids import MAX_ID
from writer import metrics
from writer.connections import connect, connection_arguments
from writer.errors import (
    Contended,
    DatabaseUnavailable,
    IdsExhausted,
    Interrupted,
    OutcomeUnknown,
    PoolExhausted,
    StatementRefused,
)
from writer.session_track import own_gtids
from writer.sql_errors import DEAD, translated

T = TypeVar("T")
Rows = Sequence[tuple[Any, ...]]
log = structlog.get_logger()

POOL_WAIT_SECONDS = 2.0
ATTEMPTS, ATTEMPTS_SECONDS = 6, 6
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.01, 0.5  # before a retry; pauses are random up to these


@dataclass(frozen=True)
class Committed(Generic[T]):
    """The result of `work`, and the GTIDs that a reader must have to show it.

    They are the transaction's own GTID or, if it changed nothing, all GTIDs so far.
    """

    result: T
    gtids: str


class Session:
    """A session of MySQL inside one transaction. Rows are tuples; DATETIMEs are RFC 3339 text, UTC.

    The first statement begins the transaction, on a new connection if this one died while idle.
    Methods raise Contended, DatabaseUnavailable, Duplicate, IdsExhausted, MissingRow and StatementRefused.
    """

    def __init__(self, connection: pymysql.Connection[Any]) -> None:
        self._connection = connection
        self._cursor = connection.cursor()
        self._begun = False

    def execute(self, sql: str, *values: object) -> int:
        """Return the number of rows changed (for SELECT: found)."""
        with translated():
            try:
                return int(self._cursor.execute(sql, values))
            except pymysql.MySQLError as error:
                if self._begun or error.args[0] not in DEAD:
                    raise
                self._connection.connect()
                return int(self._cursor.execute(sql, values))
            finally:
                self._begun = True

    def insert(self, sql: str, *values: object) -> int:
        """Return the id that MySQL gave to the new row, or 0 if the statement inserted none."""
        self.execute(sql, *values)
        id = int(self._cursor.lastrowid)
        if id > MAX_ID:
            raise IdsExhausted
        return id

    def rows(self, sql: str, *values: object) -> Rows:
        """Return all rows found."""
        self.execute(sql, *values)
        found: Rows = self._cursor.fetchall()
        return found

    def script(self, sql: str) -> None:
        """Run several statements; for a session of `migration_session`."""
        with translated():
            self._cursor.execute(sql)
            while self._cursor.nextset():
                pass


class Database:
    """Up to `pool_size` connections, opened at first use; a request waits at most `wait_seconds` for one."""

    def __init__(self, url: str, pool_size: int, wait_seconds: float = POOL_WAIT_SECONDS) -> None:
        # _open opens connections. The pool would hold its lock meanwhile: a dead server would block all.
        self._pool = PooledDB(
            pymysql,
            maxcached=pool_size,
            maxconnections=pool_size,
            reset=False,
            ping=0,
            defer_connect=True,
            **{**connection_arguments(url), "autocommit": False},
        )
        self._places = anyio.Semaphore(pool_size, fast_acquire=True)
        self._threads = ThreadPoolExecutor(pool_size, "mysql")
        self._wait_seconds = wait_seconds
        metrics.POOL.labels("in_use").set_function(lambda: pool_size - self._places.value)
        metrics.POOL.labels("free").set_function(lambda: self._places.value)
        metrics.POOL.labels("waiting").set_function(lambda: self._places.statistics().tasks_waiting)

    async def run(self, work: Callable[[Session], T], *, repeatable: bool) -> Committed[T]:
        """Run `work` in one transaction, in a thread; repeat after contention or a lost connection.

        `repeatable`: twice is the same as once, so `work` is repeated even after a lost COMMIT.
        Raises PoolExhausted, Contended, DatabaseUnavailable, OutcomeUnknown, and the errors of `work`.
        """
        await self._take_place()
        try:
            context, loop = contextvars.copy_context(), asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, context.run, self._run, work, repeatable)
        finally:
            self._places.release()

    def close(self) -> None:
        self._threads.shutdown()
        self._pool.close()

    async def _take_place(self) -> None:
        try:
            self._places.acquire_nowait()
        except anyio.WouldBlock:
            try:
                with anyio.fail_after(self._wait_seconds):
                    await self._places.acquire()
            except TimeoutError as error:
                raise PoolExhausted from error

    def _run(self, work: Callable[[Session], T], repeatable: bool) -> Committed[T]:
        began, pause = time.monotonic(), FIRST_PAUSE_SECONDS
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._transact(work)
            except Interrupted as error:
                is_safe = repeatable or not isinstance(error, OutcomeUnknown)
                if not is_safe or attempt == ATTEMPTS or time.monotonic() - began >= ATTEMPTS_SECONDS:
                    raise
                metrics.RETRIES.labels(error.reason).inc()
            time.sleep(random.uniform(0, pause))
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        raise AssertionError("the last attempt returns or raises")

    def _transact(self, work: Callable[[Session], T]) -> Committed[T]:
        with closing(self._pool.connection()) as pooled:
            # The pool's proxy would repeat a failed statement on a new connection, outside the transaction.
            connection = pooled.dbapi_connection
            try:
                _open(connection)
                result = work(Session(connection))
            except BaseException:
                _abandon(connection)
                raise
            gtids = _commit(connection)
            return Committed(result, gtids or _everything_committed(connection))


def _open(connection: pymysql.Connection[Any]) -> None:
    if not connection.open:
        with translated():
            connection.connect()


def _commit(connection: pymysql.Connection[Any]) -> str:
    """Commit; return the GTID in MySQL's answer, empty if the transaction changed nothing.

    `connection.commit()` would drop that answer.
    """
    try:
        with translated():
            connection._execute_command(COMMAND.COM_QUERY, "COMMIT")  # type: ignore[attr-defined]
            answer = connection._read_ok_packet()  # type: ignore[attr-defined]
            return own_gtids(answer.message, answer.server_status)
    except (DatabaseUnavailable, StatementRefused) as error:
        connection.close()
        raise OutcomeUnknown from error


def _everything_committed(connection: pymysql.Connection[Any]) -> str:
    """All GTIDs so far: a command without a GTID has seen no others.

    Empty if MySQL goes away now: then the command is done, without a token.
    """
    try:
        return str(Session(connection).rows("SELECT @@global.gtid_executed")[0][0])
    except (DatabaseUnavailable, StatementRefused) as error:
        log.warning("no consistency token for this command", error=str(error))
        return ""


def _abandon(connection: pymysql.Connection[Any]) -> None:
    """Roll back. If that fails, close the connection: no later transaction may inherit the open one."""
    try:
        connection.rollback()
    except pymysql.MySQLError:
        connection.close()


def readiness(url: str) -> str:
    """ "ok" if this account can change the tables, "away: ..." without an answer, else MySQL's refusal.

    The connection is not from the pool: a busy pool is no broken one. A read-only server refuses the UPDATE
    although no row matches. It names the tables and columns of the latest migrations.
    """
    try:
        with connect(url, autocommit=False) as connection:
            Session(connection).execute(
                "UPDATE users, user_deletions, mentions, notification_reads, likes, comments"
                " SET users.bio = users.bio"
                " WHERE FALSE AND likes.post_author_id = 0 AND comments.post_author_id = 0"
            )
    except (Interrupted, StatementRefused) as error:
        code, text = error.__cause__.args[0], error.__cause__.args[-1]  # type: ignore[union-attr]
        refused = isinstance(error, StatementRefused | Contended) or code == ER.OPTION_PREVENTS_STATEMENT
        return str(text) if refused else f"away: {text}"
    return "ok"


@contextmanager
def migration_session(url: str) -> Iterator[Session]:
    """A session for `script`, without a time limit: large tables take long. Raises DatabaseUnavailable."""
    with connect(url, client_flag=CLIENT.MULTI_STATEMENTS, read_timeout=None) as connection:
        yield Session(connection)
