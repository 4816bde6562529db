"""Repairs: what an audit found wrong, mended by the leader in batches of the stream.

An audit must not write documents itself: a row that it read may be in an event that is still to come, which would then
count twice. The leader writes what MySQL said as of a GTID set once its checkpoint contains that set, and only if no
batch that goes beyond the set has touched the document: then that word is still the right one at this very position.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import structlog

from binlog_projector.audit_store import RepairQueue, RepairRequest, View
from binlog_projector.batch import Batch
from binlog_projector.document_store import DocumentStore, store_errors
from binlog_projector.metrics import ProjectorMetrics
from binlog_projector.mutations import Invalidate
from binlog_projector.truth import is_mendable, mend
from tidemark.gtid import GtidSet

LOOK_SECONDS = 0.1
MAX_ENTRIES = 2_000  # of the journal: the stream must not wait for a request that is too old
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
        view = View(self.documents.database, None, self.documents.position.checkpoint)
        requests = [one for one in self.queue.waiting() if self._is_foreign(one) or view.contains(one.read_at)]
        if not requests:
            return None
        self.queue.remove(requests)
        with store_errors("what to repair"):
            return self._batch(self._still_true(requests, view), view)

    def _is_foreign(self, request: RepairRequest) -> bool:
        return request.build != self.documents.build

    def _still_true(self, requests: Sequence[RepairRequest], view: View) -> list[RepairRequest]:
        """Without those of other builds, and those whose document was touched since MySQL was read."""
        touched = {
            read_at: view.touched_since(GtidSet.parse(read_at), MAX_ENTRIES)
            for read_at in {one.read_at for one in requests}
        }
        kept = [
            one for one in requests if not self._is_foreign(one) and not touched[one.read_at].any_of(one.touched_by)
        ]
        self._count("void", len(requests) - len(kept))
        return kept

    def _batch(self, requests: Sequence[RepairRequest], view: View) -> Batch | None:
        """What makes the documents right, with all cache keys that say something of them."""
        batch, stored = Batch(view.gtid_set), _stored(requests, view)
        for one in requests:
            found = stored.get(one.name)
            if one.truth and is_mendable(one.truth, found):
                mutations = list(mend(one.truth, found))
                batch.fold(mutations)
                batch.keys.update(dict.fromkeys(each.key for each in mutations if isinstance(each, Invalidate)))
            batch.keys.update(dict.fromkeys((*one.keys, *sorted(one.touched_by))))
            self._count("done", 1)
        return batch if requests else None

    def _count(self, outcome: str, requests: int) -> None:
        if requests:
            self.metrics.repairs.labels(outcome).inc(requests)
            log.info("repairs", outcome=outcome, requests=requests)


def _stored(requests: Sequence[RepairRequest], view: View) -> dict[str, Any]:
    """Request's name -> the document as it is."""
    truths = {one.name: one.truth for one in requests if one.truth}
    found = {
        name: view.documents(name, [truth.id for truth in truths.values() if truth.collection == name])
        for name in {truth.collection for truth in truths.values()}
    }
    return {name: found[truth.collection].get(truth.id) for name, truth in truths.items()}
