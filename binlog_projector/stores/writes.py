"""A batch's changes of one collection, as MongoDB's write commands."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from binlog_projector.domain.batch import DocumentChange
from binlog_projector.domain.mutations import DocumentId
from binlog_projector.stores.document_ids import encode_id
from reader.read_model.declarations import COLLECTIONS

Write = dict[str, Any]
Changes = Mapping[DocumentId, DocumentChange]
Increments = tuple[tuple[str, int], ...]
Stamp = Mapping[str, int]
T = TypeVar("T")
FIELD_OF = {"insert": "documents", "update": "updates", "delete": "deletes"}
LONGEST = 4_000  # writes of at most 8 KiB in a command (a message may have 48 MB), or ids in a write


def writes_of(
    name: str, changes: Changes, version: int, *, upsert: bool
) -> Iterator[tuple[str, Sequence[Write]]]:
    """Commands with their writes. Counters belong to the id: a removed row leaves its counters behind, and a
    counter makes a stub.

    Without `upsert`, a new row is inserted, and all others must have documents. Documents whose counters
    change alike are updated together, which costs MongoDB a fraction.
    """
    none, stamp = dict.fromkeys(COLLECTIONS[name].counters, 0), stamp_of(name, version)
    writes: dict[str, list[Write]] = {"insert": [], "update": [], "delete": []}
    alike: dict[Increments, list[Any]] = defaultdict(list)
    for id, change in changes.items():
        if change.is_of_row or (upsert and change.increments):
            command, write = _write(encode_id(id), change, stamp, none, upsert=upsert)
            writes[command].append(write)
        else:
            alike[tuple(change.increments.items())].append(encode_id(id))
    writes["update"] += _together(alike, stamp)
    if none and (emptied := [encode_id(id) for id, change in changes.items() if _may_empty(change)]):
        empty = {"_id": {"$in": emptied}, "created_at": {"$exists": False}, **none}
        writes["delete"].append({"q": empty, "limit": 0})
    return ((command, some) for command, found in writes.items() for some in _chunks(found))


def document_count(update: Write) -> int:
    """The number of documents that an update must find."""
    return len(update["q"]["_id"]["$in"]) if "multi" in update else 1


def stamp_of(name: str, version: int) -> Stamp:
    """The field beside those of the row: the version that is cached with a document. Edges are not cached."""
    return {} if COLLECTIONS[name].edge else {"v": version}


def _write(
    id: Any, change: DocumentChange, stamp: Stamp, none: Mapping[str, int], *, upsert: bool
) -> tuple[str, Write]:
    if change.put is not None and change.new and not upsert:
        return "insert", {"_id": id, **change.put, **none, **change.increments, **stamp}
    if change.remove is not None and not none:
        return "delete", {"q": {"_id": id}, "limit": 1}
    update: dict[str, Any] = {"$set": {**(change.put or {}), **stamp}}
    if change.remove is not None:
        update["$unset"] = dict.fromkeys(change.remove, "")
    if none:
        update["$inc"] = {**none, **change.increments}
    unsure = upsert or change.remove is not None  # a row may have come and gone within the batch
    return "update", {"q": {"_id": id}, "u": update, "upsert": unsure}


def _together(alike: Mapping[Increments, Sequence[Any]], stamp: Stamp) -> Iterator[Write]:
    for increments, ids in alike.items():
        if increments:
            update = {"$set": stamp, "$inc": dict(increments)}
            yield from ({"q": {"_id": {"$in": some}}, "u": update, "multi": True} for some in _chunks(ids))


def _may_empty(change: DocumentChange) -> bool:
    return change.remove is not None or any(by < 0 for by in change.increments.values())


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[at : at + LONGEST] for at in range(0, len(items), LONGEST))
