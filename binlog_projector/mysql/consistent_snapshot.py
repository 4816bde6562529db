"""All of MySQL's tables as of exactly one GTID set, over as many connections as it takes to read them."""

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

TIMEOUT_SECONDS = 600  # counting and looking for orphans in a large table may find nothing to say for long
SILENT_SECONDS = (
    5.0  # without a word on a connection that is asked each second, the network or the server is gone
)
LOCK_WAIT_TIMEOUT = 1205
log = structlog.get_logger()


@dataclass
class Snapshot:
    """One consistent view: `executed` is exactly what it contains."""

    connections: Sequence[Connection]
    executed: GtidSet
    server_uuid: str

    @property
    def connection(self) -> Connection:
        """Where one is enough."""
        return self.connections[0]

    @property
    def anchor_gtid(self) -> Gtid | None:
        """A transaction of the view that the tailed server committed last, if it committed any itself."""
        return self.executed.last_of(self.server_uuid)


@contextlib.contextmanager
def consistent_snapshot(source: MySqlSource, connections: int = 1) -> Iterator[Snapshot]:
    """Transactions begin while a lock holds writers off for milliseconds. Raises SourceUnavailable."""
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
    """A long statement is as silent as a dead network: a connection of its own tells one from the other."""
    done = threading.Event()
    thread = threading.Thread(target=_watch, args=(source, readers, done), name="snapshot watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(timeout=2 * SILENT_SECONDS)


def _watch(source: MySqlSource, readers: Sequence[Any], done: threading.Event) -> None:
    """End the connections of `readers` once the source is silent: who waits for an answer there fails at once."""
    try:
        with source.session(read_timeout=SILENT_SECONDS) as connection:
            while not done.wait(1):
                query_value(connection, "SELECT 1")
    except SourceUnavailable as error:
        log.warning("the source is silent, so its snapshot is void", error=str(error))
        for reader in readers:
            with contextlib.suppress(OSError):
                reader._sock.shutdown(socket.SHUT_RDWR)  # PyMySQL's own close() does not wake up who reads


@retry(
    retry=retry_if_exception(lambda error: getattr(error, "args", (0,))[0] == LOCK_WAIT_TIMEOUT),
    wait=wait_random_exponential(multiplier=0.2, max=5),
    stop=stop_after_attempt(60),
    reraise=True,
)
def _begin(locker: Connection, readers: Sequence[Connection]) -> GtidSet:
    """Comparing gtid_executed before and after instead would be wrong: rows become visible before their GTID does."""
    names = ", ".join(f"`{table.name}` READ" for table in TABLES.values())
    execute(
        locker, "SET SESSION lock_wait_timeout = 2, wait_timeout = 10"
    )  # so long a lock lasts if we are paused
    execute(locker, f"LOCK TABLES {names}")
    try:
        for reader in readers:
            execute(reader, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            execute(reader, "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        return GtidSet.parse(query_value(locker, "SELECT @@global.gtid_executed"))
    finally:
        execute(locker, "UNLOCK TABLES")
