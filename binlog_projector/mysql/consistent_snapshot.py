"""All of MySQL's tables as of exactly one GTID set, over several connections."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

from binlog_projector.errors import SourceUnavailable
from binlog_projector.mysql.connections import Connection, execute, query_value
from binlog_projector.mysql.source import MySqlSource
from tidemark.gtid import Gtid, GtidSet
from writer.schema import TABLES

TIMEOUT_SECONDS = 600  # counts and the search for orphans in a large table give no rows for long
SILENT_SECONDS = 5.0  # if a query each second gets no answer for so long, network or server is gone
LOCK_WAIT_TIMEOUT = 1205
log = structlog.get_logger()


@dataclass
class Snapshot:
    """One consistent snapshot: it contains exactly `executed`."""

    connections: Sequence[Connection]
    executed: GtidSet
    server_uuid: str

    @property
    def connection(self) -> Connection:
        """The first connection, for a caller that needs only one."""
        return self.connections[0]

    @property
    def anchor_gtid(self) -> Gtid | None:
        """The last transaction in the snapshot that the server itself committed, if any."""
        return self.executed.last_of(self.server_uuid)


@contextlib.contextmanager
def consistent_snapshot(source: MySqlSource, connections: int = 1) -> Iterator[Snapshot]:
    """Begin all transactions under a lock that stops writers for milliseconds. Raises SourceUnavailable."""
    with contextlib.ExitStack() as sessions:
        readers = [
            sessions.enter_context(source.session(read_timeout=TIMEOUT_SECONDS)) for _ in range(connections)
        ]
        with source.session() as locker:
            executed = _begin(locker, readers)
            server_uuid = query_value(locker, "SELECT @@server_uuid")
        with _watched(source, readers):
            yield Snapshot(readers, executed, server_uuid)


@contextlib.contextmanager
def _watched(source: MySqlSource, readers: Sequence[Connection]) -> Iterator[None]:
    """Watch the server on another connection: a long statement is as silent as a dead network."""
    done = threading.Event()
    thread = threading.Thread(target=_watch, args=(source, readers, done), name="snapshot watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(timeout=2 * SILENT_SECONDS)


def _watch(source: MySqlSource, readers: Sequence[Any], done: threading.Event) -> None:
    """Shut the connections of `readers` when the source is silent: waiting statements then fail at once."""
    try:
        with source.session(read_timeout=SILENT_SECONDS) as connection:
            while not done.wait(1):
                query_value(connection, "SELECT 1")
    except SourceUnavailable as error:
        log.warning("the source is silent, so its snapshot is void", error=str(error))
        for reader in readers:
            with contextlib.suppress(OSError):
                reader._sock.shutdown(socket.SHUT_RDWR)  # PyMySQL's close() does not wake a blocked read


@retry(
    retry=retry_if_exception(lambda error: getattr(error, "args", (0,))[0] == LOCK_WAIT_TIMEOUT),
    wait=wait_random_exponential(multiplier=0.2, max=5),
    stop=stop_after_attempt(60),
    reraise=True,
)
def _begin(locker: Connection, readers: Sequence[Connection]) -> GtidSet:
    """Begin the transactions and return their GTID set.

    The lock is needed. Equal gtid_executed before and after would prove nothing: rows become visible before
    their GTID.
    """
    names = ", ".join(f"`{table.name}` READ" for table in TABLES.values())
    # If this process is paused, wait_timeout ends the lock.
    execute(locker, "SET SESSION lock_wait_timeout = 2, wait_timeout = 10")
    execute(locker, f"LOCK TABLES {names}")
    try:
        for reader in readers:
            execute(reader, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            execute(reader, "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        return GtidSet.parse(query_value(locker, "SELECT @@global.gtid_executed"))
    finally:
        execute(locker, "UNLOCK TABLES")
