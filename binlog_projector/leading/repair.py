"""Repairs: the leader mends the differences that an audit found, in batches between those of the stream.

An audit must not write documents itself: it may have read a row whose event is still to come, and that
event would count the row twice. A request holds MySQL's rows as of a GTID set. The leader writes them once
its checkpoint contains that set, unless a batch beyond the set has touched the document. Later events add
to a counter and do not change its error, so the leader can correct a counter at any later position.
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
        """A batch of the repairs that can be made now, to be committed at once. None if there are none.

        A request leaves the queue before its batch is committed. So a batch that MongoDB refuses is not tried
        for ever, and the next audit finds the difference again. Raises StoreUnavailable.
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
        return batch if batch.key_count else None

    def _is_foreign(self, request: RepairRequest) -> bool:
        return request.build != self.documents.build

    def _repairs(
        self, requests: Sequence[RepairRequest], view: StoredView
    ) -> Iterator[tuple[RepairRequest, list[Mutation]]]:
        """Each request with its mutations: none if it is void (of another build, or overtaken by events).

        If only events have touched the document since, its counters can still be mended. After another repair
        they cannot.
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
