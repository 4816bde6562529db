"""The audit compares the read model with MySQL while both change, and says up to when it is proved right.

Two cheap walks find suspects: documents that differ from MySQL's current rows, and rows without documents.
Most suspects are only late, and settling decides the rest exactly. Meanwhile the audit checks samples of
cache entries and of the reader's answers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import structlog

from binlog_projector.audit.report import Report
from binlog_projector.audit.samples import Samples
from binlog_projector.audit.settling import REPAIR_ROUNDS, Settling, Suspect
from binlog_projector.audit.source import SourceView, documents_of
from binlog_projector.domain.mutations import DocumentId
from binlog_projector.domain.truth import difference
from binlog_projector.mysql.freshness import timestamp
from binlog_projector.mysql.table_rows import Key
from reader.read_model.declarations import COLLECTIONS
from writer.schema import TABLES

CHUNK = 500
log = structlog.get_logger()


class Pace:
    """Keeps to `rows_per_second` on average. Waiting ends when `stopping` is set."""

    def __init__(self, rows_per_second: int, stopping: threading.Event) -> None:
        self.rows_per_second = rows_per_second
        self.stopping = stopping
        self.next_at = 0.0

    def spend(self, rows: int) -> None:
        self.stopping.wait(max(0.0, self.next_at - time.monotonic()))
        self.next_at = max(self.next_at, time.monotonic()) + rows / self.rows_per_second


class Audit:
    """One pass over everything.

    Raises SourceUnavailable, StoreUnavailable, CacheUnavailable, ReadModelMissing, ProjectorBehind.
    """

    def __init__(self, settling: Settling, samples: Samples, pace: Pace) -> None:
        self.settling = settling
        self.source = settling.source
        self.store = settling.store
        self.repairs = settling.queue is not None
        self.samples = samples
        self.pace = pace
        self.stopping = pace.stopping
        self.report = Report()  # of this pass
        self.reported: set[Suspect] = set()  # in this pass: several tables can lead to one document

    def run(self) -> Report:
        """The report verifies all that MySQL had committed at the start, unless a difference remains."""
        report = self.report = Report()
        self.reported.clear()
        with self.source.session() as connection:
            begun = self.source.clock(connection)
            self.samples.take()
            suspects: list[Suspect] = []
            for found in self._suspects(SourceView(connection), report):
                suspects += found
                if len(suspects) >= CHUNK:
                    self._settle(suspects, report)
                    suspects = []
                self.samples.look(report)
                if self.stopping.is_set():
                    return report
            self._settle(suspects, report)
        self.samples.finish(report)
        if self.repairs:
            self._repair_samples(report)
        self._note_staleness(report)
        report.finish(timestamp(begun.now), str(begun.executed))
        return report

    def progress(self) -> str:
        compared = sum(self.report.documents.values())
        return f"{compared:,} documents compared, {len(self.samples.due)} looks at the samples are left"

    def _suspects(self, source: SourceView, report: Report) -> Iterator[Sequence[Suspect]]:
        for name in COLLECTIONS:
            yield from self._different_documents(name, source, report)
            yield from self._rows_without_documents(name, source)

    def _different_documents(
        self, name: str, source: SourceView, report: Report
    ) -> Iterator[Sequence[Suspect]]:
        last: DocumentId | None = None
        while True:
            with self.store.view() as view:
                documents = view.documents_after(name, last, CHUNK)
            if not documents:
                return
            self.pace.spend(len(documents))
            truths = source.truths(name, [document["_id"] for document in documents])
            report.compared(len(documents))
            yield [
                (name, document["_id"])
                for document in documents
                if difference(truths[document["_id"]], document)
            ]
            last = documents[-1]["_id"]

    def _rows_without_documents(self, name: str, source: SourceView) -> Iterator[Sequence[Suspect]]:
        table = TABLES[name]
        last: Key | None = None
        while rows := source.rows_after(table, last, CHUNK):
            self.pace.spend(len(rows))
            wanted = documents_of(table, rows)
            with self.store.view() as view:
                missing = {each: ids - view.existing(each, ids) for each, ids in wanted.items() if ids}
            yield [(each, id) for each, ids in missing.items() for id in ids]
            last = tuple(rows[-1][column] for column in table.primary_key)

    def _settle(self, suspects: Sequence[Suspect], report: Report) -> None:
        found, unsettled = self.settling.settle([*{*suspects} - self.reported])
        self.reported.update(one.suspect for one in found)
        report.found([one.report() for one in found], len(unsettled))
        for one in found:
            log.warning("difference", found=str(one.report()), read_at=one.read_at)
        if found and self.repairs:
            report.repaired += len(found) - len(self.settling.repair(found))

    def _repair_samples(self, report: Report) -> None:
        """A stale entry and the answer made from it are two differences, but one repair."""
        stale = self.samples.stale
        found = sum(one.what != "document" for one in report.differences)
        for _ in range(REPAIR_ROUNDS):
            if not stale:
                break
            self.settling.request(list(stale.values()))
            stale = self.samples.look_again(list(stale))
        report.repaired += found if not stale else 0

    def _note_staleness(self, report: Report) -> None:
        with self.source.session() as connection, self.store.view() as view:
            report.stale("mongodb", self.source.clock(connection).now, view.checkpoint.as_of)
