"""One build in MongoDB: its documents under batches, its journal, and its cache epoch."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from pymongo import ASCENDING, MongoClient
from pymongo.client_session import ClientSession
from pymongo.database import Database

from binlog_projector.domain.batch import Batch
from binlog_projector.errors import StandDown
from binlog_projector.stores.checkpointing import CheckpointedTransactions, Command, StubMet, exactly
from binlog_projector.stores.document_ids import encode_id
from binlog_projector.stores.mongodb import BsonDocument, store_errors
from binlog_projector.stores.read_back import Found, Listed, read_back
from binlog_projector.stores.writes import Write, document_count, stamp_of, writes_of
from reader.read_model.control import (
    CONTROL,
    SERVING_ID,
    STREAMING,
    Anchor,
    Checkpoint,
    JournalEntry,
    Position,
    Serving,
    journal_id,
)
from reader.read_model.declarations import COLLECTIONS
from tidemark.gtid import GtidSet


class DocumentStore:
    """One build, written under one lease epoch. Raises StoreUnavailable, CheckpointMoved and StandDown.

    One thread commits batches. Others may read and begin cache epochs: transactions wait for each other.
    """

    def __init__(
        self,
        client: MongoClient[BsonDocument],
        session: ClientSession,
        position: Position,
        journal_hours: int,
        shards: int = 1,
    ) -> None:
        self.database: Database[BsonDocument] = client.get_default_database("tidemark")
        self.session = session
        self.journal_hours = journal_hours
        self.shards = shards  # of the cache
        self.naming = threading.Lock()
        self.build = position.checkpoint.build
        self.transactions = CheckpointedTransactions(self.database, session, position)

    @property
    def position(self) -> Position:
        """The last commit."""
        return self.transactions.position

    def commit(self, batch: Batch, as_of: str) -> JournalEntry:
        """Commit the batch, and return its journal entry for the cache."""
        partials = self.position.partials_at(batch.gtid_set, batch.partial)
        following = replace(self._following(str(batch.gtid_set), as_of), open=bool(partials))
        to = replace(
            self.position,
            checkpoint=following,
            anchor=batch.anchor or self.position.anchor,
            partials=partials,
        )
        entry = JournalEntry(following, batch.keys, partials, batch.counted)
        journaled = [self._journaled(entry)]
        try:
            self.transactions.move(to, self._commands(batch, following.seq, upsert=False), journaled)
        except StubMet:
            self.transactions.move(to, self._commands(batch, following.seq, upsert=True), journaled)
        return replace(entry, checkpoint=self.position.checkpoint)

    def commit_rows(self, name: str, documents: list[BsonDocument]) -> None:
        """Commit one chunk of a snapshot: complete new documents of one collection. Nobody reads them yet."""
        following = self._following("", self.position.checkpoint.as_of)
        stamp = stamp_of(name, following.seq)
        versioned = [{**document, "_id": encode_id(document["_id"]), **stamp} for document in documents]
        insert = Command("insert", COLLECTIONS[name].in_build(self.build), versioned)
        self.transactions.move(replace(self.position, checkpoint=following, anchor=None), [insert])

    def finish_snapshot(
        self, gtid_set: GtidSet, as_of: str, anchor: Anchor | None, copied: Mapping[str, float]
    ) -> None:
        """The build is complete as of `gtid_set`. `copied`: its `rows` and `seconds`."""
        following = self._following(str(gtid_set), as_of)
        self.transactions.move(
            replace(self.position, checkpoint=following, anchor=anchor), copied=dict(copied)
        )

    def serve(self, former: Position | None, as_of: str) -> None:
        """This build serves from now on, with an empty cache, and `former` ends: one transaction.

        Numbers go on behind those of both builds, because a version is never used twice. Raises StandDown if
        `former` has moved: then another process leads.
        """
        mine, ended = self.position.checkpoint, former.checkpoint if former else None
        following = replace(
            self._following(mine.gtid_set, as_of), seq=1 + max(mine.seq, ended.seq if ended else mine.seq)
        )
        entry = JournalEntry(following, (), self.position.partials)
        retired = [{"q": exactly(former), "u": {"$currentDate": {"retired_at": True}}}] if former else []
        served = _served(self._new_serving(following.seq))
        to = replace(self.position, checkpoint=following)
        self.transactions.move(to, beside=[self._journaled(entry), *retired, served], state=STREAMING)

    def new_cache_epoch(self, shard: int = 0) -> Serving:
        """Name a cache, or a shard, that nobody has ever filled. Only the serving build's leader can."""
        with self.naming:
            serving = self._new_serving(self.position.checkpoint.seq)
            if self.shards > 1 and len(former := self.serving().epochs) == self.shards:
                epochs = [serving.epochs[shard] if at == shard else one for at, one in enumerate(former)]
                serving = Serving(self.build, epochs[0], tuple(epochs))
            self.transactions.hold([_served(serving)])
        return serving

    def serving(self) -> Serving:
        """Which build serves. Raises StandDown if it is not this one."""
        with store_errors("the serving build"):
            document = self.database[CONTROL].find_one({"_id": SERVING_ID})
        serving = Serving.decode(document or {"build": 0, "epoch": ""})
        if serving.build != self.build:
            raise StandDown(f"build {serving.build} serves, not {self.build}")
        return serving

    def tick(self, as_of: str) -> None:
        """Note that the same checkpoint is complete as of a later `as_of`."""
        self.transactions.tick(as_of)

    def read_back(
        self, batch: Checkpoint, wanted: Mapping[str, Iterable[int]], lists: Sequence[Listed] = ()
    ) -> Found:
        """The documents and lists that the batch left, as far as MongoDB still tells."""
        with store_errors("the documents of a batch"):
            return read_back(self.database, batch, wanted, lists)

    def journal(self, after: int, limit: int) -> list[JournalEntry]:
        """Up to `limit` entries that follow batch `after`, in order, without a gap.

        The last batch's has the checkpoint that is held, with its cluster time.
        """
        last = self.position.checkpoint
        query = {"_id": {"$gt": journal_id(self.build, after), "$lte": journal_id(self.build, last.seq)}}
        with store_errors("the journal"):
            documents = list(self.database[CONTROL].find(query).sort("_id", ASCENDING).limit(limit))
        entries = []
        for expected, document in enumerate(documents, start=after + 1):
            if document["_id"]["seq"] != expected:
                break
            entry = JournalEntry.decode(document)
            is_last = (expected, entry.checkpoint.batch_id) == (last.seq, last.batch_id)
            entries.append(replace(entry, checkpoint=last) if is_last else entry)
        return entries

    def journal_size(self) -> int:
        """About how many batches the journals of all builds have, by MongoDB's own count."""
        with store_errors("the journal's size"):
            return self.database[CONTROL].estimated_document_count()

    def batch_id(self, seq: int) -> str | None:
        """The id under which batch `seq` of this history was committed, if the journal still has it."""
        with store_errors("the journal"):
            document = self.database[CONTROL].find_one({"_id": journal_id(self.build, seq)}, {"batch_id": 1})
        return document["batch_id"] if document else None

    def _following(self, gtid_set: str, as_of: str) -> Checkpoint:
        at = self.position.checkpoint
        return replace(
            at,
            seq=at.seq + 1,
            batch_id=secrets.token_hex(8),
            as_of=as_of,
            gtid_set=gtid_set,
            cluster_time="",
        )

    def _commands(self, batch: Batch, version: int, *, upsert: bool) -> Sequence[Command]:
        return [
            Command(
                name,
                COLLECTIONS[collection].in_build(self.build),
                writes,
                sum(map(document_count, writes)) if name == "update" else 0,
            )
            for collection, changes in batch.documents.items()
            for name, writes in writes_of(collection, changes, version, upsert=upsert)
        ]

    def _journaled(self, entry: JournalEntry) -> Write:
        """The insert of an entry, as an update: one command carries entry and checkpoint.

        A former leader may meet its successor's entry here. Then the checkpoint in the same command fails.
        """
        expires_at = datetime.now(UTC) + timedelta(hours=self.journal_hours)
        id = journal_id(self.build, entry.checkpoint.seq)
        return {"q": {"_id": id}, "u": entry.encode(expires_at), "upsert": True}

    def _new_serving(self, seq: int) -> Serving:
        """A cache epoch that was never used: `seq` shows when it began, a random part makes it unique."""
        epochs = tuple(f"{seq}-{secrets.token_hex(4)}" for _ in range(self.shards))
        return Serving(self.build, epochs[0], epochs if self.shards > 1 else ())


def _served(serving: Serving) -> Write:
    return {"q": {"_id": SERVING_ID}, "u": serving.encode(), "upsert": True}
