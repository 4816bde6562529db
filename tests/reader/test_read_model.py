"""The read contract by itself: decoding inverts encoding, and declarations fit each other."""

from __future__ import annotations

from datetime import UTC, datetime

from reader.openapi import document
from reader.read_model.control import (
    Anchor,
    Checkpoint,
    JournalEntry,
    LeaseRecord,
    Partial,
    Position,
    Serving,
    journal_id,
)
from reader.read_model.declarations import COLLECTIONS, ENTITIES, LISTINGS
from tidemark.gtid import Gtid

GTID = Gtid("aaaaaaaa-0000-0000-0000-000000000001", 5)
CHECKPOINT = Checkpoint(3, 7, "f00d", "2026-11-23T16:00:00.000000Z", f"{GTID.source}:1-4")
PARTIALS = (Partial(GTID, 1_000, 4_000, 99),)


def test_each_document_of_the_control_collection_is_decoded_as_it_was() -> None:
    serving = Serving(3, "7-abcd")
    assert Serving.decode(serving.encode()) == serving
    for anchor in (None, Anchor(GTID, 1_000)):
        position = Position(CHECKPOINT, 2, anchor, PARTIALS)
        assert Position.decode(position.first_document()) == position
    entry = JournalEntry(CHECKPOINT, ("post:1", "user:2:posts"), PARTIALS)
    stored = {"_id": journal_id(3, 7), **entry.encode(datetime.now(UTC))}
    assert JournalEntry.decode(stored) == entry
    lease = LeaseRecord(4, {"host": "a", "pid": 1}, b"session", 2, True, {"host": "b"})
    assert LeaseRecord.decode(lease.encode()) == lease


def test_json_and_openapi_have_the_declared_fields_of_an_entity() -> None:
    schemas = document()["components"]["schemas"]
    for entity in ENTITIES.values():
        declared = entity.shown.__struct_fields__
        assert tuple(schemas[entity.shown.__name__]["properties"]) == declared
        stored = {"_id": 1, **dict.fromkeys(declared, 1)}
        assert tuple(entity.to_json(stored)) == tuple(name for name in declared if name != "author")


def test_a_list_brings_its_index_with_it() -> None:
    for listing in LISTINGS:
        collection = COLLECTIONS[listing.collection]
        assert listing.index == ((listing.by, 1), *listing.order)
        if (edge := collection.edge) is None:
            assert listing.index in collection.indexes, listing.path
        else:
            clustered = edge.columns == tuple(column for column, _ in listing.index)
            assert clustered or edge.index(listing.index) in collection.indexes, listing.path
