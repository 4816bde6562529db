"""Shared by all users of MongoDB: the connection, and PyMongo's errors as ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from bson.codec_options import TypeDecoder, TypeRegistry
from bson.int64 import Int64
from pymongo import MongoClient
from pymongo.errors import ConfigurationError, ConnectionFailure, OperationFailure

from binlog_projector.errors import StoreUnavailable
from binlog_projector.findings import Finding
from tidemark.driver_errors import brief

BsonDocument = dict[str, Any]
HISTORY, HISTORY_SECONDS = "minSnapshotHistoryWindowInSeconds", 60


class PlainInt(TypeDecoder):
    """Turns PyMongo's own 64-bit type, a subclass of int, into int."""

    bson_type = Int64

    def transform_bson(self, value: Int64) -> int:
        return int(value)


def connect(url: str) -> MongoClient[BsonDocument]:
    """A client that fails within seconds. `j` keeps its default: j=true would wait for a 100 ms timer."""
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
        type_registry=TypeRegistry([PlainInt()]),
        appname="tidemark-projector",
    )


def clock(client: MongoClient[BsonDocument]) -> datetime:
    """The primary's clock, as it stands in documents: UTC without a time zone."""
    with store_errors("its clock"):
        now: datetime = client.admin.command("hello")["localTime"]
    return now


def check_replica_set(client: MongoClient[BsonDocument]) -> Finding:
    """Transactions need a replica set; one node is enough."""
    with store_errors("its topology"):
        name = client.admin.command("hello").get("setName", "")
    remedy = "start mongod with --replSet and run rs.initiate()"
    return Finding("mongodb replica set", bool(name), name or "none", "a replica set", remedy)


def check_history(client: MongoClient[BsonDocument]) -> list[Finding]:
    """For how long batches and fills can be read as of their own time. None without the right to look."""
    try:
        found = client.admin.command({"getParameter": 1, HISTORY: 1})[HISTORY]
    except OperationFailure:  # the projector's own account needs no right to read parameters
        return []
    return [
        Finding(
            f"mongodb {HISTORY}",
            found >= HISTORY_SECONDS,
            str(found),
            f"at least {HISTORY_SECONDS} (MongoDB's default is 300)",
            f"db.adminCommand({{setParameter: 1, {HISTORY}: 300}})  // on every node",
            stops=False,
        )
    ]


@contextlib.contextmanager
def store_errors(what: str) -> Iterator[None]:
    """Turn PyMongo's errors into StoreUnavailable, in brief.

    A node that has just started and has no role yet is a ConfigurationError to whoever uses a session.
    """
    try:
        yield
    except (ConfigurationError, ConnectionFailure, OperationFailure) as error:
        raise StoreUnavailable(f"MongoDB does not give {what}: {brief(error)}") from error
