"""The values that a batch gives to cached keys, read back from MongoDB as the batch left them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from binlog_projector.stores.document_store import DocumentStore
from binlog_projector.stores.mongodb import BsonDocument
from binlog_projector.stores.read_back import Documents, Listed
from reader.read_model.cached_values import (
    MAX_VALUE_BYTES,
    encode_absent,
    encode_cursor,
    encode_entity,
    encode_list,
    entity_of,
    list_of,
)
from reader.read_model.control import JournalEntry
from reader.read_model.declarations import COLLECTIONS
from reader.read_model.entities import Entity, is_present
from reader.read_model.scans import CachedList

MAX_ENTITIES = 2_000  # in one APPLY, which then blocks Redis for some 10 ms
MAX_LISTS = 32  # each takes a read of MongoDB
MAX_NEW = 100


class Values(NamedTuple):
    """Key -> new bytes. Keys that are `new` become entries even if they are none yet."""

    bytes: dict[str, bytes]
    new: frozenset[str] = frozenset()


def values_of(documents: DocumentStore, entry: JournalEntry, present: Collection[str]) -> Values:
    """The bytes of a batch's `present` keys, as far as they are known. Entries without bytes are deleted.

    Who reads a list needs its new items next. So items that the batch made, or changed, become entries, too.
    """
    entities = [*islice(_entities(present), MAX_ENTITIES)]
    lists = [*islice(_lists(present), MAX_LISTS)]
    others = [*islice(_entities(set(entry.keys).difference(present)), MAX_NEW)] if lists else []
    if not entities and not lists:
        return Values({})
    found = documents.read_back(entry.checkpoint, _by_collection(entities + others), lists)
    items = {
        (kind.collection, document[kind.item_id])
        for (kind, _), listed in found.lists.items()
        for document in listed
    }
    new = [(entity, id) for entity, id in others if (entity.collection, id) in items]
    seq = entry.checkpoint.seq
    values = {kind.key(value): _list(kind, seq, listed) for (kind, value), listed in found.lists.items()}
    values |= _encoded(found.documents, entities + new, seq)
    return Values(
        {key: value for key, value in values.items() if len(value) <= MAX_VALUE_BYTES},
        frozenset(entity.key(id) for entity, id in new),
    )


def _entities(keys: Iterable[str]) -> Iterable[tuple[Entity, int]]:
    return filter(None, map(entity_of, keys))


def _lists(keys: Iterable[str]) -> Iterable[Listed]:
    """Without lists of edges: these have up to 5,000 ids, or change at each like."""
    found = filter(None, map(list_of, keys))
    return (one for one in found if COLLECTIONS[one[0].collection].edge is None)


def _by_collection(entities: Iterable[tuple[Entity, int]]) -> dict[str, list[int]]:
    ids: dict[str, list[int]] = defaultdict(list)
    for entity, id in entities:
        ids[entity.collection].append(id)
    return ids


def _encoded(documents: Documents, entities: Iterable[tuple[Entity, int]], seq: int) -> dict[str, bytes]:
    values = {}
    for entity, id in entities:
        known: Mapping[int, BsonDocument | None] = documents.get(entity.collection, {})
        if id in known:
            document = known[id] or {}
            there = is_present(document)
            values[entity.key(id)] = encode_entity(entity, document) if there else encode_absent(seq)
    return values


def _list(kind: CachedList, seq: int, found: Sequence[BsonDocument]) -> bytes:
    """As a reader encodes it. `found`: one document more if there are more."""
    shown = found[: kind.limit]
    cursor = encode_cursor([shown[-1][name] for name, _ in kind.order]) if len(found) > len(shown) else None
    return encode_list(kind, seq, [document[kind.item_id] for document in shown], cursor)
