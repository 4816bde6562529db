"""What a batch does to the documents of one collection, as MongoDB's write commands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from binlog_projector.batch import DocumentChange
from binlog_projector.mutations import DocumentId
from reader.read_model import COLLECTIONS

Writes = list[dict[str, Any]]
FIELD_OF = {"insert": "documents", "update": "updates", "delete": "deletes"}


def writes_of(
    name: str, changes: Mapping[DocumentId, DocumentChange], version: int, *, insert: bool
) -> dict[str, Writes]:
    """Command -> what it writes. Counters belong to the id: a removed row leaves its counters behind, and a counter
    makes a stub. With `insert`, a new row is inserted, which costs MongoDB a quarter; it fails if there is a stub."""
    counters = COLLECTIONS[name].counters
    none = dict.fromkeys(counters, 0)
    writes: dict[str, Writes] = {"insert": [], "update": [], "delete": []}
    for id, change in changes.items():
        if change.put is not None and change.new and insert:
            writes["insert"].append({"_id": id, **change.put, **none, **change.increments, "v": version})
        elif change.remove is not None and not counters:
            writes["delete"].append({"q": {"_id": id}, "limit": 1})
        elif update := _update(change, version, none):
            writes["update"].append({"q": {"_id": id}, "u": update, "upsert": True})
    if counters and (emptied := [id for id, change in changes.items() if _may_empty(change)]):
        empty = {"_id": {"$in": emptied}, "created_at": {"$exists": False}, **none}
        writes["delete"].append({"q": empty, "limit": 0})
    return {command: found for command, found in writes.items() if found}


def _update(change: DocumentChange, version: int, none: Mapping[str, int]) -> dict[str, Any] | None:
    """What an upsert has to do, or None if the batch changes nothing after all."""
    if change.put is not None:
        update: dict[str, Any] = {"$set": {**change.put, "v": version}}
    elif change.remove is not None:
        update = {"$unset": dict.fromkeys(change.remove, ""), "$set": {"v": version}}
    elif any(change.increments.values()):
        update = {"$set": {"v": version}}
    else:
        return None
    return {**update, "$inc": {**none, **change.increments}} if none else update


def _may_empty(change: DocumentChange) -> bool:
    return change.remove is not None or any(by < 0 for by in change.increments.values())


def chunks(writes: Writes, size: int) -> Iterator[Writes]:
    return (writes[at : at + size] for at in range(0, len(writes), size))
