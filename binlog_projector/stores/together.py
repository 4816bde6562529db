"""Sends all write commands of a transaction before it reads MongoDB's first answer.

PyMongo waits for each answer, and it selects a server and checks out a connection for each command. MongoDB
runs the commands of one connection in their order, so a transaction on one connection need not wait. This
uses private methods of PyMongo: `setup.cfg` allows one minor release.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bson import decode
from pymongo import MongoClient, ReadPreference, message
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.helpers_shared import _check_command_response
from pymongo.monitoring import ConnectionClosedReason

from binlog_projector.stores.mongodb import BsonDocument

SENT_BYTES = 64 * 1024  # smaller messages go out together; MongoDB begins with a larger one at once
Request = tuple[BsonDocument, int]  # a write command, and how many documents it must find or make


def replies_to(
    database: Database[BsonDocument], session: ClientSession, requests: Sequence[Request]
) -> list[BsonDocument]:
    """The answers in order. `session` has begun a transaction.

    MongoDB refuses all commands behind one that has ended the transaction. So nothing is checked behind the
    first answer with write errors or with too few documents. Raises the error of a refused command.
    """
    client: MongoClient[BsonDocument] = database.client
    with client._conn_for_writes(session, "update") as connection:
        try:
            numbers = _send(database, session, connection, [command for command, _ in requests])
            replies = [
                decode(connection.receive_message(number).raw_command_response()) for number in numbers
            ]
        except BaseException:  # an answer that nobody has read would answer the next command
            connection.close_conn(ConnectionClosedReason.ERROR)
            raise
        client._process_response(replies[-1], session)
        for reply, (_, must_find) in zip(replies, requests, strict=True):
            _check_command_response(reply, connection.max_wire_version)
            if "writeErrors" in reply or reply["n"] < must_find:
                break
    return replies


def _send(
    database: Database[BsonDocument],
    session: ClientSession,
    connection: Any,
    commands: Sequence[BsonDocument],
) -> list[int]:
    """The numbers of the messages."""
    first, *others = commands
    session._apply_to(first, False, ReadPreference.PRIMARY, connection)
    database.client._send_cluster_time(first, session)
    session._transaction.set_in_progress()
    same = {name: first[name] for name in ("lsid", "txnNumber", "autocommit")}
    numbers, waiting, largest = [], bytearray(), 0
    for command in (first, *({**other, **same} for other in others)):
        number, encoded, _, largest_document = message._op_msg(
            0, command, database.name, None, database.codec_options, connection.compression_context
        )
        numbers.append(number)
        waiting += encoded
        largest = max(largest, largest_document)
        if len(waiting) >= SENT_BYTES or len(numbers) == len(commands):
            connection.send_message(waiting, largest)
            waiting = bytearray()
    return numbers
