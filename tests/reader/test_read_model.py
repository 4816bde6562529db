"""The read contract by itself: decoding inverts encoding, and declarations fit each other."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from reader.openapi import document
from reader.read_model import announcements
from reader.read_model.announcements import MAX_MESSAGE_BYTES, Announcement
from reader.read_model.cached_values import Watermark
from reader.read_model.control import (
    Anchor,
    Checkpoint,
    JournalEntry,
    Partial,
    Position,
    Serving,
    journal_id,
)
from reader.read_model.declarations import COLLECTIONS, ENTITIES, LISTINGS
from reader.read_model.leases import LeaseRecord, Tenure
from tidemark.gtid import Gtid

GTID = Gtid("aaaaaaaa-0000-0000-0000-000000000001", 5)
PARTIALS = (Partial(GTID, 1_000, 4_000, 99),)
CHECKPOINT = Checkpoint(3, 7, "f00d", "2026-11-23T16:00:00.000000Z", f"{GTID.source}:1-4", open=True)
WATERMARK = replace(CHECKPOINT, cluster_time="1764518400.3").watermark("7-abcd")


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


def test_a_tenure_counts_only_under_its_own_epoch() -> None:
    """A holder of an older release takes the lease and leaves the tenure of the one before."""
    at = datetime(2026, 11, 30, 21)
    tenure = {"epoch": 4, "taken_at": at, "renewed_at": at, "said": {"redis": {"state": "ok"}}}
    stored = LeaseRecord(4, {"host": "a", "pid": 1}, b"session").encode() | {"tenure": tenure}
    assert LeaseRecord.decode(stored).tenure == Tenure(at, at, {"redis": {"state": "ok"}})
    assert LeaseRecord.decode(stored | {"epoch": 5}).tenure is None


def test_a_watermark_and_its_announcements_are_decoded_as_they_were() -> None:
    settled = replace(WATERMARK, cluster_time="", open=False)
    for mark in (WATERMARK, settled):
        assert Watermark.decode(mark.encode()) == Watermark.decode(mark.encode().encode()) == mark
        assert mark.encode().startswith(mark.lineage)
        for keys, counted in ((), ()), (("post:1", "post:1:likes"), ("user:2",)), ((), ("user:2",)):
            messages = announcements.encode("lineage|", mark, keys, counted)
            assert Announcement("lineage|", mark, keys, counted) == one_of(messages)


def test_a_watermark_of_the_release_before_is_no_watermark() -> None:
    former = f"{WATERMARK.lineage}{WATERMARK.as_of}|{WATERMARK.gtid_set}"
    with pytest.raises(ValueError, match="not enough values"):
        Watermark.decode(former)


def test_a_large_batch_has_several_small_messages() -> None:
    keys = tuple(f"post:{2**53 - at}" for at in range(5_000))
    counted = tuple(f"user:{2**53 - at}" for at in range(5_000))
    messages = announcements.encode("lineage|", WATERMARK, keys, counted)
    found = [announcements.decode(message) for message in messages]
    assert max(map(len, messages)) <= MAX_MESSAGE_BYTES < 16 * 1024
    assert len(messages) <= 1 + sum(map(len, messages)) // (MAX_MESSAGE_BYTES - 1_000)
    assert sum((one.keys for one in found), ()) == keys
    assert sum((one.counted for one in found), ()) == counted
    assert {one.found for one in found} == {"lineage|"}
    assert [one.to for one in found] == [*[None] * (len(found) - 1), WATERMARK]


def one_of(messages: list[bytes]) -> Announcement:
    (message,) = messages
    return announcements.decode(message)


def test_json_and_openapi_have_the_declared_fields_of_an_entity() -> None:
    schemas = document()["components"]["schemas"]
    for entity in ENTITIES.values():
        declared = entity.shown.__struct_fields__
        assert tuple(schemas[entity.shown.__name__]["properties"]) == declared
        stored = {"_id": 1, **dict.fromkeys(declared, 1)}
        assert tuple(entity.to_json(stored)) == tuple(
            name for name in declared if name not in ("author", "viewer")
        )


def test_a_list_brings_its_index_with_it() -> None:
    for listing in LISTINGS:
        collection = COLLECTIONS[listing.collection]
        assert listing.index == ((listing.by, 1), *listing.order)
        if (edge := collection.edge) is None:
            assert listing.index in collection.indexes, listing.path
        else:
            clustered = edge.columns == tuple(column for column, _ in listing.index)
            assert clustered or edge.index(listing.index) in collection.indexes, listing.path
