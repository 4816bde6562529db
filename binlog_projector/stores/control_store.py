"""MongoDB's control collection: which builds exist, which one serves, and how one is opened for writing."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pymongo import IndexModel, MongoClient, ReturnDocument
from pymongo.errors import OperationFailure

from binlog_projector.domain.batch import Batch
from binlog_projector.errors import NotEnoughDisk, OtherModel, StandDown
from binlog_projector.stores.document_store import DocumentStore
from binlog_projector.stores.lease_store import LeaseStore
from binlog_projector.stores.mongodb import BsonDocument, store_errors
from reader.read_model.control import (
    ALLOCATIONS_ID,
    CONTROL,
    DROPPED,
    LEADING_ID,
    LONG_AGO,
    NOBODY,
    SERVING_ID,
    SNAPSHOT,
    STREAMING,
    UNNAMED_MODEL,
    Checkpoint,
    Position,
    checkpoint_id,
    epoch_field,
)
from reader.read_model.declarations import COLLECTIONS, MODEL_VERSION

NAMESPACE_EXISTS = 48


@dataclass(frozen=True)
class Needs:
    """The needs of one more build: the disk of the serving one, and its time per row."""

    rows: int
    seconds: float
    disk_bytes: int
    free_bytes: int  # on MongoDB's disk

    def demand(self) -> None:
        """Raises NotEnoughDisk."""
        if self.free_bytes < self.disk_bytes:
            raise NotEnoughDisk(
                f"a second build needs about {self.disk_bytes >> 20} MiB of MongoDB's disk, "
                f"and {self.free_bytes >> 20} MiB are left: make room"
            )


def demand_own_model(checkpoint: Checkpoint) -> None:
    """Raises OtherModel."""
    if checkpoint.model_version != MODEL_VERSION:
        raise OtherModel(
            f"build {checkpoint.build} is of read-model version {checkpoint.model_version}, and this release "
            f"has {MODEL_VERSION}: run `python -m binlog_projector rebuild` of the release that is to go on"
        )


class ControlStore:
    """Reads and compare-and-sets of the control collection. Raises StoreUnavailable."""

    def __init__(
        self,
        client: MongoClient[BsonDocument],
        journal_hours: int,
        lease: str = LEADING_ID,
        shards: int = 1,
    ) -> None:
        self.client = client
        self.shards = shards  # of the cache
        self.journal_hours = journal_hours
        self.lease = LeaseStore(client, lease)  # builds are written in its session
        self.database = client.get_default_database("tidemark")
        self.control = self.database[CONTROL]

    def open_serving(self, epoch: int, *, to_replace: bool = False) -> DocumentStore | None:
        """The build that serves, fenced for `epoch`. None if there is none yet.

        Raises StandDown, and OtherModel for one of another read-model version: that can only be replaced.
        """
        with store_errors("the serving build"):
            self._expire_journal()
            serving = self.control.find_one({"_id": SERVING_ID})
        return self.open_build(serving["build"], epoch, of_any_model=to_replace) if serving else None

    def create_build(self, epoch: int) -> DocumentStore:
        """A new, empty build. Drops the unfinished builds of earlier attempts.

        A build that is filled beside a serving one has `epoch` 0, so that any leader may claim it.
        """
        self.drop_unfinished()
        with store_errors("a new build"):
            former = self.position()
            seq = former.checkpoint.seq if former else 0  # numbers go on: a version is never used twice
            build = self._next_number()
            self._create_collections(build)
            begun = Position(Checkpoint(build, seq, secrets.token_hex(8), LONG_AGO, ""), epoch, None)
            self.control.insert_one(begun.first_document())
        return self.open_build(build, epoch)

    def unfinished(self) -> list[int]:
        """Builds that have never served. One may be under way, the others were left behind."""
        return self._builds({"state": {"$in": [SNAPSHOT, DROPPED]}})

    def drop_unfinished(self, *builds: int) -> list[int]:
        """Drop the unfinished among `builds`, or all. Only for the holder of the lease for making builds."""
        unfinished = [build for build in self.unfinished() if build in builds or not builds]
        return [build for build in unfinished if self._drop(build, {"state": {"$ne": STREAMING}})]

    def drop_retired(self, grace_seconds: float) -> list[int]:
        """Drop builds that stopped serving so long ago, by MongoDB's clock: nobody reads them any more."""
        age = {"$subtract": ["$$NOW", "$retired_at"]}
        retired = {"retired_at": {"$exists": True}}
        builds = self._builds({**retired, "$expr": {"$gte": [age, grace_seconds * 1000]}})
        return [build for build in builds if self._drop(build, retired)]

    def _builds(self, query: BsonDocument) -> list[int]:
        builds = {"_id": {"$type": "string"}, "build": {"$exists": True}, **query}  # past the journal
        with store_errors("the builds"):
            return sorted(document["build"] for document in self.control.find(builds))

    def _drop(self, build: int, condition: BsonDocument) -> bool:
        """Drop a build only under `condition`, which a switch to this build ends.

        First the build is fenced: a process that still writes to it stands down. Its checkpoint goes last,
        so that an interrupted drop is found again.
        """
        with store_errors("dropping a build"):
            nobody = {epoch_field(version): NOBODY for version in (UNNAMED_MODEL, MODEL_VERSION)}
            claimed = {"$set": {"state": DROPPED, **nobody}}
            if not self.control.update_one({"_id": checkpoint_id(build), **condition}, claimed).matched_count:
                return False
            for collection in COLLECTIONS.values():
                self.database.drop_collection(collection.in_build(build))
            self.control.delete_one({"_id": checkpoint_id(build)})
        return True

    def needs(self, build: int) -> Needs:
        """The needs of another build beside `build`."""
        with store_errors("the size of the read model"):
            names = [collection.in_build(build) for collection in COLLECTIONS.values()]
            sizes = [self.database.command("collStats", name) for name in names]
            disk = self.database.command("dbStats")
            copied = (self.control.find_one({"_id": checkpoint_id(build)}) or {}).get("copied")
        rows = sum(size["count"] for size in sizes)
        rate = copied["seconds"] / max(1, copied["rows"]) if copied else 0.0
        return Needs(
            rows,
            rows * rate,
            sum(size["storageSize"] + size["totalIndexSize"] for size in sizes),
            int(disk["fsTotalSize"] - disk["fsUsedSize"]),
        )

    def position(self) -> Position | None:
        """The serving build's position, for `status`: read without fencing."""
        with store_errors("the checkpoint"):
            serving = self.control.find_one({"_id": SERVING_ID})
            document = self.control.find_one({"_id": checkpoint_id(serving["build"])}) if serving else None
        return Position.decode(document) if document else None

    def cache_epoch(self) -> str | None:
        with store_errors("the serving build"):
            serving = self.control.find_one({"_id": SERVING_ID})
        return serving["epoch"] if serving else None

    def open_build(self, build: int, epoch: int, *, of_any_model: bool = False) -> DocumentStore:
        """Claim the checkpoint for this lease epoch: from now on no older leader can commit.

        A new leader begins with an empty batch. So Redis refuses batches and ticks of an older one.
        Raises OtherModel.
        """
        with store_errors("the checkpoint"):
            document = self.control.find_one({"_id": checkpoint_id(build)})
            if document is not None:
                former = Position.decode(document)
                if not of_any_model:
                    demand_own_model(former.checkpoint)
                document = self._claim(former, epoch)
        if document is None:
            raise StandDown(f"the checkpoint of build {build} is gone or belongs to a newer leader")
        former = Position.decode(document)
        position = replace(former, epoch=epoch)
        documents = DocumentStore(self.client, self.lease.session, position, self.journal_hours, self.shards)
        if former.epoch != epoch:
            documents.commit(Batch(position.gtid_set), position.checkpoint.as_of)
        return documents

    def _claim(self, former: Position, epoch: int) -> BsonDocument | None:
        """The checkpoint before the claim. None if it belongs to a newer leader."""
        return self.control.find_one_and_update(
            {"_id": checkpoint_id(former.checkpoint.build), former.epoch_field: {"$lte": epoch}},
            {"$set": {former.epoch_field: epoch}},
            return_document=ReturnDocument.BEFORE,
        )

    def _expire_journal(self) -> None:
        """One TTL index serves all entries: each has its own time. commitQuorum: a node may be down."""
        self.control.create_indexes([IndexModel("expires_at", expireAfterSeconds=0)], commitQuorum="majority")

    def _next_number(self) -> int:
        """The number of the next build. MongoDB alone numbers builds."""
        document = self.control.find_one_and_update(
            {"_id": ALLOCATIONS_ID}, {"$inc": {"build": 1}}, upsert=True, return_document=ReturnDocument.AFTER
        )
        assert document is not None
        return int(document["build"])

    def _create_collections(self, build: int) -> None:
        for collection in COLLECTIONS.values():
            created = self.database[collection.in_build(build)]
            self._create(created.name, collection.options)
            if collection.indexes:
                created.create_indexes([IndexModel(list(keys)) for keys in collection.indexes])

    def _create(self, name: str, options: Mapping[str, Any]) -> None:
        try:
            self.database.create_collection(name, **options)
        except OperationFailure as error:
            if error.code != NAMESPACE_EXISTS:
                raise
