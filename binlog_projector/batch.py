"""Merging: transactions found waiting become one batch, all that it does to a document becomes one change."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from binlog_projector.changes import Anchor, RowChange, Transaction
from binlog_projector.errors import ProjectorError
from binlog_projector.mutations import DocumentId, Fields, Increment, Invalidate, Mutation, Put, Remove
from reader.read_model import ENTITIES
from tidemark.gtid import GtidSet

MAX_KEYS = 2_000  # in one APPLY; more would hold Redis up for milliseconds
MAX_ROWS = 4_000  # in one MongoDB transaction
ENTITY_OF = {entity.collection: entity for entity in ENTITIES.values()}


@dataclass
class DocumentChange:
    """What a batch does to one document: `put` all fields, `remove` them, and add to counters."""

    put: Fields | None = None
    remove: Fields | None = None
    increments: dict[str, int] = field(default_factory=lambda: defaultdict(int))


@dataclass
class Batch:
    """Whole transactions, merged. `gtid_set` is everything applied once this batch is."""

    gtid_set: GtidSet
    documents: dict[str, dict[DocumentId, DocumentChange]] = field(default_factory=dict)
    keys: dict[str, None] = field(default_factory=dict)  # an ordered set
    transactions: int = 0
    rows: int = 0
    last: Transaction | None = None

    @property
    def anchor(self) -> Anchor | None:
        return Anchor(self.last.gtid, self.last.original_commit_us) if self.last else None

    def add(self, transaction: Transaction, mutations: Iterable[Mutation], keys: Iterable[str]) -> None:
        self.gtid_set = self.gtid_set.with_gtid(transaction.gtid)
        self.transactions += 1
        self.rows += len(transaction.changes)
        self.last = transaction
        self.fold(mutations)
        self.keys.update(dict.fromkeys(keys))

    def fold(self, mutations: Iterable[Mutation]) -> None:
        """Apply mutations in order; the later one of two about the same row wins, increments add up."""
        for mutation in mutations:
            match mutation:
                case Put(collection, id, fields):
                    change = self._change(collection, id)
                    change.put, change.remove = fields, None
                case Remove(collection, id, fields):
                    change = self._change(collection, id)
                    change.put, change.remove = None, fields
                case Increment(collection, id, counter, by):
                    self._change(collection, id).increments[counter] += by

    def _change(self, collection: str, id: DocumentId) -> DocumentChange:
        return self.documents.setdefault(collection, {}).setdefault(id, DocumentChange())


def keys_of(mutations: Iterable[Mutation]) -> set[str]:
    """The cache keys that mutations make out of date."""
    return {key for mutation in mutations if (key := _key_of(mutation)) is not None}


def _key_of(mutation: Mutation) -> str | None:
    if isinstance(mutation, Invalidate):
        return mutation.key
    entity = ENTITY_OF.get(mutation.collection)
    return entity.key(int(mutation.id)) if entity else None


class TransactionQueue(Protocol):
    """Where whole transactions wait, in stream order."""

    def get(self, timeout: float) -> Transaction | None:
        """The next transaction, or None after `timeout` seconds. Raises what ended the stream."""


class Batcher:
    """Takes what is waiting, never waits for more; a transaction that does not fit begins the next batch."""

    def __init__(self, queue: TransactionQueue, project: Callable[[RowChange], Iterable[Mutation]]) -> None:
        self.queue = queue
        self.project = project
        self.held: Transaction | None = None
        self.failed: ProjectorError | None = None

    def next(self, gtid_set: GtidSet, timeout: float) -> Batch | None:
        """A batch that follows `gtid_set`, or None if nothing came within `timeout` seconds."""
        batch = Batch(gtid_set)
        deadline = time.monotonic() + timeout
        while batch.rows < MAX_ROWS:
            patience = 0.0 if batch.transactions else max(0.0, deadline - time.monotonic())
            transaction = self._take(patience, begun=batch.transactions > 0)
            if transaction is None:
                break
            mutations = [mutation for change in transaction.changes for mutation in self.project(change)]
            keys = keys_of(mutations)
            if batch.transactions and len(batch.keys.keys() | keys) > MAX_KEYS:
                self.held = transaction
                break
            batch.add(transaction, mutations, sorted(keys))
        return batch if batch.transactions else None

    def _take(self, patience: float, *, begun: bool) -> Transaction | None:
        """What ends the stream is raised only after the transactions before it are in a batch."""
        if self.failed is not None and not begun:
            raise self.failed
        if self.held is not None:
            held, self.held = self.held, None
            return held
        try:
            return None if self.failed else self.queue.get(patience)
        except ProjectorError as error:
            if not begun:
                raise
            self.failed = error
            return None
