"""Waiting batches: the stream's thread folds transactions into the last, the loop's thread takes the first.

Transactions that arrive during a commit form the next batch. A batch that is not full is taken at least
`interval_seconds` after the one before, so that writes at a steady rate share commits. After a pause of that
length a batch is taken at once. When too much waits, the stream's thread waits, too.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from binlog_projector.binlog.parts import MAX_BYTES, MAX_ROWS, extent
from binlog_projector.domain.batch import Batch
from binlog_projector.domain.changes import RowChange, Transaction
from binlog_projector.domain.mutations import Mutation
from binlog_projector.errors import UnprojectableRow
from tidemark.gtid import GtidSet

MAX_KEYS = 10_000  # in one APPLY; most are not cached, and cost Redis next to nothing
WAITING_BYTES = 2 * MAX_BYTES
WAITING_ROWS = 4 * MAX_ROWS  # many short rows have few bytes, and each row takes memory


class Batcher:
    """Transactions, or parts of one, go in one by one, and batches come out."""

    def __init__(
        self,
        start: GtidSet,
        project: Callable[[RowChange], Iterable[Mutation]],
        interval_seconds: float = 0.0,
    ) -> None:
        self.project = project
        self.interval_seconds = interval_seconds
        self.next_at = 0.0  # when the next batch may be taken, by the monotonic clock
        self.gtid_set = start
        self.waiting: deque[Batch] = deque()
        self.size = self.rows = 0  # of all that waits
        self.failed: Exception | None = None
        self.closed = False
        self.changed = threading.Condition()

    def add(self, transaction: Transaction) -> None:
        """Called by the stream's thread. Returns once there is room for more."""
        mutations = self._mutations(transaction)
        with self.changed:
            if self.closed:
                return
            batches = len(self.waiting)
            self._fitting(transaction, len(mutations)).add(transaction, mutations)
            self.size += transaction.size
            self.rows += len(transaction.changes)
            if len(self.waiting) > batches:
                self.changed.notify_all()
            if not self._has_room():
                self.changed.wait_for(lambda: self._has_room() or self.closed)

    def fail(self, error: Exception) -> None:
        """The stream has ended: `take` returns the batches that wait, then raises this error."""
        with self.changed:
            self.failed = error
            self.changed.notify_all()

    def take(self, timeout: float) -> Batch | None:
        """The first batch, or None if none came within `timeout` seconds. Raises the error of the stream.

        The batch may grow until the interval is over, or until it is full and the next one begins.
        """
        with self.changed:
            if self.changed.wait_for(lambda: self.waiting or self.failed, timeout) and not self.failed:
                rest = self.next_at - time.monotonic()
                self.changed.wait_for(lambda: len(self.waiting) > 1 or self.failed, rest)
            if self.waiting:
                self.next_at = time.monotonic() + self.interval_seconds
                batch = self.waiting.popleft()
                self.size -= batch.size
                self.rows -= batch.rows
                self.gtid_set = batch.gtid_set
                self.changed.notify_all()
                return batch
        if self.failed:
            raise self.failed
        return None

    def close(self) -> None:
        """Nobody takes batches any more, so the stream's thread need not wait."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def _has_room(self) -> bool:
        return self.size < WAITING_BYTES and self.rows < WAITING_ROWS

    def _mutations(self, transaction: Transaction) -> list[Mutation]:
        try:
            return [mutation for change in transaction.changes for mutation in self.project(change)]
        except UnprojectableRow as error:
            where = f"in transaction {transaction.gtid} at {transaction.position}"
            raise UnprojectableRow(f"{error} ({where}; {extent(transaction.rows_before)})") from error

    def _fitting(self, transaction: Transaction, keys: int) -> Batch:
        """The last batch if it has room, else a new one."""
        last = self.waiting[-1] if self.waiting else None
        if last is not None and _fits(last, transaction, keys):
            return last
        following = Batch(last.gtid_set if last is not None else self.gtid_set)
        self.waiting.append(following)
        return following


def _fits(batch: Batch, transaction: Transaction, keys: int) -> bool:
    return (
        batch.rows + len(transaction.changes) <= MAX_ROWS
        and batch.key_count + keys <= MAX_KEYS
        and batch.size + transaction.size <= MAX_BYTES
    )
