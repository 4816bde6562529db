"""Filling a new build: every table as of one GTID set, with the stream already open right behind that set."""

from __future__ import annotations

import contextlib
import threading

import structlog

from binlog_projector.errors import CorruptEvent, StoreUnavailable
from binlog_projector.mysql.consistent_snapshot import Snapshot, consistent_snapshot
from binlog_projector.mysql.freshness import timestamp
from binlog_projector.mysql.source import MySqlSource, Stream
from binlog_projector.mysql.table_rows import estimated_rows
from binlog_projector.snapshot.copying import Copying
from binlog_projector.snapshot.progress import Progress
from binlog_projector.stores.control_store import ControlStore
from binlog_projector.stores.document_store import DocumentStore
from reader.read_model.control import Anchor
from writer.schema import TABLES

log = structlog.get_logger()


def take_snapshot(
    source: MySqlSource, control: ControlStore, epoch: int, *stopping: threading.Event
) -> tuple[DocumentStore, Stream]:
    """Fill a new build, which does not serve yet.

    The stream is opened before the copy, so that MySQL does not purge its files. Raises SourceUnavailable,
    StoreUnavailable, StandDown and ToldToStop. Then the build is void, and dropped if MongoDB answers.
    """
    with source.session() as connection:
        begun = source.clock(connection)
    documents = control.create_build(epoch)
    with consistent_snapshot(source, len(TABLES)) as snapshot:
        log.info("snapshot begins", build=documents.build, gtid_set=str(snapshot.executed))
        stream = _stream_behind(snapshot, source)
        try:
            with Progress(estimated_rows(snapshot.connection, TABLES)) as progress:
                Copying(snapshot, documents, progress, *stopping).run()
            copied = {"rows": progress.rows, "seconds": progress.seconds()}
            documents.finish_snapshot(snapshot.executed, timestamp(begun.now), stream.anchor, copied)
        except BaseException:
            stream.close()
            with contextlib.suppress(StoreUnavailable):  # then the next attempt drops it
                control.drop_unfinished(documents.build)
            raise
    log.info("snapshot done", build=documents.build, **copied)
    return documents, stream


def _stream_behind(snapshot: Snapshot, source: MySqlSource) -> Stream:
    """A stream with an anchor, or without one if the anchor's bytes in the binlog are damaged.

    The snapshot's rows do not come from the binlog, so the damage does not touch them.
    """
    gtid = snapshot.anchor_gtid
    try:
        return source.stream(snapshot.executed, Anchor(gtid, 0) if gtid else None)
    except CorruptEvent as error:
        log.warning(
            "the last transaction cannot be read from the binlog; going on without an anchor",
            error=str(error),
        )
        return source.stream(snapshot.executed, None)
