"""Asks MySQL, MongoDB and Redis at once. A server that is away does not keep the others from answering."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC
from functools import partial
from typing import Any, TypeVar

from binlog_projector.errors import CacheUnavailable, ProjectorError, SourceUnavailable, StoreUnavailable
from binlog_projector.mysql.connections import query_row
from binlog_projector.mysql.failover import Servers
from binlog_projector.mysql.freshness import CAUGHT_UP
from binlog_projector.mysql.source import MySqlSource
from binlog_projector.settings import ProjectorSettings
from binlog_projector.status.looks import NO_NODE, Away, Look, MongoDb, MySql, Redis
from binlog_projector.stores import cache, mongodb
from binlog_projector.stores.cache_checks import may_publish
from binlog_projector.stores.cache_topology import address, by_node, find_nodes
from binlog_projector.stores.control_store import ControlStore
from reader.read_model.cached_values import Watermark
from reader.read_model.shards import shards
from tidemark.driver_errors import brief
from tidemark.gtid import GtidSet

T = TypeVar("T")
MYSQL_SECONDS = 3
LOOK_SECONDS = 0.05
UNAVAILABLE = (SourceUnavailable, StoreUnavailable, CacheUnavailable)


def look(settings: ProjectorSettings) -> Look:
    """All answers, after at most some seconds.

    If a projector leads, the stores get CAUGHT_UP to reach what MySQL had at the start. So the answer does
    not depend on commits that came while this was asking.
    """
    sources = Servers.of(settings.mysql_url, settings.server_id, settings.retention_hours).sources
    questions: dict[str, Callable[[], MySql | MongoDb | Redis]] = {
        **{source.address: partial(_mysql, source) for source in sources},
        "mongodb": partial(_mongodb, settings),
        "redis": partial(_redis, settings),
    }
    with ThreadPoolExecutor(len(questions)) as pool:
        answers: dict[str, tuple[Any, float]] = dict(
            zip(questions, pool.map(_timed, questions.values()), strict=True)
        )
    first = Look(
        {source.address: answers[source.address][0] for source in sources},
        answers["mongodb"][0],
        answers["redis"][0],
        {name: milliseconds for name, (_, milliseconds) in answers.items()},
    )
    settled = _settled(settings, first) if first.leads else first
    again = [each for each in sources if isinstance(first.mysql[each.address], MySql)]
    return replace(settled, mysql_later={each.address: _timed(partial(_mysql, each))[0] for each in again})


def reason(error: ProjectorError) -> str:
    """The driver's words, in brief."""
    cause = error.__cause__
    return brief(cause.args[-1] if cause and cause.args else error)


def _settled(settings: ProjectorSettings, look: Look) -> Look:
    begun = time.monotonic()
    while not look.is_settled and look.waited < CAUGHT_UP.total_seconds():
        time.sleep(LOOK_SECONDS)
        if look.missing("mongodb"):
            look = replace(look, mongodb=_timed(partial(_mongodb, settings))[0])
        if look.missing("redis"):
            look = replace(look, redis=_timed(partial(_redis, settings))[0])
        look = replace(look, waited=time.monotonic() - begun)
    return look


def _timed(question: Callable[[], T]) -> tuple[T | Away, float]:
    begun = time.monotonic()
    try:
        answer: T | Away = question()
    except UNAVAILABLE as error:
        answer = Away(reason(error))
    return answer, (time.monotonic() - begun) * 1000


def _mysql(source: MySqlSource) -> MySql:
    statement = "SELECT NOW(6), @@global.gtid_executed, @@global.gtid_purged, @@global.read_only"
    with source.session(connect_timeout=MYSQL_SECONDS, read_timeout=MYSQL_SECONDS) as connection:
        now, executed, purged, read_only = query_row(connection, statement)
    return MySql(now.replace(tzinfo=UTC), GtidSet.parse(executed), GtidSet.parse(purged), bool(read_only))


def _mongodb(settings: ProjectorSettings) -> MongoDb:
    with mongodb.connect(settings.mongodb_url) as client:
        now = mongodb.clock(client)
        control = ControlStore(client, settings.journal_hours)
        return MongoDb(now, control.lease.read(), control.position())


def _redis(settings: ProjectorSettings) -> Redis:
    """Raises CacheUnavailable if no node answers."""
    every = shards(settings.redis_url.shards)
    nodes = find_nodes(settings.redis_url)
    marks: dict[int, Watermark | None] = {}
    announces, failure = True, None
    for node, its in by_node(nodes).items():
        try:
            with cache.connect(node) as client:
                marks |= {shard: cache.read_watermark(client, every[shard]) for shard in its}
                announces &= may_publish(client, every[its[0]])
        except CacheUnavailable as error:
            failure = error
    if failure is not None and not marks:
        raise failure
    known = {address(node): its for node, its in by_node(nodes).items()}
    unserved = [shard.number for shard in every if shard.number not in nodes]
    return Redis(known | ({NO_NODE: unserved} if unserved else {}), dict(sorted(marks.items())), announces)
