"""A projector process on a stack of its own, measured from outside: its begin, and the end of a backlog."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pymysql
import redis
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.database import Database

from binlog_projector.domain.projections import COUNTERS, PROJECTIONS, Counter
from ops.child import Child
from ops.stack import Stack
from ops.stack.progress import say
from ops.stack.servers.ports import LOOPBACK, free_port
from ops.stack.servers.process import stop_processes
from ops.stack.urls import mysql_arguments
from perf.procfs import cpu_seconds, peak_rss_mib
from perf.projector.replay import CACHE_GB, set_mongodb_cache
from perf.projector.workload import NOT_DURABLE
from reader.read_model.cached_values import WATERMARK_KEY, Watermark
from reader.read_model.control import CONTROL, SERVING_ID
from reader.read_model.declarations import COLLECTIONS
from tidemark.gtid import GtidSet

STOPPED_WITHIN_SECONDS = 30.0
LOOK_SECONDS = 0.02
CAUGHT_UP_WITHIN_SECONDS = 3600.0


class Projecting:
    """A projector that runs, and the servers it works on."""

    def __init__(self, stack: Stack, child: Child) -> None:
        self.stack = stack
        self.child = child

    def wait_until_caught_up(self) -> float:
        """Wait until Redis has all commits of MySQL; returns the time then (seconds since 1970)."""
        wait_until_caught_up(self.stack, self.check)
        return time.time()

    def check(self) -> None:
        """Raises ServerFailed once it has ended."""
        if not self.child.is_running():
            raise self.child.failure(self.child.end())

    def logged(self, event: str) -> float:
        """When it logged `event` last (seconds since 1970)."""
        lines = self.child.log_path.read_text().splitlines()
        events = [json.loads(line) for line in lines if line.startswith("{")]
        return max(
            datetime.fromisoformat(one["timestamp"]).timestamp() for one in events if one["event"] == event
        )

    @property
    def cpu_s(self) -> float:
        """Processor time of the whole process so far."""
        return round(cpu_seconds(self.child.identity.pid), 1)

    @property
    def peak_rss_mib(self) -> float:
        return peak_rss_mib(self.child.identity.pid)


@contextlib.contextmanager
def backlog_stack() -> Iterator[Stack]:
    """Servers with the tables. MySQL is not durable: the writing of a backlog is not measured."""
    say("starting MySQL, MongoDB and Redis")
    with Stack(mysql_options=NOT_DURABLE) as stack:
        set_mongodb_cache(stack, CACHE_GB)
        _child(stack, "migrate", ("writer", "migrate")).finish(60)
        yield stack


@contextlib.contextmanager
def projecting(stack: Stack) -> Iterator[Projecting]:
    """A projector until the end of the block."""
    child = _child(stack, "projector", ("binlog_projector", "run"))
    try:
        yield Projecting(stack, child)
    finally:
        stop_processes([child.identity], STOPPED_WITHIN_SECONDS)
        child.is_running()  # reaps it


def wait_until_caught_up(stack: Stack, check: Callable[[], None] = lambda: None) -> None:
    """Wait until Redis has all present commits of MySQL. `check` raises when the projector has ended."""
    url = stack.environment()["TIDEMARK_PROJECTOR_MYSQL_URL"]
    with pymysql.connect(**mysql_arguments(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT @@global.gtid_executed")
        (executed,) = cursor.fetchall()[0]
    deadline = time.monotonic() + CAUGHT_UP_WITHIN_SECONDS
    with redis.Redis.from_url(stack.redis.admin_url) as cache:
        while not projected(cache) >= GtidSet.parse(executed):
            check()
            if time.monotonic() > deadline:
                raise RuntimeError(f"the projector did not catch up in {CAUGHT_UP_WITHIN_SECONDS:.0f} s")
            time.sleep(LOOK_SECONDS)


def _child(stack: Stack, name: str, module: tuple[str, ...]) -> Child:
    admin = {"TIDEMARK_PROJECTOR_ADMIN_BIND": f"{LOOPBACK}:{free_port()}"}
    return Child(name, module, {**stack.environment(), **admin}, stack.directory / f"{name}.log")


def projected(cache: redis.Redis) -> GtidSet:
    """The transactions that Redis has; empty without a watermark."""
    raw = cache.get(WATERMARK_KEY)
    return GtidSet.parse(Watermark.decode(raw).gtid_set if isinstance(raw, bytes) else "")


def counters_are_exact(stack: Stack) -> bool:
    """Whether all counters equal MySQL's own counts, and there are as many documents as rows."""
    url = stack.environment()["TIDEMARK_PROJECTOR_MYSQL_URL"]
    with (
        MongoClient[dict[str, Any]](stack.mongodb.admin_url) as mongodb,
        pymysql.connect(**mysql_arguments(url)) as connection,
        connection.cursor() as cursor,
    ):
        return all(_is_exact(mongodb["tidemark"], cursor, counter) for counter in COUNTERS) and all(
            _is_complete(mongodb["tidemark"], cursor, table) for table in PROJECTIONS
        )


def _is_exact(database: Database[dict[str, Any]], cursor: Any, counter: Counter) -> bool:
    by, table = counter.by, counter.table
    query = f"SELECT {by}, COUNT(*) FROM {table} GROUP BY {by}"  # noqa: S608 - our own names
    cursor.execute(query)
    found = serving(database, counter.collection).find({counter.field: {"$ne": 0}}, {counter.field: 1})
    return {one["_id"]: one[counter.field] for one in found} == dict(cursor.fetchall())


def _is_complete(database: Database[dict[str, Any]], cursor: Any, table: str) -> bool:
    cursor.execute(f"SELECT COUNT(*) FROM {table}")  # noqa: S608 - our own names
    return bool(serving(database, table).count_documents({}) == cursor.fetchone()[0])


def serving(database: Database[dict[str, Any]], name: str) -> Collection[dict[str, Any]]:
    """The collection of the build that serves. Raises RuntimeError."""
    found = database[CONTROL].find_one({"_id": SERVING_ID})
    if found is None:
        raise RuntimeError("there is no read model")
    return database[COLLECTIONS[name].in_build(found["build"])]
