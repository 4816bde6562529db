"""Repairs: what an audit found wrong, mended by the leader in batches of the stream.

An audit must not write documents itself: a row that it read may be in an event that is still to come, which would then
count twice. The leader writes what MySQL said as of a GTID set once its checkpoint contains that set, and only if no
batch that goes beyond the set has touched the document: then that word is still the right one at this very position.
How far a counter is off stays the same whatever the stream adds to it, so that can be put right at any later position.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import structlog

from binlog_projector.domain.batch import Batch
from binlog_projector.domain.mutations import Invalidate, Mutation
from binlog_projector.domain.truth import are_counted, mend, recount
from binlog_projector.metrics import ProjectorMetrics
from binlog_projector.stores.audit_store import MAX_RECENT, RepairQueue, RepairRequest, StoredView
from binlog_projector.stores.document_store import DocumentStore
from binlog_projector.stores.mongodb import store_errors
from tidemark.gtid import GtidSet

LOOK_SECONDS = 0.5
log = structlog.get_logger()


class Repairs:
    """The leader's side of the queue, over an open build."""

    def __init__(self, documents: DocumentStore, metrics: ProjectorMetrics) -> None:
        self.documents = documents
        self.queue = RepairQueue(documents.database.client)
        self.metrics = metrics
        self.look_at = 0.0

    def next(self) -> Batch | None:
        """What can be repaired now, as a batch to be committed at once; mostly there is nothing.

        To be called by whoever commits batches, between two of them. A request leaves the queue before its batch is
        committed: one that MongoDB refuses is not tried for ever, the next audit finds the difference again. Raises
        StoreUnavailable.
        """
        if time.monotonic() < self.look_at:
            return None
        self.look_at = time.monotonic() + LOOK_SECONDS
        view = StoredView(self.documents.database, None, self.documents.position.checkpoint)
        requests = [
            one for one in self.queue.waiting() if self._is_foreign(one) or view.contains(one.read_at)
        ]
        if not requests:
            return None
        self.queue.remove(requests)
        batch = Batch(view.gtid_set)
        with store_errors("what to repair"):
            for request, mutations in self._repairs(requests, view):
                self._count("done" if mutations else "void", request.name)
                batch.fold(mutations)
                if mutations:
                    batch.fold(map(Invalidate, sorted(request.touched_by)))
        return batch if batch.keys else None

    def _is_foreign(self, request: RepairRequest) -> bool:
        return request.build != self.documents.build

    def _repairs(
        self, requests: Sequence[RepairRequest], view: StoredView
    ) -> Iterator[tuple[RepairRequest, list[Mutation]]]:
        """Each request with what carries it out: nothing, if it is of another build or was overtaken by events.

        One whose document was touched since can still mend counters: an event adds to them, right or wrong. Only
        another repair makes that void.
        """
        touched_since = cache(lambda read_at: view.touched_since(GtidSet.parse(read_at), MAX_RECENT))
        repaired_since = cache(view.repaired_since)
        stored = _stored(requests, view)
        for one in requests:
            if one.truth is None:
                yield one, [Invalidate(key) for key in one.keys]
            elif self._is_foreign(one) or not are_counted(one.truth, stored[one.name], one.counters):
                yield one, []
            elif not touched_since(one.read_at).any_of(one.touched_by):
                yield one, list(mend(one.truth, stored[one.name]))
            elif one.seq and not repaired_since(one.seq).any_of(one.touched_by):
                yield one, list(recount(one.truth, one.counters))
            else:
                yield one, []

    def _count(self, outcome: str, name: str) -> None:
        self.metrics.repairs.labels(outcome).inc()
        log.info("repair", outcome=outcome, name=name)


def _stored(requests: Sequence[RepairRequest], view: StoredView) -> dict[str, Any]:
    """Request's name -> the document as it is."""
    truths = {one.name: one.truth for one in requests if one.truth}
    found = {
        name: view.documents(name, [truth.id for truth in truths.values() if truth.collection == name])
        for name in {truth.collection for truth in truths.values()}
    }
    return {name: found[truth.collection].get(truth.id) for name, truth in truths.items()}
