"""`python -m perf project`: a backlog of single-row transactions into MongoDB and Redis, beside plain bulk writes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import pymysql
import redis
from pymongo import MongoClient, ReplaceOne
from pymysql.cursors import SSDictCursor

from binlog_projector.domain.projections import PROJECTIONS, document_id
from binlog_projector.stores.document_ids import encode_id
from ops.stack import Stack
from ops.stack.progress import say
from ops.stack.urls import mysql_arguments
from perf.dataset import load_posts
from perf.projector.projecting import Projecting, backlog_stack, counters_are_exact, projecting
from perf.projector.workload import add_single_rows
from reader.read_model.cached_values import VALUE_TTL_MS, WATERMARK_KEY, Watermark, cache_key, encode_entity
from reader.read_model.declarations import COLLECTIONS, USER

BULK_ROWS = 4_096
TABLES = ("posts", "comments", "likes")  # that the backlog fills
Database = Any


def project(transactions: int, seed: int) -> dict[str, Any]:
    """Raises StackError, RuntimeError."""
    with backlog_stack() as stack, MongoClient[dict[str, Any]](stack.mongodb.admin_url) as mongodb:
        url = stack.environment()["TIDEMARK_WRITER_MYSQL_URL"]
        load_posts(url, 0, seed)
        with projecting(stack) as before:
            before.wait_until_caught_up()
            _cache_people(stack, mongodb["tidemark"])
        add_single_rows(url, transactions, seed)
        with projecting(stack) as running:
            rate, rss = measure(running, transactions), running.peak_rss_mib
        return {
            "transactions": transactions,
            "ours_rows_per_s": rate,
            "plain_bulk_rows_per_s": _plain_bulk(stack, mongodb["plain"]),
            "peak_rss_mib": round(rss, 1),
            "counters_exact": counters_are_exact(stack),
        }


def measure(running: Projecting, transactions: int) -> int:
    """Rows per second, from the moment that it streams until Redis has the last one."""
    say(f"projecting {transactions} transactions")
    done = running.wait_until_caught_up()
    return round(transactions / (done - running.logged("streaming")))


def _cache_people(stack: Stack, database: Database) -> None:
    """As readers would have: what the backlog touches most is cached, and APPLY has to replace it."""
    with redis.Redis.from_url(stack.redis.admin_url) as cache:
        watermark = Watermark.decode(str(cache.get(WATERMARK_KEY), "ascii"))
        for person in database[COLLECTIONS["users"].in_build(watermark.build)].find():
            key = cache_key(watermark.epoch, USER.key(person["_id"]))
            cache.set(key, encode_entity(USER, person), px=VALUE_TTL_MS)


def _plain_bulk(stack: Stack, database: Database) -> int:
    """Rows per second of what one writes first: the same documents as upserts; no counters, journal, checkpoint."""
    for name in TABLES:
        database.create_collection(name, **COLLECTIONS[name].options)
        for keys in COLLECTIONS[name].indexes:
            database[name].create_index(list(keys))
    rows, seconds = 0, 0.0
    for name in TABLES:
        for documents in _documents(stack, name):
            begun = time.monotonic()
            database[name].bulk_write(
                [ReplaceOne({"_id": document["_id"]}, document, upsert=True) for document in documents],
                ordered=False,
            )
            seconds += time.monotonic() - begun
            rows += len(documents)
    return round(rows / seconds)


def _documents(stack: Stack, name: str) -> Iterator[list[dict[str, Any]]]:
    """All of a table as documents, in chunks."""
    url = stack.environment()["TIDEMARK_PROJECTOR_MYSQL_URL"]
    with pymysql.connect(**mysql_arguments(url)) as connection, connection.cursor(SSDictCursor) as cursor:
        cursor.execute(f"SELECT * FROM {name}")  # noqa: S608 - our own schema
        while rows := list(itertools.islice(cursor, BULK_ROWS)):
            yield [{"_id": encode_id(document_id(name, row)), **PROJECTIONS[name](row)} for row in rows]
