"""MongoDB: one transaction per batch with documents, counters, journal entry and checkpoint."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from pymongo import ASCENDING, DeleteOne, MongoClient, ReturnDocument, UpdateOne
from pymongo.client_session import ClientSession
from pymongo.collection import Collection as MongoCollection
from pymongo.database import Database
from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from binlog_projector.batch import Batch, DocumentChange
from binlog_projector.changes import Anchor
from binlog_projector.errors import CheckpointMoved, StandDown, StoreUnavailable
from binlog_projector.findings import Finding
from binlog_projector.mutations import DocumentId
from reader.read_model import COLLECTIONS, CONTROL, JOURNAL, SERVING_ID, Checkpoint, Serving, checkpoint_id
from tidemark.gtid import Gtid, GtidSet

BsonDocument = dict[str, Any]
TRANSACTION_ATTEMPTS = 5
TRANSIENT, UNKNOWN = "TransientTransactionError", "UnknownTransactionCommitResult"


@dataclass(frozen=True)
class Position:
    """A build's checkpoint as the projector holds it: what it committed last, and what it will ask the source for."""

    checkpoint: Checkpoint
    epoch: int  # of the lease under which it was committed
    anchor: Anchor | None

    @property
    def gtid_set(self) -> GtidSet:
        return GtidSet.parse(self.checkpoint.gtid_set)

    @classmethod
    def decode(cls, document: Mapping[str, Any]) -> Position:
        last = document["last"]
        anchor = Anchor(Gtid.parse(last["gtid"]), last["original_commit_us"]) if last else None
        return cls(Checkpoint.decode(document), document["epoch"], anchor)


@dataclass(frozen=True)
class JournalEntry:
    """What a committed batch means for the cache: the keys that it made out of date."""

    checkpoint: Checkpoint
    keys: tuple[str, ...]


def connect(url: str) -> MongoClient[BsonDocument]:
    """A client that fails within seconds; j is left at its default: asking for it waits for a 100 ms timer."""
    return MongoClient(
        url,
        w="majority",
        readConcernLevel="majority",
        readPreference="primary",
        serverSelectionTimeoutMS=3_000,
        heartbeatFrequencyMS=2_000,  # a silent server is noticed after this and the connect timeout
        connectTimeoutMS=3_000,
        socketTimeoutMS=12_000,
        retryWrites=True,
        appname="tidemark-projector",
    )


def check_replica_set(client: MongoClient[BsonDocument]) -> Finding:
    """Transactions need a replica set; one node is enough."""
    with store_errors("its topology"):
        name = client.admin.command("hello").get("setName", "")
    remedy = "start mongod with --replSet and run rs.initiate()"
    return Finding("mongodb replica set", bool(name), name or "none", "a replica set", remedy)


