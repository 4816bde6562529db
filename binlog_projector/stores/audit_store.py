"""An audit's view of MongoDB, all as of one moment, and the queue through which it asks for repairs."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pymongo import ASCENDING, DESCENDING, MongoClient, UpdateOne
from pymongo.client_session import ClientSession
from pymongo.cursor import Cursor
from pymongo.database import Database

from binlog_projector.domain.mutations import DocumentId
from binlog_projector.domain.truth import Truth, touched_by
from binlog_projector.errors import ReadModelMissing
from binlog_projector.stores.control_store import demand_own_model
from binlog_projector.stores.document_ids import decode_id, encode_id, find_by_ids
from binlog_projector.stores.mongodb import BsonDocument, store_errors
from reader.read_model.control import (
    CONTROL,
    SERVING_ID,
    TOUCHED,
    Checkpoint,
    checkpoint_id,
    decode_partials,
    journal_id,
    keys_of,
    with_begun,
)
from reader.read_model.declarations import COLLECTIONS
from tidemark.gtid import GtidSet

REPAIRS = "repairs"
MAX_ENTRIES = 20_000  # of the journal, searched for the touched keys
MAX_RECENT = 2_000  # the same while the stream waits
MAX_KEYS = 1_000_000  # of these entries
REACHED = {"gtid_set": True, "partials": True}


@dataclass(frozen=True)
class Touched:
    """Cache keys that batches have touched since a GTID set. `keys` None: the journal does not reach back."""

    keys: frozenset[str] | None

    def any_of(self, keys: Iterable[str]) -> bool:
        return self.keys is None or not self.keys.isdisjoint(keys)


class StoredView:
    """The serving build as of one moment."""

    def __init__(
        self, database: Database[BsonDocument], session: ClientSession | None, checkpoint: Checkpoint
    ) -> None:
        self.database = database
        self.session = session
        self.checkpoint = checkpoint

    @property
    def gtid_set(self) -> GtidSet:
        return GtidSet.parse(self.checkpoint.gtid_set)

    def contains(self, gtid_set: str) -> bool:
        return self.gtid_set >= GtidSet.parse(gtid_set)

    def documents(self, collection: str, ids: Iterable[DocumentId]) -> dict[DocumentId, BsonDocument]:
        return self._find(collection, ids)

    def documents_after(self, collection: str, last: DocumentId | None, limit: int) -> list[BsonDocument]:
        """Up to `limit` documents in the order of their ids, stubs included, whatever type an id has."""
        found = self._collection(collection).find(session=self.session).sort("_id", 1).limit(limit + 1)
        if last is not None:
            first = encode_id(last)  # $gt would only find ids of the same type
            found = found.hint([("_id", 1)]).min([("_id", first)])
        decoded = ({**document, "_id": decode_id(document["_id"])} for document in found)
        return [document for document in decoded if document["_id"] != last][:limit]

    def existing(self, collection: str, ids: Iterable[DocumentId]) -> set[DocumentId]:
        return {*self._find(collection, ids, {"_id": True})}

    def random_ids(self, collection: str, size: int) -> list[int]:
        """Ids of present documents, not necessarily as of this view."""
        pipeline = [
            {"$sample": {"size": size}},
            {"$match": {"created_at": {"$exists": True}}},
            {"$project": {"_id": True}},
        ]
        found = self._collection(collection).aggregate(pipeline) if size else []
        return [document["_id"] for document in found]

    def touched_since(self, gtid_set: GtidSet, max_entries: int = MAX_ENTRIES) -> Touched:
        """Touched by batches that hold anything beyond `gtid_set`."""
        entries = self._journal(0, {**REACHED, **TOUCHED})
        keys: set[str] = set()
        for entry in entries.sort("_id", DESCENDING).limit(max_entries):
            if gtid_set >= _reached(entry):
                return Touched(frozenset(keys))
            keys.update(keys_of(entry))
            if len(keys) > MAX_KEYS:
                break
        return Touched(None)

    def repaired_since(self, seq: int) -> Touched:
        """Touched by repairs: batches after `seq` that hold nothing of any transaction."""
        entries = list(self._journal(seq, REACHED).sort("_id", ASCENDING).limit(MAX_RECENT))
        if [entry["_id"]["seq"] for entry in entries] != list(range(seq, self.checkpoint.seq + 1)):
            return Touched(None)
        repairs = [
            entry["_id"]
            for former, entry in itertools.pairwise(entries)
            if {**former, "_id": entry["_id"]} == entry
        ]
        found = self.database[CONTROL].find({"_id": {"$in": repairs}}, TOUCHED, session=self.session)
        return Touched(frozenset(key for entry in found for key in keys_of(entry)))

    def _journal(self, first: int, fields: Mapping[str, bool]) -> Cursor[BsonDocument]:
        """Entries of this build from batch `first` on."""
        build = self.checkpoint.build
        ids = {"$gte": journal_id(build, first), "$lte": journal_id(build, self.checkpoint.seq)}
        return self.database[CONTROL].find({"_id": ids}, fields, session=self.session)

    def _find(
        self, name: str, ids: Iterable[DocumentId], fields: Mapping[str, bool] | None = None
    ) -> dict[DocumentId, BsonDocument]:
        build = self.checkpoint.build
        return find_by_ids(self.database, COLLECTIONS[name], build, ids, self.session, fields)

    def _collection(self, name: str) -> Any:
        return self.database[COLLECTIONS[name].in_build(self.checkpoint.build)]


def _reached(entry: Mapping[str, Any]) -> GtidSet:
    """The transactions of which anything is in the documents after a batch, partial ones included."""
    return with_begun(GtidSet.parse(entry["gtid_set"]), decode_partials(entry.get("partials", ())))


class AuditStore:
    """Reads the serving build. Raises StoreUnavailable, ReadModelMissing."""

    def __init__(self, client: MongoClient[BsonDocument]) -> None:
        self.client = client
        self.database = client.get_default_database("tidemark")

    @contextlib.contextmanager
    def view(self) -> Iterator[StoredView]:
        """Majority-committed documents, checkpoint and journal as of the same moment (for some minutes).

        Raises also OtherModel.
        """
        with store_errors("a view of the read model"), self.client.start_session(snapshot=True) as session:
            control = self.database[CONTROL]
            serving = control.find_one({"_id": SERVING_ID}, session=session)
            document = serving and control.find_one({"_id": checkpoint_id(serving["build"])}, session=session)
            if document is None:
                raise ReadModelMissing(
                    "MongoDB holds no serving build with a checkpoint: start the projector"
                )
            checkpoint = Checkpoint.decode(document)
            demand_own_model(checkpoint)
            yield StoredView(self.database, session, checkpoint)


@dataclass(frozen=True)
class RepairRequest:
    """For a checkpoint that contains `read_at`: a document as MySQL had it then, or cached lists to drop.

    `seq` and `counters`: MongoDB's counters after that batch. Later events do not change their error.
    """

    build: int
    read_at: str
    truth: Truth | None
    keys: tuple[str, ...] = ()
    seq: int = 0
    counters: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """A newer request of the same name replaces an older one."""
        return f"{self.truth.collection}:{self.truth.id}" if self.truth else ",".join(self.keys)

    @property
    def touched_by(self) -> frozenset[str]:
        """Keys that must not have been touched since. A cached list may be dropped at any time."""
        return touched_by(self.truth.collection, self.truth.id) if self.truth else frozenset()


class RepairQueue:
    """A collection of requests: audits put them in, the leader takes them out. Raises StoreUnavailable."""

    def __init__(self, client: MongoClient[BsonDocument]) -> None:
        self.requests = client.get_default_database("tidemark")[REPAIRS]

    def put(self, requests: Sequence[RepairRequest]) -> None:
        updates = [UpdateOne({"_id": one.name}, {"$set": _encode(one)}, upsert=True) for one in requests]
        with store_errors("the queue of repairs"):
            self.requests.bulk_write(updates, ordered=False)

    def waiting(self, limit: int = 200) -> list[RepairRequest]:
        with store_errors("the queue of repairs"):
            return [_decode(document) for document in self.requests.find().limit(limit)]

    def remove(self, requests: Sequence[RepairRequest]) -> None:
        """Remove these requests. A newer one under the same name stays."""
        with store_errors("the queue of repairs"):
            for one in requests:
                self.requests.delete_one({"_id": one.name, "read_at": one.read_at})


def _encode(request: RepairRequest) -> BsonDocument:
    truth = request.truth
    stored = (
        {
            "collection": truth.collection,
            "id": encode_id(truth.id),
            "fields": truth.fields,
            "counters": truth.counters,
        }
        if truth
        else None
    )
    return {
        "build": request.build,
        "read_at": request.read_at,
        "truth": stored,
        "keys": list(request.keys),
        "seq": request.seq,
        "counters": dict(request.counters),
    }


def _decode(document: Mapping[str, Any]) -> RepairRequest:
    stored = document["truth"]
    truth = Truth(**{**stored, "id": decode_id(stored["id"])}) if stored else None
    keys, seq, counters = tuple(document["keys"]), document["seq"], document["counters"]
    return RepairRequest(document["build"], document["read_at"], truth, keys, seq, counters)
