"""A lease in MongoDB: its holder, signs of the holder's life, who asks for it, and the holder's session."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from pymongo import MongoClient, ReturnDocument
from pymongo.errors import DuplicateKeyError

from binlog_projector.stores.mongodb import BsonDocument, store_errors
from reader.read_model.control import CONTROL, LEADING_ID
from reader.read_model.leases import LeaseRecord

Said = Mapping[str, Mapping[str, str]]


class LeaseStore:
    """Reads and compare-and-sets of one lease, which is one document. Raises StoreUnavailable."""

    def __init__(self, client: MongoClient[BsonDocument], name: str = LEADING_ID) -> None:
        self.client = client
        self.database = client.get_default_database("tidemark")
        self.control = self.database[CONTROL]
        self.name = name
        self.session = client.start_session()

    def read(self) -> LeaseRecord | None:
        with store_errors("the lease"):
            document = self.control.find_one({"_id": self.name})
        return LeaseRecord.decode(document) if document else None

    def take(self, seen: LeaseRecord | None, holder: Mapping[str, Any]) -> int | None:
        """The new epoch, or None if the lease is no longer as `seen`.

        First the old holder's session is killed: its open transaction would hold its locks for up to 90 s.
        """
        self.session = self.client.start_session()
        epoch = seen.epoch + 1 if seen else 1
        taken = _taken(LeaseRecord(epoch, holder, self.session.session_id["id"]))
        with store_errors("the lease"):
            if seen is None:
                return epoch if self._first(taken) else None
            self._kill_session()
            document = self.control.find_one_and_update(
                {"_id": self.name, "epoch": seen.epoch, "renewals": seen.renewals},
                taken,
                return_document=ReturnDocument.AFTER,
            )
            return document["epoch"] if document else None

    def renew(self, epoch: int, said: Said) -> LeaseRecord | None:
        """The lease as it is now, or None if it has another holder. `said`: the holder about itself."""
        with store_errors("the lease"):
            document = self.control.find_one_and_update(
                {"_id": self.name, "epoch": epoch},
                {"$inc": {"renewals": 1}, **_alive(said)},
                return_document=ReturnDocument.AFTER,
            )
        return LeaseRecord.decode(document) if document else None

    def release(self, epoch: int, said: Said) -> None:
        alive = _alive(said)
        self._update(epoch, {**alive, "$set": {"released": True, **alive["$set"]}})

    def ask(self, epoch: int, asker: Mapping[str, Any] | None) -> None:
        """Ask the holder of `epoch` to release the lease to `asker`. None withdraws the request."""
        self._update(epoch, {"$set": {"wanted_by": dict(asker) if asker else None}})

    def _update(self, epoch: int, update: BsonDocument) -> None:
        with store_errors("the lease"):
            self.control.update_one({"_id": self.name, "epoch": epoch}, update)

    def _first(self, taken: BsonDocument) -> bool:
        with contextlib.suppress(DuplicateKeyError):
            self.control.update_one({"_id": self.name, "epoch": {"$exists": False}}, taken, upsert=True)
            return True
        return False

    def _kill_session(self) -> None:
        document = self.control.find_one({"_id": self.name})
        if document is not None:
            self.database.command({"killSessions": [{"id": LeaseRecord.decode(document).session}]})


def _taken(record: LeaseRecord) -> BsonDocument:
    times = {"tenure.taken_at": True, "tenure.renewed_at": True}
    own = {"tenure.epoch": record.epoch, "tenure.said": {}}
    return {"$set": {**record.encode(), **own}, "$currentDate": times}


def _alive(said: Said) -> BsonDocument:
    return {"$set": {"tenure.said": said}, "$currentDate": {"tenure.renewed_at": True}}