class DocumentStore:
    """One build, written under one lease epoch. Raises StoreUnavailable, CheckpointMoved and StandDown."""

    def __init__(self, client: MongoClient[BsonDocument], session: ClientSession, position: Position) -> None:
        self.database: Database[BsonDocument] = client.get_default_database("tidemark")
        self.session = session
        self.position = position
        self.build = position.checkpoint.build

    def commit(self, batch: Batch, as_of: str) -> JournalEntry:
        """Commit the batch and return what the cache has to know of it."""
        following = self._following(str(batch.gtid_set), as_of)
        entry = JournalEntry(following, tuple(batch.keys))

        def write() -> None:
            self._write_documents(batch, following.seq)
            self._write_journal(entry)

        self._transact(following, batch.anchor or self.position.anchor, write)
        return entry

    def commit_rows(self, batch: Batch) -> None:
        """Commit one chunk of a snapshot: documents and counters; nobody reads this build yet."""
        following = self._following("", self.position.checkpoint.as_of)
        self._transact(following, None, lambda: self._write_documents(batch, following.seq))

    def finish_snapshot(self, gtid_set: GtidSet, as_of: str, anchor: Anchor | None) -> None:
        """The build is complete as of `gtid_set`: it serves from now on, with an empty cache."""
        following = self._following(str(gtid_set), as_of)

        def write() -> None:
            self._write_journal(JournalEntry(following, ()))
            self._allocate_cache_epoch()

        self._transact(following, anchor, write, state="streaming")

    def new_cache_epoch(self) -> Serving:
        """Name a cache that nobody has ever filled; only the lease holder of the serving build can."""
        with store_errors("a new cache epoch"), self.session.start_transaction(write_concern=WriteConcern("majority")):
            touched = self.database[CONTROL].update_one(self._mine(), {"$inc": {"epochs": 1}}, session=self.session)
            if not touched.matched_count:
                self._refuse()
            return self._allocate_cache_epoch()

    def serving(self) -> Serving:
        """Which build serves. Raises StandDown if it is not this one."""
        with store_errors("the serving build"):
            document = self.database[CONTROL].find_one({"_id": SERVING_ID})
        serving = Serving.decode(document or {"build": 0, "epoch": ""})
        if serving.build != self.build:
            raise StandDown(f"build {serving.build} serves, not {self.build}")
        return serving

    def tick(self, as_of: str) -> None:
        """Note that nothing was missing at `as_of`: the same checkpoint, more recent."""
        with store_errors("the checkpoint's freshness"):
            found = self.database[CONTROL].update_one(self._mine(), {"$set": {"as_of": as_of}}).matched_count
        if not found:
            self._refuse()
        self.position = replace(self.position, checkpoint=self.position.checkpoint.at(as_of))

    def documents(self, collection: str, ids: Iterable[DocumentId]) -> dict[DocumentId, BsonDocument]:
        """The majority-committed documents among `ids`."""
        with store_errors(f"documents of {collection}"):
            return {
                document["_id"]: document for document in self._collection(collection).find({"_id": {"$in": [*ids]}})
            }

    def journal(self, after: int, limit: int) -> list[JournalEntry]:
        """Up to `limit` entries that follow batch `after`, in order, without a gap."""
        query = {"_id": {"$gt": after, "$lte": self.position.checkpoint.seq}}
        with store_errors("the journal"):
            documents = list(
                self.database[JOURNAL.in_build(self.build)].find(query).sort("_id", ASCENDING).limit(limit)
            )
        entries = []
        for expected, document in enumerate(documents, start=after + 1):
            if document["_id"] != expected:
                break
            checkpoint = Checkpoint.decode({**document, "build": self.build, "seq": expected})
            entries.append(JournalEntry(checkpoint, tuple(document["keys"])))
        return entries

    def batch_id(self, seq: int) -> str | None:
        """Under which id batch `seq` of this history was committed, if the journal still knows."""
        with store_errors("the journal"):
            document = self.database[JOURNAL.in_build(self.build)].find_one({"_id": seq}, {"batch_id": 1})
        return document["batch_id"] if document else None

    def _following(self, gtid_set: str, as_of: str) -> Checkpoint:
        return Checkpoint(self.build, self.position.checkpoint.seq + 1, secrets.token_hex(8), as_of, gtid_set)

    def _mine(self) -> BsonDocument:
        """The compare of the compare-and-set: it fails for an old leader, and after a commit that was not ours."""
        checkpoint = self.position.checkpoint
        return {
            "_id": checkpoint_id(self.build),
            "epoch": self.position.epoch,
            "seq": checkpoint.seq,
            "batch_id": checkpoint.batch_id,
        }

    def _transact(self, following: Checkpoint, anchor: Anchor | None, write: Any, **state: Any) -> None:
        """Run `write` and move the checkpoint to `following` in one transaction; learn the truth when in doubt."""
        fields = {
            **{name: getattr(following, name) for name in ("seq", "batch_id", "as_of", "gtid_set")},
            "last": {"gtid": str(anchor.gtid), "original_commit_us": anchor.original_commit_us} if anchor else None,
            **state,
        }
        for attempt in range(1, TRANSACTION_ATTEMPTS + 1):
            try:
                self._attempt(fields, write)
                break
            except PyMongoError as error:
                if error.has_error_label(UNKNOWN):
                    self._settle(following, error)
                    break
                if not error.has_error_label(TRANSIENT) or attempt == TRANSACTION_ATTEMPTS:
                    raise StoreUnavailable(f"MongoDB refused batch {following.seq}: {error}") from error
        self.position = Position(following, self.position.epoch, anchor)

    def _attempt(self, fields: BsonDocument, write: Any) -> None:
        with self.session.start_transaction(ReadConcern("snapshot"), WriteConcern("majority")):
            control = self.database[CONTROL]
            if not control.update_one(self._mine(), {"$set": fields}, session=self.session).matched_count:
                self._refuse()
            write()

    def _settle(self, following: Checkpoint, error: PyMongoError) -> None:
        """After an unknown outcome: commit again (it is idempotent), then the checkpoint says what is true."""
        with contextlib.suppress(PyMongoError):
            self.session.commit_transaction()
        actual = self._linearizable_position()
        if (actual.epoch, actual.checkpoint.batch_id) != (self.position.epoch, following.batch_id):
            self._refuse(actual, error)

    def _refuse(self, actual: Position | None = None, cause: Exception | None = None) -> None:
        actual = actual or self._linearizable_position()
        if actual.epoch != self.position.epoch:
            raise StandDown(f"another projector holds lease epoch {actual.epoch}; ours was {self.position.epoch}")
        mine, found = self.position.checkpoint, actual.checkpoint
        raise CheckpointMoved(
            f"batch {mine.seq} ({mine.batch_id}) is not the last one: MongoDB has {found.seq} ({found.batch_id})"
        ) from cause

    def _linearizable_position(self) -> Position:
        control = self.database.get_collection(CONTROL, read_concern=ReadConcern("linearizable"))
        with store_errors("the checkpoint"):
            document = control.find_one({"_id": checkpoint_id(self.build)}, max_time_ms=10_000)
        if document is None:
            raise StandDown(f"the checkpoint of build {self.build} is gone")
        return Position.decode(document)

    def _write_documents(self, batch: Batch, version: int) -> None:
        for name, changes in batch.documents.items():
            planned = [_operation(name, id, change, version) for id, change in changes.items()]
            operations = [operation for operation in planned if operation is not None]
            if operations:
                self._collection(name).bulk_write(operations, ordered=False, session=self.session)
            self._remove_empty_stubs(name, [id for id, change in changes.items() if _may_empty(change)])

    def _remove_empty_stubs(self, name: str, ids: list[DocumentId]) -> None:
        counters = COLLECTIONS[name].counters
        if ids and counters:
            empty = {"_id": {"$in": ids}, "created_at": {"$exists": False}, **dict.fromkeys(counters, 0)}
            self._collection(name).delete_many(empty, session=self.session)

    def _write_journal(self, entry: JournalEntry) -> None:
        checkpoint = entry.checkpoint
        self.database[JOURNAL.in_build(self.build)].insert_one(
            {
                "_id": checkpoint.seq,
                "batch_id": checkpoint.batch_id,
                "as_of": checkpoint.as_of,
                "gtid_set": checkpoint.gtid_set,
                "keys": list(entry.keys),
                "written_at": datetime.now(UTC),
            },
            session=self.session,
        )

    def _allocate_cache_epoch(self) -> Serving:
        """The random part keeps an epoch unique even if MongoDB is restored from a backup and counts again."""
        control = self.database[CONTROL]
        number = allocate(control, "cache_epoch", self.session)
        serving = Serving(self.build, f"{number}-{secrets.token_hex(4)}")
        fields = {"build": serving.build, "epoch": serving.epoch}
        control.update_one({"_id": SERVING_ID}, {"$set": fields}, upsert=True, session=self.session)
        return serving

    def _collection(self, name: str) -> MongoCollection[BsonDocument]:
        return self.database[COLLECTIONS[name].in_build(self.build)]


