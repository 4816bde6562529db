"""The peers of `project` and `snapshot`: the same documents by the simplest loop, and nothing else."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import pymysql
from pymongo import MongoClient, ReplaceOne
from pymongo.collection import Collection
from pymongo.database import Database
from pymysql.cursors import SSDictCursor

from ops.stack import Stack
from ops.stack.progress import say
from ops.stack.urls import mysql_arguments
from perf.projector.projecting import serving
from tidemark.hashtags import hashtags
from writer.schema import TABLES

BULK_ROWS = 4_096
Keys = list[tuple[str, int]]
INDEXES: Mapping[
    str, Sequence[Keys]
] = {  # of the tables that a backlog fills: one for each list that is read
    "posts": ([("author_id", 1), ("_id", -1)], [("hashtags", 1), ("_id", -1)]),
    "comments": ([("post_id", 1), ("_id", -1)],),
    "likes": ([("post_id", 1), ("created_at", -1), ("user_id", -1)],),
}
Document = dict[str, Any]


def plain_bulk(stack: Stack) -> int:
    """Rows per second of upserts in the obvious layout: the primary key as `_id`, an index for each list."""
    say("plain bulk writes")
    with _databases(stack) as (_, plain):
        _create_plain(plain)
        return _upsert((plain[name], some) for name in INDEXES for some in _chunks(_from_mysql(stack, name)))


def plain_bulk_same_layout(stack: Stack) -> int:
    """Rows per second of upserts of the projector's own documents into collections like its own."""
    say("plain bulk writes in the same layout")
    with _databases(stack) as (projected, plain):
        built = {name: serving(projected, name) for name in INDEXES}
        for name, collection in built.items():
            create_like(collection, plain, name)
        return _upsert((plain[name], some) for name in INDEXES for some in _chunks(built[name].find()))


def create_like(collection: Collection[Document], database: Database[Document], name: str) -> None:
    """Create an empty collection with the options, clustering too, and the indexes of another."""
    database.create_collection(name, **collection.options())
    for index in collection.index_information().values():
        if not index.get("clustered") and index["key"] != [("_id", 1)]:
            database[name].create_index(index["key"])


def copy(stack: Stack) -> int:
    """Rows per second from a SELECT of each table to insert_many, one after the other."""
    say("copying by the simplest loop")
    with _databases(stack) as (_, plain):
        _create_plain(plain)
        begun, rows = time.monotonic(), 0
        for name in INDEXES:
            for documents in _chunks(_from_mysql(stack, name)):
                plain[name].insert_many(documents)
                rows += len(documents)
        return round(rows / (time.monotonic() - begun))


LANES: Mapping[str, Callable[[Stack], int]] = {
    "plain_bulk": plain_bulk,
    "plain_bulk_same_layout": plain_bulk_same_layout,
}


@contextlib.contextmanager
def _databases(stack: Stack) -> Iterator[tuple[Database[Document], Database[Document]]]:
    """The read model's, and an empty one."""
    with MongoClient[Document](stack.mongodb.admin_url) as client:
        yield client["tidemark"], client["plain"]
        client.drop_database("plain")


def _create_plain(database: Database[Document]) -> None:
    for name, indexes in INDEXES.items():
        for keys in indexes:
            database[name].create_index(keys)


def _upsert(chunks: Iterable[tuple[Collection[Document], list[Document]]]) -> int:
    """Rows per second of the writes alone: reading the documents does not count."""
    rows, seconds = 0, 0.0
    for collection, documents in chunks:
        begun = time.monotonic()
        writes = [ReplaceOne({"_id": document["_id"]}, document, upsert=True) for document in documents]
        collection.bulk_write(writes, ordered=False)
        seconds += time.monotonic() - begun
        rows += len(documents)
    return round(rows / seconds)


def _from_mysql(stack: Stack, name: str) -> Iterator[Document]:
    """Each row as a document: its columns, times as text, the hashtags of a post."""
    arguments = mysql_arguments(stack.environment()["TIDEMARK_PROJECTOR_MYSQL_URL"])
    key = TABLES[name].primary_key
    with pymysql.connect(**arguments) as connection, connection.cursor(SSDictCursor) as cursor:
        cursor.execute(f"SELECT * FROM {name}")  # noqa: S608 - our own schema
        for row in cursor:
            document = {
                column: f"{value.isoformat()}Z" if isinstance(value, datetime) else value
                for column, value in row.items()
                if (column,) != key
            }
            document["_id"] = row[key[0]] if len(key) == 1 else ":".join(str(row[column]) for column in key)
            if name == "posts":
                document["hashtags"] = hashtags(row["body"])
            yield document


def _chunks(documents: Iterable[Document]) -> Iterator[list[Document]]:
    waiting = iter(documents)
    while some := list(itertools.islice(waiting, BULK_ROWS)):
        yield some
