"""Reads entities and lists back as a batch left them. The cache never gets anything newer than its watermark.

All reads are commands at one cluster time. A snapshot session of PyMongo would choose the time itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from bson import Timestamp
from bson.int64 import Int64
from pymongo.database import Database
from pymongo.errors import OperationFailure

from binlog_projector.stores.mongodb import BsonDocument
from reader.read_model.control import CONTROL, Checkpoint, checkpoint_id, journal_id
from reader.read_model.declarations import COLLECTIONS
from reader.read_model.entities import is_present
from reader.read_model.scans import CachedList

# MongoDB's errors for a time that is ahead of its clock (after a restore), too old, or before the collection
# got its present indexes.
NO_SUCH_MOMENT = (72, 239, 246)
MOST = 1_000  # documents in one answer

Documents = dict[str, dict[int, BsonDocument | None]]
Listed = tuple[CachedList, int | str]  # a list, by its value


class Found(NamedTuple):
    """Collection -> id -> the document that a batch left; None for no document. Unknown ones are left out.

    `lists`: the first documents of lists, and one more if there are more. Unknown ones are left out.
    """

    documents: Documents
    lists: dict[Listed, list[BsonDocument]]


def read_back(
    database: Database[BsonDocument],
    batch: Checkpoint,
    wanted: Mapping[str, Iterable[int]],
    lists: Sequence[Listed] = (),
) -> Found:
    """The documents and lists that `batch` left.

    At the batch's cluster time, its checkpoint must be the present one. Without a cluster time (in a replay)
    only documents that no later batch has changed are known, and only if the journal names this batch.
    """
    moment = Moment(database, batch.cluster_time)
    pinned = moment.at is not None
    try:
        if not is_ours(moment, batch, pinned=pinned):
            return Found({}, {})
        found = {
            name: moment.find(COLLECTIONS[name].in_build(batch.build), {"_id": {"$in": [*ids]}})
            for name, ids in wanted.items()
        }
        listed = {one: _first(moment, batch.build, *one) for one in lists} if pinned else {}
    except OperationFailure as error:
        if error.code not in NO_SUCH_MOMENT:
            raise
        return Found({}, {})
    known: Documents = {}
    for name, documents in found.items():
        known[name] = dict.fromkeys(wanted[name]) if pinned else {}
        for document in documents:
            if pinned or (is_present(document) and document["v"] <= batch.seq):
                known[name][document["_id"]] = document
    return Found(known, listed)


def _first(moment: Moment, build: int, kind: CachedList, value: int | str) -> list[BsonDocument]:
    query = kind.first(value)
    filter = query.pop("filter")
    return moment.find(COLLECTIONS[kind.collection].in_build(build), filter, limit=kind.limit + 1, **query)


class Moment:
    """MongoDB at one cluster time, at first at `text` ("seconds.increment") or, if empty, at present."""

    def __init__(self, database: Database[BsonDocument], text: str) -> None:
        self.database = database
        self.at = Timestamp(*map(int, text.split("."))) if text else None

    def find(self, collection: str, query: BsonDocument, **options: Any) -> list[BsonDocument]:
        """The first one at present fixes the time, and has one answer only. Raises OperationFailure."""
        concern = {"level": "snapshot", **({"atClusterTime": self.at} if self.at else {})}
        command = {"find": collection, "filter": query, "batchSize": MOST, "readConcern": concern, **options}
        if self.at is None:
            cursor = self.database.command(command)["cursor"]
            self.at = cursor["atClusterTime"]
            return [_plain(document) for document in cursor["firstBatch"]]
        return [_plain(document) for document in self.database.cursor_command(command)]


def is_ours(moment: Moment, batch: Checkpoint, *, pinned: bool) -> bool:
    """Whether MongoDB's history has the batch; if `pinned`, whether it is the last one at that moment."""
    ids = [checkpoint_id(batch.build), *([] if pinned else [journal_id(batch.build, batch.seq)])]
    projection = {"batch_id": True, "seq": {"$ifNull": ["$seq", "$_id.seq"]}}
    found = moment.find(CONTROL, {"_id": {"$in": ids}}, projection=projection)
    return (batch.seq, batch.batch_id) in [(document["seq"], document["batch_id"]) for document in found]


def _plain(document: BsonDocument) -> BsonDocument:
    """With plain numbers: commands decode 64-bit ones as PyMongo's own type, whatever the client asks for."""
    return {name: int(value) if isinstance(value, Int64) else value for name, value in document.items()}
