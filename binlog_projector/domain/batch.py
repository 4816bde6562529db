"""Merging: waiting transactions become one batch, and its mutations of a document become one change."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property

import msgspec

from binlog_projector.domain.changes import Transaction
from binlog_projector.domain.mutations import DocumentId, Fields, Increment, Invalidate, Mutation, Put
from reader.read_model.control import Anchor, Partial
from reader.read_model.declarations import ENTITIES
from tidemark.gtid import GrowingGtidSet, GtidSet

ENTITY_OF = {entity.collection: entity for entity in ENTITIES.values()}


class DocumentChange(msgspec.Struct, gc=False):
    """A batch's change of one document: `put` all fields, `remove` them, and add to counters.

    `new`: the row did not exist before the batch.
    """

    put: Fields | None = None
    remove: Fields | None = None
    new: bool = False
    increments: dict[str, int] = msgspec.field(default_factory=dict)

    def row(self, put: Fields | None, remove: Fields | None, *, new: bool) -> None:
        """The last change of a row wins. The first one knows whether the row is new."""
        if not self.is_of_row:
            self.new = new
        self.put, self.remove = put, remove

    def add(self, counter: str, by: int) -> None:
        total = self.increments.pop(counter, 0) + by
        if total:
            self.increments[counter] = total

    @property
    def is_of_row(self) -> bool:
        return self.put is not None or self.remove is not None


class Batch:
    """Merged transactions. The first and the last may be partial."""

    def __init__(self, start: GtidSet) -> None:
        self.documents: dict[str, dict[DocumentId, DocumentChange]] = defaultdict(dict)
        self.invalidated: dict[str, None] = {}  # an ordered set
        self.entities = 0  # documents that are cached under a key of their own
        self.transactions = 0
        self.rows = 0
        self.size = 0  # bytes of the binlog
        self.last: Transaction | None = None  # the last that is whole
        self.partial: Partial | None = None  # progress of the last that came in parts
        self.gtids = GrowingGtidSet(start)

    @property
    def gtid_set(self) -> GtidSet:
        """Everything applied once this batch is applied: whole transactions only."""
        return self.gtids.current()

    @property
    def anchor(self) -> Anchor | None:
        return Anchor(self.last.gtid, self.last.original_commit_us) if self.last else None

    @property
    def key_count(self) -> int:
        return len(self.invalidated) + self.entities

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The cache keys that the batch makes out of date, but for `counted`. Read it only at the end."""
        return tuple(dict.fromkeys((*self._entity_keys(of_rows=True), *self.invalidated)))

    @cached_property
    def counted(self) -> tuple[str, ...]:
        """Keys of entities of which only counters change."""
        return tuple(key for key in self._entity_keys(of_rows=False) if key not in self.invalidated)

    def add(self, transaction: Transaction, mutations: Iterable[Mutation]) -> None:
        self.rows += len(transaction.changes)
        self.size += transaction.size
        self.fold(mutations)
        if transaction.partial is not None:
            self.partial = transaction.partial
            return
        self.gtids.add(transaction.gtid)
        self.transactions += 1
        self.last = transaction

    def fold(self, mutations: Iterable[Mutation]) -> None:
        """Apply mutations in order; increments add up."""
        for mutation in mutations:
            if isinstance(mutation, Invalidate):
                self.invalidated[mutation.key] = None
                continue
            change = self._change(mutation.collection, mutation.id)
            if isinstance(mutation, Increment):
                change.add(mutation.counter, mutation.by)
            elif isinstance(mutation, Put):
                change.row(mutation.fields, None, new=mutation.new)
            else:
                change.row(None, mutation.fields, new=False)

    def _entity_keys(self, *, of_rows: bool) -> Iterator[str]:
        for name, entity in ENTITY_OF.items():
            for id, change in self.documents.get(name, {}).items():
                if isinstance(id, int) and change.is_of_row == of_rows:
                    yield entity.key(id)

    def _change(self, collection: str, id: DocumentId) -> DocumentChange:
        changes = self.documents[collection]
        change = changes.get(id)
        if change is None:
            change = changes[id] = DocumentChange()
            self.entities += collection in ENTITY_OF
        return change
