"""The truth of a document by MySQL, its difference from the stored one, and the mutations that mend it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from binlog_projector.domain.batch import ENTITY_OF
from binlog_projector.domain.mutations import DocumentId, Fields, Increment, Invalidate, Mutation, Put, Remove
from binlog_projector.domain.projections import primary_key
from reader.read_model.declarations import COLLECTIONS, LISTS

Stored = Mapping[str, Any] | None  # a document as MongoDB has it
MISSING, PHANTOM, STALE = "missing", "phantom", "stale"


@dataclass(frozen=True)
class Truth:
    """The right document: its projected row (None: there is no row) and its counters."""

    collection: str
    id: DocumentId
    fields: Fields | None
    counters: Mapping[str, int]

    @property
    def exists(self) -> bool:
        """Whether there must be a document: for a row, or as a stub for counters that are not zero."""
        return self.fields is not None or any(self.counters.values())

    @property
    def document(self) -> dict[str, Any]:
        return {"_id": self.id, **(self.fields or {}), **self.counters}


def difference(truth: Truth, stored: Stored) -> str | None:
    """Missing, phantom or stale, or None if `stored` is right. Fields of no projection do not count."""
    if stored is None:
        return MISSING if truth.exists else None
    if not truth.exists or (truth.fields is None and row_fields(truth.collection, stored)):
        return PHANTOM
    same = all(name in stored and stored[name] == value for name, value in truth.document.items())
    return None if same else STALE


def row_fields(collection: str, stored: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that a stored document has from its row: all but id, version and counters."""
    others = {"_id", "v", *COLLECTIONS[collection].counters}
    return {name: value for name, value in stored.items() if name not in others}


def are_counted(truth: Truth, *counters: Stored) -> bool:
    """Whether all counters are numbers. The stream can only add to numbers, so others cannot be mended."""
    return all(type((each or {}).get(name, 0)) is int for each in counters for name in truth.counters)


def recount(truth: Truth, counters: Mapping[str, int]) -> Iterator[Increment]:
    """The increments that correct `counters`, read when `truth` was. Later increments do not matter."""
    for name, count in truth.counters.items():
        if count != counters.get(name, 0):
            yield Increment(truth.collection, truth.id, name, count - counters.get(name, 0))


def mend(truth: Truth, stored: Stored) -> Iterator[Mutation]:
    """The mutations that make `stored` right. A right one gets a new version, and new cached entries."""
    found = row_fields(truth.collection, stored or {})
    if truth.fields is not None:
        yield Put(truth.collection, truth.id, truth.fields)
    else:
        yield Remove(truth.collection, truth.id, found)
    yield from recount(truth, stored or {})
    key = primary_key(truth.collection, truth.id) or {}
    columns = [{**fields, **key} for fields in (found, truth.fields or {})]
    for one in LISTS:
        if one.collection == truth.collection:
            yield from map(Invalidate, {name for each in columns for name in one.keys_of(each)})


def touched_by(collection: str, id: DocumentId) -> frozenset[str]:
    """Cache keys: a batch that changes this document has at least one of them in its journal entry.

    An entity has its own key. An edge's primary key names the lists that the edge is in.
    """
    key = primary_key(collection, id)
    if key is None:
        return frozenset()
    if collection in ENTITY_OF:
        return frozenset(map(ENTITY_OF[collection].key, key.values()))
    return frozenset(name for one in LISTS if one.collection == collection for name in one.keys_of(key))