def allocate(control: MongoCollection[BsonDocument], name: str, session: ClientSession | None = None) -> int:
    """The next number of its kind: MongoDB is the only place where builds and cache epochs are numbered."""
    document = control.find_one_and_update(
        {"_id": "allocations"}, {"$inc": {name: 1}}, upsert=True, return_document=ReturnDocument.AFTER, session=session
    )
    assert document is not None
    return int(document[name])


def _operation(name: str, id: DocumentId, change: DocumentChange, version: int) -> UpdateOne | DeleteOne | None:
    """Counters belong to the id: a removed row leaves its counters behind, and a counter makes a stub."""
    counters = COLLECTIONS[name].counters
    increments = {counter: change.increments.get(counter, 0) for counter in counters}
    if change.put is not None:
        update: BsonDocument = {"$set": {**change.put, "v": version}}
    elif change.remove is not None:
        if not counters:
            return DeleteOne({"_id": id})
        update = {"$unset": dict.fromkeys(change.remove, ""), "$set": {"v": version}}
    elif any(increments.values()):
        update = {"$set": {"v": version}}
    else:
        return None
    return UpdateOne({"_id": id}, {**update, **({"$inc": increments} if increments else {})}, upsert=True)


def _may_empty(change: DocumentChange) -> bool:
    return change.remove is not None or any(by < 0 for by in change.increments.values())


@contextlib.contextmanager
def store_errors(what: str) -> Iterator[None]:
    """Turn PyMongo's errors into StoreUnavailable."""
    try:
        yield
    except (ConnectionFailure, OperationFailure) as error:
        raise StoreUnavailable(f"MongoDB does not give {what}: {error}") from error
