"""`python -m binlog_projector check`: every setting, and whether MySQL can continue from the position."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from binlog_projector.errors import (
    CacheUnavailable,
    PositionLost,
    SourceBehind,
    SourceUnavailable,
    StoreUnavailable,
)
from binlog_projector.findings import Finding
from binlog_projector.leading.health import shards_named
from binlog_projector.mysql.checks import check_source
from binlog_projector.mysql.failover import Servers
from binlog_projector.mysql.source import MySqlSource
from binlog_projector.settings import ProjectorSettings
from binlog_projector.status.asking import reason
from binlog_projector.stores import cache, mongodb
from binlog_projector.stores.cache_checks import check_cache
from binlog_projector.stores.cache_topology import address, by_node, find_nodes
from binlog_projector.stores.control_store import ControlStore
from reader.read_model.control import Position
from reader.read_model.shards import shards
from tidemark.redis_url import RedisUrl


def findings(settings: ProjectorSettings) -> Iterator[Finding]:
    """All findings, also the good ones. A server that is away is a finding, and others are still asked."""
    sources = Servers.of(settings.mysql_url, settings.server_id, settings.retention_hours).sources
    answering = []
    for source in sources:
        try:
            yield from check_source(source, settings.retention_hours)
            answering.append(source)
        except SourceUnavailable as error:
            yield _away(f"mysql {source.address}", reason(error), "TIDEMARK_PROJECTOR_MYSQL_URL")
    try:
        with mongodb.connect(settings.mongodb_url) as client:
            yield mongodb.check_replica_set(client)
            yield from mongodb.check_history(client)
            position = ControlStore(client, settings.journal_hours).position()
        yield from _continues(answering, position)
    except StoreUnavailable as error:
        yield _away("mongodb", reason(error), "TIDEMARK_PROJECTOR_MONGODB_URL")
    try:
        yield from _cache(settings.redis_url)
    except CacheUnavailable as error:
        yield _away("redis", reason(error), "TIDEMARK_PROJECTOR_REDIS_URL")


def _cache(url: RedisUrl) -> Iterator[Finding]:
    nodes, every = find_nodes(url), shards(url.shards)
    if url.cluster:
        unserved = [shard.number for shard in every if shard.number not in nodes]
        found = f"{shards_named(unserved)} without a node" if unserved else "all served"
        yield Finding(
            "redis slots", not unserved, found, "all served", "redis-cli --cluster fix", stops=False
        )
    for node, its in by_node(nodes).items():
        at = f" at {address(node)}" if url.cluster else ""
        try:
            with cache.connect(node) as client:
                for finding in check_cache(client, every[its[0]]):
                    yield replace(finding, name=f"{finding.name}{at}")
        except CacheUnavailable as error:
            yield _away(f"redis{at}", reason(error), "TIDEMARK_PROJECTOR_REDIS_URL")


def _away(server: str, why: str, variable: str) -> Finding:
    return Finding(server, False, f"away: {why}", "a server that answers", f"start it, or correct {variable}")


def _continues(sources: list[MySqlSource], position: Position | None) -> Iterator[Finding]:
    """Whether a server can continue from the position. No finding if no server answers."""
    if not sources:
        return
    refusals = [refusal for source in sources if (refusal := _refusal(source, position))]
    ok = len(refusals) < len(sources)
    fine = "can be continued" if position else "none yet: the first `run` makes a snapshot"
    yield Finding(
        "position",
        ok,
        fine if ok else "; ".join(refusals),
        "one that a server can continue",
        "point the projector at a server that can, or run `python -m binlog_projector rebuild`",
    )


def _refusal(source: MySqlSource, position: Position | None) -> str:
    try:
        if position is not None:
            source.demand_history(position.gtid_set, position.partials)
    except (PositionLost, SourceBehind, SourceUnavailable) as error:
        return f"{source.address}: {error}"
    return ""
