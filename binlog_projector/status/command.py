"""`python -m binlog_projector status`: one sentence, and below it the leader and each server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from binlog_projector.leading.health import shards_named
from binlog_projector.leading.lease import name_of
from binlog_projector.status.looks import Away, Look, MongoDb, MySql, Redis
from binlog_projector.status.verdict import as_of_of, away_since, lag_seconds, reached, said, verdict


def as_json(look: Look) -> dict[str, Any]:
    """Unknown values are null."""
    lease, position, watermark = look.lease, look.position, look.watermark
    checkpoint = position.checkpoint if position else None
    missing, found = look.missing("mongodb"), verdict(look)
    return {
        "ok": found.ok,
        "sentence": found.sentence,
        "leader": look.leads if isinstance(look.mongodb, MongoDb) else None,
        "holder": name_of(lease.holder) if lease else None,
        "epoch": lease.epoch if lease else None,
        "leader_since": _utc(lease.tenure.taken_at) if lease and lease.tenure else None,
        "lease_age_seconds": look.lease_age_seconds,
        "build": checkpoint.build if checkpoint else None,
        "seq": checkpoint.seq if checkpoint else None,
        "as_of": checkpoint.as_of if checkpoint else None,
        "gtid_set": checkpoint.gtid_set if checkpoint else None,
        "caught_up": None if missing is None else not missing,
        "missing": None if missing is None else str(missing),
        "lag_seconds": {store: lag_seconds(look, store) for store in look.gtid_sets},
        "rows_of": position.rows_of if position else {},
        "cache_epoch": watermark.epoch if watermark else None,
        "cache_seq": watermark.seq if watermark else None,
        "cache_as_of": watermark.as_of if watermark else None,
        "cache_cluster_time": watermark.cluster_time if watermark else None,
        "cache_missing": None if (lacks := look.missing("redis")) is None else str(lacks),
        "shards": _shards(look.redis) if isinstance(look.redis, Redis) else None,
        "announces": look.redis.announces if isinstance(look.redis, Redis) else None,
        "swap": said(look, "swap") or None,
        "away": {name: why.reason for name, why in _answers(look) if isinstance(why, Away)},
        "away_since": {server: since for server, since in _away_since(look)},
    }


def lines(look: Look) -> Iterator[str]:
    """For people."""
    yield verdict(look).sentence
    yield ""
    yield f"leader    {_leader(look)}"
    if swap := said(look, "swap"):
        yield f"swap      {swap}"
    for address, one in look.mysql.items():
        yield f"mysql     {address} {_mysql(look, one, look.milliseconds[address])}"
    yield f"mongodb   {_store(look, 'mongodb', look.mongodb)}"
    yield f"redis     {_store(look, 'redis', look.redis)}"
    if isinstance(look.redis, Redis) and look.redis.is_cluster:
        yield from _nodes(look.redis)


def _shards(redis: Redis) -> list[dict[str, Any]]:
    """`seq`: the last batch. None: the node is away, or the shard has no watermark."""
    node_of = {shard: node for node, its in redis.nodes.items() for shard in its}
    marks = {shard: redis.watermarks.get(shard) for shard in sorted(node_of)}
    return [
        {
            "shard": shard,
            "node": node_of[shard],
            "seq": mark.seq if mark else None,
            "as_of": mark.as_of if mark else None,
            "away": shard not in redis.watermarks,
        }
        for shard, mark in marks.items()
    ]


def _nodes(redis: Redis) -> Iterator[str]:
    for node, its in redis.nodes.items():
        yield f"          {node} has {shards_named(its)}: {_batches(redis, its)}"


def _batches(redis: Redis, shards: Sequence[int]) -> str:
    """The last ones in the shards of a node."""
    seqs = [mark.seq for shard in shards if (mark := redis.watermarks.get(shard)) is not None]
    if not seqs:
        return "away" if {*shards} <= {*redis.away} else "no watermark"
    least, most = min(seqs), max(seqs)
    return f"batch {most}" if least == most else f"batches {least} to {most}"


def _leader(look: Look) -> str:
    lease, age = look.lease, look.lease_age_seconds
    if not isinstance(look.mongodb, MongoDb):
        return "not known while MongoDB is away"
    if lease is None:
        return "nobody has led yet"
    holder, tenure = f"{name_of(lease.holder)} (epoch {lease.epoch})", lease.tenure
    if tenure is None or age is None:
        return holder if look.leads else f"nobody; the last was {holder}"
    if not look.leads:
        return f"nobody; {holder} was the last, until {_utc(tenure.renewed_at)}"
    return f"{holder} since {_utc(tenure.taken_at)}, lease renewed {age:.1f} s ago"


def _mysql(look: Look, one: MySql | Away, milliseconds: float) -> str:
    if isinstance(one, Away):
        return _is_away(look, "mysql", one)
    kind = ", read-only" if one.read_only else ""
    return f"answers in {milliseconds:.0f} ms{kind}; has {one.executed or 'no transaction'}"


def _store(look: Look, store: str, answer: MongoDb | Redis | Away) -> str:
    if isinstance(answer, Away):
        return _is_away(look, store, answer)
    answers = f"answers in {look.milliseconds[store]:.0f} ms"
    if (at := reached(look, store)) is None:
        return f"{answers}; has no {'read model' if store == 'mongodb' else 'watermark'}"
    has = f"{answers}; build {at.build}, batch {at.seq}, complete as of {at.as_of}"
    missing, lag = look.missing(store), lag_seconds(look, store)
    if missing is None or lag is None:
        return has
    rows_of = look.position.rows_of if look.position and store == "mongodb" else {}
    parts = "".join(f"; has {rows} rows of {gtid}, which goes on" for gtid, rows in rows_of.items())
    return f"{has}, {lag:.1f} s behind MySQL; " + (f"lacks {missing}" if missing else "lacks nothing") + parts


def _is_away(look: Look, server: str, away: Away) -> str:
    """Since when: from the leader; else the last moment that a store has, which is not later."""
    since = away_since(look, server)
    moment = max(as_of_of(look, store) for store in look.gtid_sets)
    last = f"since when is not known; the last projected moment is {moment}" if moment else ""
    when = f"since {since}, says the leader" if since else last or "since when is not known"
    return f"is away ({when}): {away.reason}"


def _answers(look: Look) -> Iterator[tuple[str, object]]:
    yield from look.mysql.items()
    yield from (("mongodb", look.mongodb), ("redis", look.redis))


def _away_since(look: Look) -> Iterator[tuple[str, str | None]]:
    away = {"mysql": look.source, "mongodb": look.mongodb, "redis": look.redis}
    for server, answer in away.items():
        if answer is None or isinstance(answer, Away):
            yield server, away_since(look, server) or None


def _utc(moment: datetime) -> str:
    return f"{moment.isoformat(timespec='seconds')}Z"
