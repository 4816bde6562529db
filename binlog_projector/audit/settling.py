"""Settling suspects: prove at one GTID set that a document differs from MySQL, and have it repaired."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from binlog_projector.audit.report import Difference
from binlog_projector.audit.source import SourceView
from binlog_projector.domain.mutations import DocumentId
from binlog_projector.domain.truth import Stored, Truth, difference, row_fields, touched_by
from binlog_projector.errors import ProjectorBehind
from binlog_projector.mysql.consistent_snapshot import consistent_snapshot
from binlog_projector.mysql.source import MySqlSource
from binlog_projector.stores.audit_store import AuditStore, RepairQueue, RepairRequest, StoredView
from tidemark.gtid import GtidSet

PAUSES_SECONDS = (0.2, 0.6)  # before another look at a suspect: a document that is only late gets right
ATTEMPTS = 10  # to see a document untouched between two reads
REPAIR_ROUNDS = 8
PATIENCE_SECONDS = 30.0
POLL_SECONDS = 0.02

Suspect = tuple[str, DocumentId]  # collection and id
Compared = tuple[Truth, Stored, str | None]  # and how they differ


@dataclass(frozen=True)
class Settled:
    """A document that is proved to differ from MySQL as of `read_at`."""

    kind: str
    truth: Truth
    stored: Stored
    read_at: str
    build: int
    seq: int

    @property
    def suspect(self) -> Suspect:
        return self.truth.collection, self.truth.id

    def request(self) -> RepairRequest:
        counters = {name: (self.stored or {}).get(name, 0) for name in self.truth.counters}
        return RepairRequest(self.build, self.read_at, self.truth, (), self.seq, counters)

    def report(self) -> Difference:
        """Names fields, and not their values: reports go to logs."""
        stored, wanted = self.stored or {}, self.truth.document
        names = wanted.keys() | row_fields(self.truth.collection, stored).keys()
        wrong = sorted(name for name in names if stored.get(name) != wanted.get(name))
        return Difference("document", self.kind, f"{self.truth.collection}:{self.truth.id}", tuple(wrong))


class Settling:
    """Looks again until certain. Raises Retry: SourceUnavailable, StoreUnavailable, ProjectorBehind."""

    def __init__(
        self, source: MySqlSource, store: AuditStore, queue: RepairQueue | None, stopping: threading.Event
    ) -> None:
        self.source = source
        self.store = store
        self.queue = queue
        self.stopping = stopping

    def settle(self, suspects: Sequence[Suspect]) -> tuple[list[Settled], Sequence[Suspect]]:
        """The suspects that are proved to differ, and those that a batch touched at every attempt."""
        found: list[Settled] = []
        suspects = self._persistent(suspects)
        for _ in range(ATTEMPTS):
            if not suspects:
                break
            settled, suspects = self._confirm(suspects)
            found += settled
        return found, suspects

    def repair(self, found: Sequence[Settled]) -> Sequence[Suspect]:
        """Ask for repairs until nothing differs. Returns the suspects that still differ or are unsettled."""
        unsettled: Sequence[Suspect] = []
        for _ in range(REPAIR_ROUNDS):
            self.request([one.request() for one in found])
            found, unsettled = self.settle([*(one.suspect for one in found), *unsettled])
            if not found:
                break
        return [*(one.suspect for one in found), *unsettled]

    def request(self, requests: Sequence[RepairRequest]) -> None:
        """Queue the requests, wait until the leader has taken them, and give it a moment to commit them."""
        assert self.queue is not None
        self.queue.put(requests)
        deadline, names = time.monotonic() + PATIENCE_SECONDS, {one.name for one in requests}
        while names & {one.name for one in self.queue.waiting()}:
            if time.monotonic() > deadline:
                raise ProjectorBehind(
                    f"no projector has carried out {len(names)} repairs in {PATIENCE_SECONDS:.0f} s"
                )
            self.stopping.wait(POLL_SECONDS)
        self.stopping.wait(PAUSES_SECONDS[0])

    @contextlib.contextmanager
    def view_containing(self, gtid_set: GtidSet) -> Iterator[StoredView]:
        """The read model as of a moment at which its checkpoint contains `gtid_set`."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            with self.store.view() as view:
                if view.gtid_set >= gtid_set:
                    yield view
                    return
            if time.monotonic() > deadline:
                missing = gtid_set - view.gtid_set
                raise ProjectorBehind(
                    f"the read model lacks {missing} after {PATIENCE_SECONDS:.0f} s: see its projector"
                )
            self.stopping.wait(POLL_SECONDS)

    def _persistent(self, suspects: Sequence[Suspect]) -> Sequence[Suspect]:
        for seconds in PAUSES_SECONDS:
            if not suspects:
                break
            self.stopping.wait(seconds)
            with self.source.session() as connection, self.store.view() as view:
                compared = _compare(truths_of(suspects, SourceView(connection)), view)
                suspects = [(truth.collection, truth.id) for truth, _, kind in compared if kind]
        return suspects

    def _confirm(self, suspects: Sequence[Suspect]) -> tuple[list[Settled], list[Suspect]]:
        """Read MySQL at exactly one GTID set, and MongoDB once it contains that set.

        A document counts only if no batch has touched it in between: a touch can hide a difference, too.
        """
        with consistent_snapshot(self.source) as snapshot:
            truths = truths_of(suspects, SourceView(snapshot.connection))
        settled, touched = [], []
        with self.view_containing(snapshot.executed) as view:
            since = view.touched_since(snapshot.executed)
            for truth, stored, kind in _compare(truths, view):
                if since.any_of(touched_by(truth.collection, truth.id)):
                    touched.append((truth.collection, truth.id))
                elif kind:
                    settled.append(
                        Settled(
                            kind,
                            truth,
                            stored,
                            str(snapshot.executed),
                            view.checkpoint.build,
                            view.checkpoint.seq,
                        )
                    )
        return settled, touched


def truths_of(suspects: Sequence[Suspect], source: SourceView) -> list[Truth]:
    ids: dict[str, list[DocumentId]] = {}
    for name, id in suspects:
        ids.setdefault(name, []).append(id)
    return [truth for name in ids for truth in source.truths(name, ids[name]).values()]


def _compare(truths: Sequence[Truth], view: StoredView) -> Iterator[Compared]:
    for name in {truth.collection for truth in truths}:
        wanted = [truth for truth in truths if truth.collection == name]
        stored = view.documents(name, [truth.id for truth in wanted])
        for truth in wanted:
            yield truth, stored.get(truth.id), difference(truth, stored.get(truth.id))
