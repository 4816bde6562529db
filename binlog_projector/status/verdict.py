"""The meaning of a look: one sentence, and whether a person has something to do. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from binlog_projector.errors import PositionLost, SourceBehind
from binlog_projector.leading.health import REDIS_AWAY, away_in_part, shards_named
from binlog_projector.mysql.history import demand_history
from binlog_projector.status.looks import Away, Look, MongoDb, Redis
from reader.read_model.cached_values import Watermark
from reader.read_model.control import Checkpoint
from tidemark.admin import OK

ALL_WELL = "all well"
STAGES = {"mysql": "source", "mongodb": "mongodb", "redis": "redis"}  # server -> the leader's word for it
STOPPED = "stopped: "
AWAY = "away: "
COMPARING = "comparing: "
REBUILD = "run `python -m binlog_projector rebuild`"


@dataclass(frozen=True)
class Verdict:
    """`problems`: what needs a person, the worst first. `remark`: being behind, which passes by itself."""

    problems: tuple[str, ...]
    remark: str

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def sentence(self) -> str:
        return "; ".join(self.problems) or self.remark or ALL_WELL


def verdict(look: Look) -> Verdict:
    return Verdict(
        (*_servers(look), *_position(look), *_leader(look)), "; ".join((*_held(look), *_behind(look)))
    )


def _servers(look: Look) -> Iterator[str]:
    if look.source is None:
        yield "MySQL is away: writes fail and nothing new is projected; reads go on"
    for address, one in look.mysql.items():
        if look.source is not None and isinstance(one, Away):
            yield f"MySQL at {address} is away; another server answers"
    redis, mongodb = isinstance(look.redis, Away), isinstance(look.mongodb, Away)
    if redis and mongodb:
        yield "MongoDB and Redis are away: all reads are answered with 503"
    elif mongodb:
        yield "MongoDB is away: nothing is projected; reads come from Redis, all others are answered with 503"
    elif redis:
        yield f"Redis is {REDIS_AWAY}"
    elif look.position is not None and look.watermark is None:
        yield "Redis has no watermark: reads come from MongoDB until a projector fills it"
    elif isinstance(look.redis, Redis):
        yield from _shards(look.redis)


def _shards(redis: Redis) -> Iterator[str]:
    if away := redis.away:
        yield f"a part of Redis is {away_in_part(away)}"
    if (empty := redis.empty) and len(empty) < len(redis.watermarks):
        yield f"Redis has no watermark of {shards_named(empty)}: a projector makes one"


def _position(look: Look) -> Iterator[str]:
    """Whether MySQL can continue from the position, which MongoDB told before."""
    position, source = look.position, look.source_later
    if position is None or source is None:
        return
    try:
        demand_history(source.executed, source.purged, position.gtid_set, position.partials)
    except PositionLost:
        yield f"the position is purged: {REBUILD}"
    except SourceBehind as error:
        yield f"MySQL has lost transactions ({error}): use a server that has them, or {REBUILD}"


def _leader(look: Look) -> Iterator[str]:
    if not isinstance(look.mongodb, MongoDb):
        return
    if not look.leads:
        stopped = said(look, "lease").removeprefix(STOPPED)
        why = f", because the last leader stopped with {stopped}" if stopped else ""
        yield f"nobody projects{why}" if why else "nobody projects: run `python -m binlog_projector run`"
        return
    if look.position is None:
        yield "the first snapshot is under way: reads are answered with 503 until its end"
    for server, stage in STAGES.items():
        trouble = said(look, stage)
        if trouble.startswith(AWAY) and server not in _away(look):
            yield f"the leader has no connection to {stage}: {trouble.removeprefix(AWAY)}"


def _held(look: Look) -> Iterator[str]:
    comparing = said(look, "source")
    if look.leads and comparing.startswith(COMPARING):
        yield f"the leader holds the stream until a table is compared: {comparing.removeprefix(COMPARING)}"


def _behind(look: Look) -> Iterator[str]:
    behind = {
        store: lag for store in look.gtid_sets if (lag := lag_seconds(look, store)) and look.missing(store)
    }
    yield from (f"{store} is {lag:.0f} s behind MySQL" for store, lag in behind.items())


def _away(look: Look) -> set[str]:
    found = {"mongodb": look.mongodb, "redis": look.redis}
    away = {name for name, answer in found.items() if isinstance(answer, Away)}
    if isinstance(look.redis, Redis) and look.redis.away:
        away.add("redis")
    return away | ({"mysql"} if look.source is None else set())


def said(look: Look, part: str) -> str:
    """The leader's word about a part, "" if there is none or the part is well."""
    state = _of_tenure(look, part, "state")
    return "" if state == OK else state


def away_since(look: Look, server: str) -> str:
    """Since when a server is away, in the words of the leader; "" if the leader does not say."""
    stage = STAGES[server]
    return _of_tenure(look, stage, "since") if said(look, stage).startswith(AWAY) and look.leads else ""


def _of_tenure(look: Look, part: str, name: str) -> str:
    tenure = look.lease.tenure if look.lease else None
    return tenure.said.get(part, {}).get(name, "") if tenure else ""


def lag_seconds(look: Look, store: str) -> float | None:
    """How far a store is behind MySQL. None: not known.

    A store that has all that MySQL had at the start is behind by the time that it took to get there.
    """
    missing, as_of = look.missing(store), as_of_of(look, store)
    if missing is None or look.source is None or not as_of:
        return None
    if not missing:
        return round(look.waited, 3)
    behind = look.source.now - datetime.fromisoformat(as_of).astimezone(UTC)
    return round(max(0.0, behind.total_seconds()) + look.waited, 3)


def as_of_of(look: Look, store: str) -> str:
    """The moment (MySQL's clock) up to which a store is complete. "": not known."""
    at = reached(look, store)
    return at.as_of if at else ""


def reached(look: Look, store: str) -> Checkpoint | Watermark | None:
    """How far a store is. None: not known."""
    if store == "redis":
        return look.watermark
    return look.position.checkpoint if look.position else None
