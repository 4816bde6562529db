"""MongoDB's control collection: who leads (the lease), which builds exist, and opening one of them for writing."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pymongo import IndexModel, MongoClient, ReturnDocument
from pymongo.errors import DuplicateKeyError, OperationFailure

from binlog_projector.batch import Batch
from binlog_projector.document_store import BsonDocument, DocumentStore, allocate, store_errors
from binlog_projector.errors import StandDown
from binlog_projector.position import Position
from reader.read_model import COLLECTIONS, CONTROL, JOURNAL, SERVING_ID, checkpoint_id

NAMESPACE_EXISTS = 48
LONG_AGO = "1970-01-01T00:00:00.000000Z"


@dataclass(frozen=True)
class LeaseRecord:
    """The lease as stored. `epoch` changes only at a takeover, `renewals` while the holder lives."""

    epoch: int
    renewals: int
    holder: Mapping[str, Any]
    released: bool


class ControlStore:
    """Reads and compare-and-sets of the control collection. Raises StoreUnavailable."""

    def __init__(self, client: MongoClient[BsonDocument], journal_hours: int) -> None:
        self.client = client
        self.journal_hours = journal_hours
        self.database = client.get_default_database("tidemark")
        self.control = self.database[CONTROL]
        self.session = client.start_session()

    def lease(self) -> LeaseRecord | None:
        with store_errors("the lease"):
            document = self.control.find_one({"_id": "lease"})
        if document is None:
            return None
        return LeaseRecord(document["epoch"], document["renewals"], document["holder"], document["released"])

    def take_lease(self, seen: LeaseRecord | None, holder: Mapping[str, Any]) -> int | None:
        """The new epoch, or None if the lease is no longer as `seen`.

        First the old holder's session is killed: its open transaction would hold the checkpoint for up to 90 s.
        """
        self.session = self.client.start_session()
        taken = {"holder": dict(holder), "session": self.session.session_id["id"], "renewals": 0, "released": False}
        with store_errors("the lease"):
            if seen is None:
                return self._first_lease(taken)
            self._kill_session()
            document = self.control.find_one_and_update(
                {"_id": "lease", "epoch": seen.epoch, "renewals": seen.renewals},
                {"$set": {**taken, "epoch": seen.epoch + 1}},
                return_document=ReturnDocument.AFTER,
            )
            return document["epoch"] if document else None

    def renew_lease(self, epoch: int) -> bool:
        with store_errors("the lease"):
            renewed = self.control.update_one({"_id": "lease", "epoch": epoch}, {"$inc": {"renewals": 1}})
        return bool(renewed.matched_count)

    def release_lease(self, epoch: int) -> None:
        with store_errors("the lease"):
            self.control.update_one({"_id": "lease", "epoch": epoch}, {"$set": {"released": True}})

    def open_serving(self, epoch: int) -> DocumentStore | None:
        """The build that serves, fenced for `epoch`; None if there is none yet. Raises StandDown."""
        with store_errors("the serving build"):
            serving = self.control.find_one({"_id": SERVING_ID})
        return self._open(serving["build"], epoch) if serving else None

    def create_build(self, epoch: int) -> DocumentStore:
        """A new, empty build; what earlier attempts left unfinished is dropped."""
        with store_errors("a new build"):
            for document in list(self.control.find({"state": "snapshot"})):
                self._drop(document["build"])
            former = self.position()
            seq = former.checkpoint.seq if former else 0  # it goes on: no version means two things
            build = allocate(self.control, "build")
            self._create_collections(build)
            checkpoint = {
                "build": build,
                "seq": seq,
                "batch_id": secrets.token_hex(8),
                "as_of": LONG_AGO,
                "gtid_set": "",
            }
            self.control.insert_one(
                {"_id": checkpoint_id(build), **checkpoint, "epoch": epoch, "last": None, "state": "snapshot"}
            )
        return self._open(build, epoch)

    def drop_former(self, serving: int) -> list[int]:
        """Drop the builds before the one that served until `serving` took over; readers may still be in that one."""
        with store_errors("former builds"):
            builds = sorted(document["build"] for document in self.control.find({"state": "streaming"}))
            former = [build for build in builds if build < serving][:-1]
            for build in former:
                self._drop(build)
        return former

    def position(self) -> Position | None:
        """Where the serving build is, for `status`: read, not fenced."""
        with store_errors("the checkpoint"):
            serving = self.control.find_one({"_id": SERVING_ID})
            document = self.control.find_one({"_id": checkpoint_id(serving["build"])}) if serving else None
        return Position.decode(document) if document else None

    def cache_epoch(self) -> str | None:
        with store_errors("the serving build"):
            serving = self.control.find_one({"_id": SERVING_ID})
        return serving["epoch"] if serving else None

    def _open(self, build: int, epoch: int) -> DocumentStore:
        """Claim the checkpoint for this lease epoch: from here on no older leader can commit.

        A new leader begins with an empty batch: Redis then refuses what an older one still has in hand, ticks too.
        """
        with store_errors("the checkpoint"):
            document = self.control.find_one_and_update(
                {"_id": checkpoint_id(build), "epoch": {"$lte": epoch}},
                {"$set": {"epoch": epoch}},
                return_document=ReturnDocument.BEFORE,
            )
        if document is None:
            raise StandDown(f"the checkpoint of build {build} is gone or belongs to a newer leader")
        position = replace(Position.decode(document), epoch=epoch)
        documents = DocumentStore(self.client, self.session, position)
        if document["epoch"] != epoch:
            documents.commit(Batch(position.gtid_set), position.checkpoint.as_of)
        return documents

    def _first_lease(self, taken: Mapping[str, Any]) -> int | None:
        with contextlib.suppress(DuplicateKeyError):
            self.control.insert_one({"_id": "lease", **taken, "epoch": 1})
            return 1
        return None

    def _kill_session(self) -> None:
        document = self.control.find_one({"_id": "lease"})
        if document is not None:
            self.database.command({"killSessions": [{"id": document["session"]}]})

    def _create_collections(self, build: int) -> None:
        for collection in COLLECTIONS.values():
            created = self.database[collection.in_build(build)]
            self._create(created.name)
            if collection.indexes:
                created.create_indexes([IndexModel(list(keys)) for keys in collection.indexes])
        journal = self.database[JOURNAL.in_build(build)]
        self._create(journal.name)
        journal.create_index("written_at", expireAfterSeconds=self.journal_hours * 3600)

    def _create(self, name: str) -> None:
        try:
            self.database.create_collection(name)
        except OperationFailure as error:
            if error.code != NAMESPACE_EXISTS:
                raise

    def _drop(self, build: int) -> None:
        self.control.delete_one({"_id": checkpoint_id(build)})
        for collection in (*COLLECTIONS.values(), JOURNAL):
            self.database.drop_collection(collection.in_build(build))
