"""Transactions that move a build's checkpoint: fenced by it, retried, and certain of their outcome."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern

from binlog_projector.errors import CheckpointMoved, StandDown, StoreUnavailable
from binlog_projector.fault_points import reached
from binlog_projector.stores.mongodb import BsonDocument, store_errors
from binlog_projector.stores.together import Transaction, transaction
from binlog_projector.stores.writes import FIELD_OF, Write
from reader.read_model.control import CONTROL, Position, checkpoint_id
from tidemark.driver_errors import brief

ATTEMPTS = 5
DUPLICATE_KEY = 11000
TRANSIENT, UNKNOWN = "TransientTransactionError", "UnknownTransactionCommitResult"


class StubMet(StoreUnavailable):
    """A new row met a document of its id, or a change met none. Nothing was written."""


class Command(NamedTuple):
    """One write command. It raises StubMet if it finds or makes fewer than `must_find` documents."""

    name: str
    collection: str
    writes: Sequence[Write]
    must_find: int = 0


class CheckpointedTransactions:
    """One transaction at a time on one build, under one lease epoch.

    Raises StoreUnavailable, CheckpointMoved and StandDown. A transaction that raises has written nothing,
    except after CheckpointMoved: then MongoDB has a batch that is not ours.
    """

    def __init__(self, database: Database[BsonDocument], session: ClientSession, position: Position) -> None:
        self.database = database
        self.session = session
        self.position = position
        self.lock = threading.Lock()

    def move(
        self, to: Position, commands: Sequence[Command] = (), beside: Sequence[Write] = (), **state: Any
    ) -> None:
        """Run `commands`, and move the checkpoint to `to` and `state`. Raises StubMet.

        Each write `beside` the checkpoint in the control collection must find or make one document.
        """
        with self.lock:
            moves = [{"q": exactly(self.position), "u": {"$set": {**to.encode(), **state}}}, *beside]
            self.position = _at(to, self._until_it_is_known(to, moves, commands))

    def hold(self, beside: Sequence[Write]) -> None:
        """Run the writes `beside` the checkpoint where it stands."""
        with self.lock, store_errors("a change beside the checkpoint"):
            held = [{"q": exactly(self.position), "u": {"$inc": {"holds": 1}}}, *beside]
            self.position = _at(self.position, self._attempt(held, ()))

    def tick(self, as_of: str) -> None:
        """Note that the same checkpoint is complete at a later moment."""
        with self.lock:
            with store_errors("the checkpoint's freshness"):
                ticked = {"$set": {"as_of": as_of}}
                result = self.database[CONTROL].update_one(
                    exactly(self.position), ticked, session=self.session
                )
            if not result.matched_count:
                self._refuse(self._linearizable_position())
            ticking = replace(self.position, checkpoint=self.position.checkpoint.at(as_of))
            self.position = _at(ticking, self._time())

    def _until_it_is_known(self, to: Position, moves: Sequence[Write], commands: Sequence[Command]) -> str:
        """Try up to 5 times. On an unknown commit result, read the checkpoint. Returns the cluster time."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._attempt(moves, commands)
            except PyMongoError as error:
                if error.has_error_label(UNKNOWN):
                    return self._settle(to, error)
                if attempt == ATTEMPTS or not error.has_error_label(TRANSIENT):
                    raise StoreUnavailable(
                        f"MongoDB refused batch {to.checkpoint.seq}: {brief(error)}"
                    ) from error
        raise AssertionError("the last attempt returns or raises")

    def _attempt(self, moves: Sequence[Write], commands: Sequence[Command]) -> str:
        asked = [Command("update", CONTROL, moves, len(moves)), *commands]
        with transaction(self.database, self.session) as begun:
            for command, found in zip(asked, _found(begun, asked), strict=True):
                if found < command.must_find and command.collection == CONTROL:
                    self._refuse(self._linearizable_position())
                if found < command.must_find:
                    raise StubMet(f"some of the documents to be updated are not in {command.collection}")
            reached("inside_transaction")
        reached("after_commit")
        return self._time()

    def _settle(self, to: Position, error: PyMongoError) -> str:
        """After an unknown outcome, commit again (idempotent). Then the checkpoint shows the outcome."""
        time = ""
        with contextlib.suppress(PyMongoError):
            self.session.commit_transaction()
            time = self._time()
        actual = self._linearizable_position()
        if (actual.epoch, actual.checkpoint.batch_id) != (to.epoch, to.checkpoint.batch_id):
            self._refuse(actual, error)
        return time

    def _time(self) -> str:
        """The cluster time of the session's last command, which was a write."""
        found = self.session.operation_time
        return f"{found.time}.{found.inc}" if found else ""

    def _refuse(self, actual: Position, cause: Exception | None = None) -> None:
        mine, found = self.position.checkpoint, actual.checkpoint
        if actual.epoch != self.position.epoch:
            raise StandDown(
                f"another projector holds lease epoch {actual.epoch}; ours was {self.position.epoch}"
            )
        if cause is None and (found.seq, found.batch_id) == (mine.seq, mine.batch_id):
            raise StandDown(
                f"another projector has taken over: it wrote beside the checkpoint of build {mine.build}"
            )
        raise CheckpointMoved(
            f"batch {mine.seq} ({mine.batch_id}) is not the last one: "
            f"MongoDB has {found.seq} ({found.batch_id})"
        ) from cause

    def _linearizable_position(self) -> Position:
        build = self.position.checkpoint.build
        control = self.database.get_collection(CONTROL, read_concern=ReadConcern("linearizable"))
        with store_errors("the checkpoint"):
            document = control.find_one({"_id": checkpoint_id(build)}, max_time_ms=10_000)
        if document is None:
            raise StandDown(f"the checkpoint of build {build} is gone")
        return Position.decode(document)


def _found(begun: Transaction, commands: Sequence[Command]) -> Iterator[int]:
    """Run raw write commands, and yield how many documents each found or made.

    PyMongo's own methods cost more, and its bulk writes check and copy each document again.
    Raises StubMet and OperationFailure. After both the transaction is over.
    """
    requests = [
        ({each.name: each.collection, FIELD_OF[each.name]: each.writes, "ordered": False}, each.must_find)
        for each in commands
    ]
    try:
        replies = begun.run(requests)
    except DuplicateKeyError as error:
        raise StubMet(str(error)) from error
    for reply in replies:
        for failed in reply.get("writeErrors", ()):
            raise (
                StubMet(failed["errmsg"])
                if failed["code"] == DUPLICATE_KEY
                else OperationFailure(failed["errmsg"])
            )
        yield int(reply["n"])


def _at(position: Position, cluster_time: str) -> Position:
    """The position with a cluster time at which its checkpoint is MongoDB's."""
    return replace(position, checkpoint=replace(position.checkpoint, cluster_time=cluster_time))


def exactly(position: Position) -> BsonDocument:
    """The query of the compare-and-set. It fails for an old leader, and after another leader's commit."""
    checkpoint = position.checkpoint
    names = {position.epoch_field: position.epoch, "seq": checkpoint.seq, "batch_id": checkpoint.batch_id}
    return {"_id": checkpoint_id(checkpoint.build), **names}
