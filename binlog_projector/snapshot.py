"""The first fill: every table as of one GTID set into a new build, with the stream already open right behind it."""

from __future__ import annotations

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
log = structlog.get_logger()


def take_snapshot(source: MySqlSource, control: ControlStore, epoch: int) -> tuple[DocumentStore, Stream]:
    """Fill a new build and let it serve. The stream is opened before copying, so that its files are not purged.

    Raises SourceUnavailable, StoreUnavailable and StandDown; then the build is void and the next attempt makes another.
    """
    with source.session() as connection:
        begun = source.clock(connection)
    documents = control.create_build(epoch)
    with source.consistent_snapshot() as snapshot:
        log.info("snapshot begins", build=documents.build, gtid_set=str(snapshot.executed))
        gtid = snapshot.anchor_gtid
        stream = source.stream(snapshot.executed, Anchor(gtid, 0) if gtid else None)
        try:
            for table in TABLES.values():
                _copy(snapshot, table, documents)
            documents.finish_snapshot(snapshot.executed, timestamp(begun.now), stream.anchor)
        except BaseException:
            stream.close()
            raise
    log.info("snapshot done", build=documents.build)
    return documents, stream


def _copy(snapshot: Snapshot, table: Table, documents: DocumentStore) -> None:
    copied = 0
    for rows in snapshot.rows(table, CHUNK_ROWS):
        documents.commit_rows(_chunk(table, rows))
        copied += len(rows)
        log.info("snapshot", table=table.name, rows=copied)


def _chunk(table: Table, rows: list[Row]) -> Batch:
    batch = Batch(EMPTY)
    for row in rows:
        batch.fold(project(RowChange(table.name, None, row)))
    return batch
