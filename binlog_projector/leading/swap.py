"""Proves that the copy for which a tool has swapped a watched table is the same, while the stream is held.

The read model stands still right before the swap. Each row of the new table is compared with its document, in
chunks, while MySQL goes on. Then the stream is read up to all that the comparison can have seen. A row that
the stream has not changed must be equal to its document, and a row that it has changed must have been equal
before the first change.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import structlog

from binlog_projector.domain.changes import Row, Transaction
from binlog_projector.domain.mutations import DocumentId, Fields
from binlog_projector.domain.projections import PLANS, document_id, identity, primary_key
from binlog_projector.domain.truth import row_fields
from binlog_projector.errors import CheckpointMoved, TableSwapped, ToldToStop, UnsupportedEvent
from binlog_projector.fault_points import reached
from binlog_projector.leading.health import Health
from binlog_projector.mysql.connections import Connection
from binlog_projector.mysql.consistent_snapshot import consistent_snapshot
from binlog_projector.mysql.source import Stream
from binlog_projector.mysql.table_rows import Key, rows, rows_of
from binlog_projector.stores.audit_store import AuditStore, StoredView
from reader.read_model.control import Position
from reader.read_model.declarations import COLLECTIONS
from tidemark.gtid import GrowingGtidSet
from writer.schema import TABLES

CHUNK = 2_000
MOST_SUSPECTS = 10_000
Documents = dict[Key, Mapping[str, Any]]  # by the primary key of the row
MISSING, FOREIGN = "is missing", "has no document"
log = structlog.get_logger()


class Comparison:
    """One attempt, over a `stream` right behind `position` that passes the swap. It leaves nothing behind.

    `goes_on`: whether this process still leads.
    """

    def __init__(
        self,
        swap: TableSwapped,
        position: Position,
        stream: Stream,
        store: AuditStore,
        health: Health,
        goes_on: Callable[[], bool],
    ) -> None:
        self.swap = swap
        self.table = TABLES[swap.table]
        self.plan = PLANS[swap.table]
        self.position = position
        self.stream = stream
        self.store = store
        self.health = health
        self.goes_on = goes_on
        self.compared = 0
        self.reached = GrowingGtidSet(position.gtid_set)
        self.suspects: dict[Key, str] = {}  # key -> how it differs from its document
        self.touched: dict[Key, bool] = {}  # by the stream: whether the row was there before
        self.firsts: dict[Key, Row] = {}  # rows of first changes, still to be compared

    def run(self) -> None:
        """Raises UnsupportedEvent with the first row that differs, Retry, and ToldToStop."""
        begun = time.monotonic()
        if self.position.partials:
            raise UnsupportedEvent(str(self.swap))
        with self.stream.source.session() as connection:
            for suspects in self._suspects(connection):
                self.suspects = {**suspects, **self.suspects}
                self._go_on()
                if len(self.suspects) >= MOST_SUSPECTS:
                    self._settle()
                reached("comparing_swap")
        self._settle()
        self._demand_new()
        self.health.swap_verified(
            f"verified: {self.table.name} after {self.swap.gtid}, {self.compared} rows equal, "
            f"{len(self.touched)} changed meanwhile"
        )
        log.info(
            "swap verified",
            table=self.table.name,
            gtid=str(self.swap.gtid),
            rows=self.compared,
            changed_meanwhile=len(self.touched),
            seconds=round(time.monotonic() - begun, 3),
        )
        reached("after_swap")

    def _suspects(self, connection: Connection) -> Iterator[dict[Key, str]]:
        """In chunks: documents whose rows differ now, then rows that have no document."""
        for documents in self._documents():
            found = {self._key(row): self.plan.document(row) for row in self._rows_of(connection, documents)}
            self.compared += len(documents)
            yield {
                key: how
                for key, document in documents.items()
                if (how := self._difference(found.get(key), document))
            }
        columns = tuple(dict.fromkeys((*self.table.primary_key, *identity(self.table))))
        for chunk in rows(connection, replace(self.table, columns=columns), (), CHUNK):
            keyed = [dict(zip(columns, values, strict=True)) for values in chunk]
            ids = {document_id(self.table.name, row): self._key(row) for row in keyed}
            known = self._documents_of(ids)
            yield {key: FOREIGN for key in ids.values() if key not in known}

    def _settle(self) -> None:
        """Read the stream up to all that MySQL has shown. It must explain each suspect."""
        with consistent_snapshot(self.stream.source) as snapshot:
            executed = snapshot.executed
        while not self.reached.current() >= executed:
            self._go_on()
            if (transaction := self.stream.read()) is not None:
                self._touch(transaction)
        self._compare_firsts()
        for key, how in self.suspects.items():
            if key not in self.touched:
                raise self._differs(key, how)
        self.suspects.clear()

    def _touch(self, transaction: Transaction) -> None:
        for change in transaction.changes:
            for row, was_there in ((change.before, True), (change.after, False)):
                if change.table == self.table.name and row is not None:
                    key = self._key(row)
                    if key not in self.touched:
                        self.touched[key], self.firsts[key] = was_there, row
        if len(self.firsts) >= CHUNK:
            self._compare_firsts()
        if transaction.partial is None:
            self.reached.add(transaction.gtid)

    def _compare_firsts(self) -> None:
        made = {key: self.plan.document(row) for key, row in self.firsts.items()}
        stored = self._documents_of(id for id, _ in made.values())
        for key, document in made.items():
            found = stored.get(key)
            if how := self._difference(document if self.touched[key] else None, found):
                raise self._differs(key, how)
        self.firsts.clear()

    def _demand_new(self) -> None:
        """Rows that the stream inserted must not have been there. An edge's id may have had another time."""
        if self.plan.edge is not None and not all(self.touched.values()):
            for documents in self._documents():
                self._go_on()
                for key in documents:
                    if not self.touched.get(key, True):
                        raise self._differs(key, MISSING)

    def _documents(self) -> Iterator[Documents]:
        """All documents of rows, in chunks."""
        last: DocumentId | None = None
        while True:
            with self._view() as view:
                found = view.documents_after(self.table.name, last, CHUNK)
            if not found:
                return
            last = found[-1]["_id"]
            yield self._by_key(found)

    def _documents_of(self, ids: Iterable[DocumentId]) -> Documents:
        with self._view() as view:
            return self._by_key(view.documents(self.table.name, ids).values())

    @contextlib.contextmanager
    def _view(self) -> Iterator[StoredView]:
        """Raises CheckpointMoved: another process leads."""
        with self.store.view() as view:
            mine, found = self.position.checkpoint, view.checkpoint
            if (found.build, found.seq, found.batch_id) != (mine.build, mine.seq, mine.batch_id):
                raise CheckpointMoved("the read model has moved during the comparison of a swapped table")
            yield view

    def _by_key(self, documents: Iterable[Mapping[str, Any]]) -> Documents:
        """Without stubs, which only collections with counters have."""
        name = self.table.name
        has_stubs = bool(COLLECTIONS[name].counters)
        return {
            tuple(key.values()): one
            for one in documents
            if (key := primary_key(name, one["_id"])) and (not has_stubs or row_fields(name, one))
        }

    def _difference(self, made: tuple[DocumentId, Fields] | None, stored: Mapping[str, Any] | None) -> str:
        """How a row differs from its document, "" if it does not."""
        if made is None or stored is None:
            return MISSING if stored is not None else FOREIGN if made is not None else ""
        id, fields = made
        others = [name for name, value in fields.items() if name not in stored or stored[name] != value]
        if stored["_id"] != id:  # an edge's has a time, too
            others += [name for name in self.plan.identity if name not in self.table.primary_key]
        return f"has another {', '.join(others)}" if others else ""

    def _rows_of(self, connection: Connection, documents: Documents) -> list[Row]:
        return rows_of(connection, self.table, [*documents])

    def _key(self, row: Row) -> Key:
        return tuple(row[column] for column in self.table.primary_key)

    def _go_on(self) -> None:
        """Tell how far it is. Raises ToldToStop."""
        self.health.part("source", f"comparing: {self.table.name} was swapped, {self.compared} rows so far")
        if not self.goes_on():
            raise ToldToStop("told to stop before the swapped table was compared")

    def _differs(self, key: Key, how: str) -> UnsupportedEvent:
        row = ", ".join(f"{name} {value}" for name, value in zip(self.table.primary_key, key, strict=True))
        self.health.metrics.swaps.labels("different").inc()
        return UnsupportedEvent(
            f"the watched table {self.table.name} was swapped for another one that is not the same: "
            f"the row with {row} {how}; correct MySQL if a row was lost, then run `rebuild` "
            f"(in transaction {self.swap.gtid}, which was not applied)"
        )
