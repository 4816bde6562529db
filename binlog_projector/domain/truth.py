"""What MySQL says of one document, how a stored document differs from it, and the mutations that mend it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from binlog_projector.domain.batch import ENTITY_OF
from binlog_projector.domain.mutations import DocumentId, Fields, Increment, Invalidate, Mutation, Put, Remove
from binlog_projector.domain.projections import primary_key
from reader.read_model.declarations import COLLECTIONS, LISTINGS

Stored = Mapping[str, Any] | None  # a document as MongoDB has it
MISSING, PHANTOM, STALE = "missing", "phantom", "stale"


@dataclass(frozen=True)
class Truth:
    """A document as it must be: its projected row (None: there is no row) and its counters."""

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
    """How `stored` differs: missing, phantom or stale; None if it does not. Fields of no projection do not count."""
    if stored is None:
        return MISSING if truth.exists else None
    if not truth.exists or (truth.fields is None and row_fields(truth.collection, stored)):
        return PHANTOM
    same = all(name in stored and stored[name] == value for name, value in truth.document.items())
    return None if same else STALE


def row_fields(collection: str, stored: Mapping[str, Any]) -> dict[str, Any]:
    """What a stored document has of a row: all but its id, its version and its counters."""
    others = {"_id", "v", *COLLECTIONS[collection].counters}
    return {name: value for name, value in stored.items() if name not in others}


def are_counted(truth: Truth, *counters: Stored) -> bool:
    """Counters must be numbers to be counted on; nothing else ever is, and the stream could not go on from there."""
    return all(type((each or {}).get(name, 0)) is int for each in counters for name in truth.counters)


def recount(truth: Truth, counters: Mapping[str, int]) -> Iterator[Increment]:
    """What makes counters right that were `counters` where `truth` was: then, and after any number of increments."""
    for name, count in truth.counters.items():
        if count != counters.get(name, 0):
            yield Increment(truth.collection, truth.id, name, count - counters.get(name, 0))


def mend(truth: Truth, stored: Stored) -> Iterator[Mutation]:
    """The mutations that make `stored` what it must be, also when it is that already: then only its version and what
    is cached of it are renewed."""
    found = row_fields(truth.collection, stored or {})
    if truth.fields is not None:
        yield Put(truth.collection, truth.id, truth.fields)
    else:
        yield Remove(truth.collection, truth.id, found)
    yield from recount(truth, stored or {})
    key = primary_key(truth.collection, truth.id) or {}
    for listing in LISTINGS:
        if listing.collection == truth.collection:
            columns = ({**fields, **key} for fields in (found, truth.fields or {}))
            parents = {each[listing.by] for each in columns if isinstance(each.get(listing.by), int)}
            yield from (Invalidate(listing.key(parent)) for parent in parents)


def touched_by(collection: str, id: DocumentId) -> frozenset[str]:
    """The cache keys of which every batch that changes this document has at least one in its journal entry.

    An entity has a key of its own. An edge is in lists, and which ones is in its primary key.
    """
    key = primary_key(collection, id)
    if key is None:
        return frozenset()
    if collection in ENTITY_OF:
        return frozenset(map(ENTITY_OF[collection].key, key.values()))
    return frozenset(listing.key(key[listing.by]) for listing in LISTINGS if listing.collection == collection)
