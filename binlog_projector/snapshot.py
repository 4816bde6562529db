"""Filling a new build: every table as of one GTID set, with the stream already open right behind it."""

from __future__ import annotations

import time

import structlog

from binlog_projector.batch import Batch
from binlog_projector.changes import Anchor, Row, RowChange
from binlog_projector.control_store import ControlStore
from binlog_projector.document_store import DocumentStore
from binlog_projector.freshness import timestamp
from binlog_projector.projections import project
from binlog_projector.source import MySqlSource, Snapshot, Stream
from tidemark.gtid import EMPTY
from writer.schema import TABLES, Table

CHUNK_ROWS = 2_000
SAY_SECONDS = 1.0
log = structlog.get_logger()


def take_snapshot(
    source: MySqlSource, control: ControlStore, epoch: int, expected_rows: int = 0
) -> tuple[DocumentStore, Stream]:
    """Fill a new build, which does not serve yet.

    The stream is opened before copying, so that its files are not purged. Raises SourceUnavailable, StoreUnavailable
    and StandDown; then the build is void and the next attempt makes another.
    """
    with source.session() as connection:
        begun = source.clock(connection)
    documents = control.create_build(epoch)
    progress = Progress(expected_rows)
    with source.consistent_snapshot() as snapshot:
        log.info("snapshot begins", build=documents.build, gtid_set=str(snapshot.executed))
        gtid = snapshot.anchor_gtid
        stream = source.stream(snapshot.executed, Anchor(gtid, 0) if gtid else None)
        try:
            for table in TABLES.values():
                _copy(snapshot, table, documents, progress)
            copied = {"rows": progress.rows, "seconds": progress.seconds()}
            documents.finish_snapshot(snapshot.executed, timestamp(begun.now), stream.anchor, copied)
        except BaseException:
            stream.close()
            raise
    log.info("snapshot done", build=documents.build, **copied)
    return documents, stream


class Progress:
    """How much has been copied, said now and then."""

    def __init__(self, expected_rows: int) -> None:
        self.expected_rows = expected_rows
        self.rows = 0
        self.began = self.said = time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self.began

    def copied(self, table: str, rows: int) -> None:
        self.rows += rows
        if time.monotonic() - self.said >= SAY_SECONDS:
            self.said = time.monotonic()
            log.info("snapshot", table=table, rows=self.rows, **self._outlook())

    def _outlook(self) -> dict[str, int]:
        """Nothing where nothing is expected."""
        if self.rows >= self.expected_rows:
            return {}
        left = self.seconds() * (self.expected_rows - self.rows) / self.rows
        return {"percent": 100 * self.rows // self.expected_rows, "seconds_left": round(left)}


def _copy(snapshot: Snapshot, table: Table, documents: DocumentStore, progress: Progress) -> None:
    for rows in snapshot.rows(table, CHUNK_ROWS):
        documents.commit_rows(_chunk(table, rows))
        progress.copied(table.name, len(rows))


def _chunk(table: Table, rows: list[Row]) -> Batch:
    batch = Batch(EMPTY)
    for row in rows:
        batch.fold(project(RowChange(table.name, None, row)))
    return batch
