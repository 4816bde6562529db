"""Copying a consistent snapshot into a new build: all tables at once, and only complete documents."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from binlog_projector.domain.projections import COUNTERS, PLANS, Counter, demand_fitting
from binlog_projector.errors import ToldToStop
from binlog_projector.mysql.connections import Connection
from binlog_projector.mysql.consistent_snapshot import Snapshot
from binlog_projector.mysql.table_rows import orphans, rows
from binlog_projector.snapshot.progress import Progress
from binlog_projector.stores.document_store import DocumentStore
from binlog_projector.stores.mongodb import BsonDocument
from writer.schema import TABLES, Table

CHUNK_ROWS = 2_000


class Copying:
    """While MongoDB stores a chunk of one table, chunks of other tables are read and projected."""

    def __init__(
        self, snapshot: Snapshot, documents: DocumentStore, progress: Progress, *stopping: threading.Event
    ) -> None:
        self.snapshot = snapshot
        self.documents = documents
        self.progress = progress
        self.stopping = stopping
        self.committing = threading.Lock()
        self.failed = threading.Event()

    def run(self) -> None:
        """Raises SourceUnavailable, StoreUnavailable, StandDown, ToldToStop and UnprojectableRow.

        Then the build is void.
        """
        with ThreadPoolExecutor(len(TABLES), "snapshot") as threads:
            tables = zip(TABLES.values(), self.snapshot.connections, strict=True)
            for copied in [threads.submit(self._copy, table, connection) for table, connection in tables]:
                copied.result()

    def _copy(self, table: Table, connection: Connection) -> None:
        try:
            for chunk in complete_documents(table, connection):
                with self.committing:
                    if self.failed.is_set():
                        return
                    if any(event.is_set() for event in self.stopping):
                        raise ToldToStop("told to stop before the copy was complete")
                    self.documents.commit_rows(table.name, chunk)
                    self.progress.copied(len(chunk))
        except BaseException:
            self.failed.set()
            raise


def complete_documents(table: Table, connection: Connection) -> Iterator[list[BsonDocument]]:
    """Chunks of documents: one for each row, then a stub for each id that is counted but has no row."""
    counters = [counter for counter in COUNTERS if counter.collection == table.name]
    for chunk in rows(connection, table, counters, CHUNK_ROWS):
        yield [_document(table, counters, values) for values in chunk]
    for chunk in orphans(connection, table, counters, CHUNK_ROWS):
        yield [_stub(counters, id, counts) for id, *counts in chunk]


def _document(table: Table, counters: Sequence[Counter], values: Sequence[Any]) -> BsonDocument:
    width = len(table.columns)
    id, fields = PLANS[table.name].document(dict(zip(table.columns, values[:width], strict=True)))
    return {"_id": id, **fields, **_counts(counters, values[width:])}


def _stub(counters: Sequence[Counter], id: int, counts: Sequence[int]) -> BsonDocument:
    for counter, count in zip(counters, counts, strict=True):
        demand_fitting(counter.table, {counter.by: id} if count else {})
    return {"_id": id, **_counts(counters, counts)}


def _counts(counters: Sequence[Counter], counts: Sequence[int]) -> dict[str, int]:
    return {counter.field: count for counter, count in zip(counters, counts, strict=True)}
