"""A transaction on one connection: all its write commands go out before MongoDB's first answer is read.

PyMongo waits for each answer, and it selects a server and checks out a connection for each command. MongoDB
runs the commands of one connection in their order, so a transaction on one connection need not wait. This
uses private methods of PyMongo: `setup.cfg` allows one minor release.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from bson import decode
from pymongo import MongoClient, ReadPreference, message
from pymongo.client_session import ClientSession
from pymongo.client_session_shared import _TxnState
from pymongo.database import Database
from pymongo.errors import PyMongoError
from pymongo.helpers_shared import _check_command_response
from pymongo.monitoring import ConnectionClosedReason
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from binlog_projector.stores.mongodb import BsonDocument

SNAPSHOT, MAJORITY = ReadConcern("snapshot"), WriteConcern("majority")
SENT_BYTES = 64 * 1024  # smaller messages go out together; MongoDB begins with a larger one at once
Request = tuple[BsonDocument, int]  # a write command, and how many documents it must find or make


class Transaction:
    """A transaction of `session` on its connection."""

    def __init__(self, database: Database[BsonDocument], session: ClientSession, connection: Any) -> None:
        self.database = database
        self.client: MongoClient[BsonDocument] = database.client
        self.session = session
        self.connection = connection
        self.fields: BsonDocument = {}  # in each command but the first

    def run(self, requests: Sequence[Request]) -> list[BsonDocument]:
        """The answers in order.

        MongoDB refuses all commands behind one that has ended the transaction. So nothing is checked behind
        the first answer with write errors or with too few documents. Raises the error of a refused command.
        """
        (first, _), *others = requests
        self.session._apply_to(first, False, ReadPreference.PRIMARY, self.connection)
        self.client._send_cluster_time(first, self.session)
        self.session._transaction.set_in_progress()
        self.fields = {name: first[name] for name in ("lsid", "txnNumber", "autocommit")}
        commands = (first, *({**command, **self.fields} for command, _ in others))
        replies = self._replies(self.database.name, commands)
        for reply, (_, must_find) in zip(replies, requests, strict=True):
            _check_command_response(reply, self.connection.max_wire_version)
            if "writeErrors" in reply or reply["n"] < must_find:
                break
        return replies

    def commit(self) -> None:
        """Raises PyMongoError. Then the outcome is not known, and PyMongo's own commit is another attempt."""
        self.session._transaction.attempt += 1
        command = {"commitTransaction": 1, **self.fields, "writeConcern": MAJORITY.document}
        (reply,) = self._replies("admin", [command])
        _check_command_response(reply, self.connection.max_wire_version, parse_write_concern_error=True)
        self.session._transaction.state = _TxnState.COMMITTED

    def _replies(self, database: str, commands: Iterable[BsonDocument]) -> list[BsonDocument]:
        connection = self.connection
        try:
            numbers = self._send(database, commands)
            replies = [
                decode(connection.receive_message(number).raw_command_response()) for number in numbers
            ]
        except BaseException:  # an answer that nobody has read would answer the next command
            connection.close_conn(ConnectionClosedReason.ERROR)
            raise
        self.client._process_response(replies[-1], self.session)
        return replies

    def _send(self, database: str, commands: Iterable[BsonDocument]) -> list[int]:
        """The numbers of the messages."""
        numbers, waiting, largest = [], bytearray(), 0
        for command in commands:
            number, encoded, _, largest_document = message._op_msg(
                0, command, database, None, self.database.codec_options, self.connection.compression_context
            )
            numbers.append(number)
            waiting += encoded
            largest = max(largest, largest_document)
            if len(waiting) >= SENT_BYTES:
                self.connection.send_message(waiting, largest)
                waiting = bytearray()
        if waiting:
            self.connection.send_message(waiting, largest)
        return numbers


@contextlib.contextmanager
def transaction(database: Database[BsonDocument], session: ClientSession) -> Iterator[Transaction]:
    """Commits at the block's end, and again if the outcome is not known. An exception in the block aborts."""
    with (
        session.start_transaction(SNAPSHOT, MAJORITY),
        database.client._conn_for_writes(session, "update") as connection,
    ):
        begun = Transaction(database, session, connection)
        yield begun
        with contextlib.suppress(PyMongoError):
            begun.commit()
