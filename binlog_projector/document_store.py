"""MongoDB: one transaction per batch with documents, counters, journal entry and checkpoint."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Protocol

from pymongo import ASCENDING, MongoClient
from pymongo.client_session import ClientSession
from pymongo.collection import Collection as MongoCollection
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from binlog_projector.batch import Batch
from binlog_projector.changes import Anchor
from binlog_projector.errors import CheckpointMoved, StandDown, StoreUnavailable
from binlog_projector.mongodb import BsonDocument, allocate, store_errors
from binlog_projector.mutations import DocumentId
from binlog_projector.position import JournalEntry, Position, encode_partials
from binlog_projector.writes import FIELD_OF, Write, document_count, writes_of
from reader.read_model import COLLECTIONS, CONTROL, SERVING_ID, Checkpoint, Serving, checkpoint_id, journal_id
from tidemark.gtid import GtidSet

TRANSACTION_ATTEMPTS = 5
DUPLICATE_KEY = 11000
SNAPSHOT, STREAMING, DROPPED = "snapshot", "streaming", "dropped"  # states of a build; it serves when it is streaming
TRANSIENT, UNKNOWN = "TransientTransactionError", "UnknownTransactionCommitResult"


class StubMet(PyMongoError):
    """A new row met a document of its id, or a change met none."""


class Writing(Protocol):
    """What a transaction writes beside the checkpoint; without `upsert` it may raise StubMet."""

    def __call__(self, *, upsert: bool) -> None: ...


class DocumentStore:
    """One build, written under one lease epoch. Raises StoreUnavailable, CheckpointMoved and StandDown.

    One thread commits batches. Another one may read, and allocate cache epochs: transactions wait for each other.
    """

    def __init__(
        self, client: MongoClient[BsonDocument], session: ClientSession, position: Position, journal_hours: int
    ) -> None:
        self.database: Database[BsonDocument] = client.get_default_database("tidemark")
        self.session = session
        self.position = position
        self.journal_hours = journal_hours
        self.build = position.checkpoint.build
        self.transacting = threading.Lock()

    def commit(self, batch: Batch, as_of: str) -> JournalEntry:
        """Commit the batch and return what the cache has to know of it."""
        following = self._following(str(batch.gtid_set), as_of)
        partials = self.position.partials_at(batch.gtid_set, batch.partial)
        entry = JournalEntry(following, batch.keys, partials)

        def write(*, upsert: bool) -> None:
            self._write_documents(batch, following.seq, upsert=upsert)

        self._transact(following, batch.anchor or self.position.anchor, write, entry)
        return entry

    def commit_rows(self, name: str, documents: list[BsonDocument]) -> None:
        """Commit one chunk of a snapshot: complete new documents of one collection; nobody reads this build yet."""
        following = self._following("", self.position.checkpoint.as_of)
        versioned = [{**document, "v": following.seq} for document in documents]

        def write(*, upsert: bool) -> None:
            self._run("insert", COLLECTIONS[name].in_build(self.build), versioned)

        self._transact(following, None, write)

    def finish_snapshot(
        self, gtid_set: GtidSet, as_of: str, anchor: Anchor | None, copied: Mapping[str, float]
    ) -> None:
        """The build is complete as of `gtid_set`; `copied`: how many `rows` in how many `seconds`."""
        following = self._following(str(gtid_set), as_of)
        self._transact(following, anchor, lambda *, upsert: None, copied=dict(copied))

    def serve(self, former: Position | None, as_of: str) -> None:
        """This build serves from now on, with an empty cache, and `former` is over: one transaction.

        Its number goes on behind both of theirs: no version means two things. Raises StandDown if `former` is not where
        its leader has left it: then this is not the leader.
        """
        mine, ended = self.position.checkpoint, former.checkpoint if former else None
        following = replace(
            self._following(mine.gtid_set, as_of), seq=1 + max(mine.seq, ended.seq if ended else mine.seq)
        )

        def write(*, upsert: bool) -> None:
            if former is not None:
                self._retire(former)
            self._allocate_cache_epoch()

        entry = JournalEntry(following, (), self.position.partials)
        self._transact(following, self.position.anchor, write, entry, state=STREAMING)

    def new_cache_epoch(self) -> Serving:
        """Name a cache that nobody has ever filled; only the lease holder of the serving build can."""
        majority = WriteConcern("majority")
        with (
            self.transacting,
            store_errors("a new cache epoch"),
            self.session.start_transaction(write_concern=majority),
        ):
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
        with self.transacting:
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
        last = self.position.checkpoint.seq
        query = {"_id": {"$gt": journal_id(self.build, after), "$lte": journal_id(self.build, last)}}
        with store_errors("the journal"):
            documents = list(self.database[CONTROL].find(query).sort("_id", ASCENDING).limit(limit))
        entries = []
        for expected, document in enumerate(documents, start=after + 1):
            if document["_id"]["seq"] != expected:
                break
            entries.append(JournalEntry.decode(document))
        return entries

    def journal_size(self) -> int:
        """About how many batches the journals of all builds have, as MongoDB keeps count of it."""
        with store_errors("the journal's size"):
            return self.database[CONTROL].estimated_document_count()

    def batch_id(self, seq: int) -> str | None:
        """Under which id batch `seq` of this history was committed, if the journal still knows."""
        with store_errors("the journal"):
            document = self.database[CONTROL].find_one({"_id": journal_id(self.build, seq)}, {"batch_id": 1})
        return document["batch_id"] if document else None

    def _following(self, gtid_set: str, as_of: str) -> Checkpoint:
        return Checkpoint(self.build, self.position.checkpoint.seq + 1, secrets.token_hex(8), as_of, gtid_set)

    def _retire(self, former: Position) -> None:
        """Claimed under our own epoch and unchanged since: nobody has committed to it, and nobody else can."""
        retired = {"$currentDate": {"retired_at": True}}
        if not self.database[CONTROL].update_one(_exactly(former), retired, session=self.session).matched_count:
            raise StandDown(f"another projector writes build {former.checkpoint.build}: it has taken over")

    def _mine(self) -> BsonDocument:
        """The compare of the compare-and-set: it fails for an old leader, and after a commit that was not ours."""
        return _exactly(self.position)

    def _transact(
        self,
        following: Checkpoint,
        anchor: Anchor | None,
        write: Writing,
        entry: JournalEntry | None = None,
        **state: Any,
    ) -> None:
        """Run `write` and move the checkpoint to `following` in one transaction, with `entry` for the journal if given.

        Without one, what is there in part stays as it is.
        """
        partials = self.position.partials if entry is None else entry.partials
        fields = {
            **{name: getattr(following, name) for name in ("seq", "batch_id", "as_of", "gtid_set")},
            "last": {"gtid": str(anchor.gtid), "original_commit_us": anchor.original_commit_us} if anchor else None,
            "partials": encode_partials(partials),
            **state,
        }
        moves: list[Write] = [{"q": self._mine(), "u": {"$set": fields}}]
        if entry is not None:
            moves.append(self._journaled(entry))
        with self.transacting:
            self._attempts(following, moves, write)
            self.position = Position(following, self.position.epoch, anchor, partials)

    def _attempts(self, following: Checkpoint, moves: Sequence[Write], write: Writing) -> None:
        """Until it is done; learn the truth when in doubt. When a stub is met, all is upserted."""
        upsert = False
        for attempt in range(1, TRANSACTION_ATTEMPTS + 1):
            try:
                return self._attempt(moves, partial(write, upsert=upsert))
            except PyMongoError as error:
                if error.has_error_label(UNKNOWN):
                    return self._settle(following, error)
                stub_met = not upsert and isinstance(error, StubMet | DuplicateKeyError)
                if attempt == TRANSACTION_ATTEMPTS or not (stub_met or error.has_error_label(TRANSIENT)):
                    raise StoreUnavailable(f"MongoDB refused batch {following.seq}: {error}") from error
                upsert = upsert or stub_met
        raise AssertionError("the last attempt returns or raises")

    def _attempt(self, moves: Sequence[Write], write: Callable[[], None]) -> None:
        with self.session.start_transaction(ReadConcern("snapshot"), WriteConcern("majority")):
            if self._run("update", CONTROL, moves) < len(moves):
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

    def _write_documents(self, batch: Batch, version: int, *, upsert: bool) -> None:
        for name, changes in batch.documents.items():
            for command, writes in writes_of(name, changes, version, upsert=upsert):
                collection = COLLECTIONS[name].in_build(self.build)
                found = self._run(command, collection, writes)
                if command == "update" and found < sum(map(document_count, writes)):
                    raise StubMet(f"only {found} of the documents to be updated are in {collection}")

    def _run(self, command: str, collection: str, writes: Sequence[Write]) -> int:
        """One write command as it is; how many documents it found or made. PyMongo's own methods cost more, and its
        bulk writes check and copy each document again. Raises StubMet and OperationFailure: the transaction is over."""
        request = {command: collection, FIELD_OF[command]: writes, "ordered": False}
        reply = self.database.command(request, session=self.session)
        for error in reply.get("writeErrors", ()):
            raise StubMet(error["errmsg"]) if error["code"] == DUPLICATE_KEY else OperationFailure(error["errmsg"])
        return int(reply["n"])

    def _journaled(self, entry: JournalEntry) -> Write:
        """An insert as an update, for the sake of the command that it is in. It may meet an entry, its successor's if
        this is no leader any more: of that the checkpoint tells."""
        expires_at = datetime.now(UTC) + timedelta(hours=self.journal_hours)
        id = journal_id(self.build, entry.checkpoint.seq)
        return {"q": {"_id": id}, "u": {**entry.encode(), "expires_at": expires_at}, "upsert": True}

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


def _exactly(position: Position) -> BsonDocument:
    checkpoint = position.checkpoint
    names = {"epoch": position.epoch, "seq": checkpoint.seq, "batch_id": checkpoint.batch_id}
    return {"_id": checkpoint_id(checkpoint.build), **names}
