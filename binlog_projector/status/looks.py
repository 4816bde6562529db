"""The answers of MySQL, MongoDB and Redis at one moment, and what follows from them. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from binlog_projector.leading.health import furthest_behind
from binlog_projector.leading.lease import DEAD_AFTER_SECONDS, is_gone
from reader.read_model.cached_values import Watermark
from reader.read_model.control import Position
from reader.read_model.leases import LeaseRecord
from tidemark.gtid import GtidSet


@dataclass(frozen=True)
class Away:
    """A server that does not answer."""

    reason: str


@dataclass(frozen=True)
class MySql:
    """One server. `now`: its clock."""

    now: datetime
    executed: GtidSet
    purged: GtidSet
    read_only: bool


@dataclass(frozen=True)
class MongoDb:
    """The lease, and the serving build's position. `now`: MongoDB's clock."""

    now: datetime
    lease: LeaseRecord | None
    position: Position | None


NO_NODE = "no node"


@dataclass(frozen=True)
class Redis:
    """The nodes of a cluster with their shards, or one server, which has the only shard.

    `nodes`: address, or NO_NODE -> its shards. `watermarks`: of each shard whose node answers; None: it has
    none.
    `announces`: whether the projector may announce batches.
    """

    nodes: Mapping[str, Sequence[int]]
    watermarks: Mapping[int, Watermark | None]
    announces: bool

    @property
    def is_cluster(self) -> bool:
        return sum(map(len, self.nodes.values())) > 1

    @property
    def away(self) -> list[int]:
        """The shards whose node does not answer."""
        return sorted({shard for its in self.nodes.values() for shard in its} - self.watermarks.keys())

    @property
    def empty(self) -> list[int]:
        """The shards without a watermark."""
        return [shard for shard, watermark in self.watermarks.items() if watermark is None]


@dataclass(frozen=True)
class Look:
    """All answers. `mysql` was asked before the stores, and `mysql_later` after them, by address.

    `waited`: how many seconds the stores got to reach what MySQL had at the start.
    """

    mysql: Mapping[str, MySql | Away]
    mongodb: MongoDb | Away
    redis: Redis | Away
    milliseconds: Mapping[str, float]  # of each answer, by name
    waited: float = 0.0
    mysql_later: Mapping[str, MySql | Away] = field(default_factory=dict)

    @property
    def source(self) -> MySql | None:
        return _source(self.mysql)

    @property
    def source_later(self) -> MySql | None:
        return _source(self.mysql_later)

    @property
    def lease(self) -> LeaseRecord | None:
        return self.mongodb.lease if isinstance(self.mongodb, MongoDb) else None

    @property
    def lease_age_seconds(self) -> float | None:
        """Since the last renewal, by MongoDB's clock."""
        if not isinstance(self.mongodb, MongoDb) or self.lease is None or self.lease.tenure is None:
            return None
        return max(0.0, (self.mongodb.now - self.lease.tenure.renewed_at).total_seconds())

    @property
    def leads(self) -> bool:
        lease = self.lease
        if lease is None or lease.released or is_gone(lease.holder):
            return False
        age = self.lease_age_seconds
        return age is None or age <= DEAD_AFTER_SECONDS

    @property
    def position(self) -> Position | None:
        return self.mongodb.position if isinstance(self.mongodb, MongoDb) else None

    @property
    def watermark(self) -> Watermark | None:
        """Of a cluster, that of the shard which is furthest behind."""
        return furthest_behind(self.redis.watermarks.values()) if isinstance(self.redis, Redis) else None

    @property
    def gtid_sets(self) -> dict[str, GtidSet | None]:
        """Store -> all transactions that are in it. None: not known."""
        return {
            "mongodb": self.position.gtid_set if self.position else None,
            "redis": GtidSet.parse(self.watermark.gtid_set) if self.watermark else None,
        }

    def missing(self, store: str) -> GtidSet | None:
        """The transactions that MySQL had at the start, and the store lacks. None: not known."""
        has = self.gtid_sets[store]
        return self.source.executed - has if self.source is not None and has is not None else None

    @property
    def is_settled(self) -> bool:
        return not any(self.missing(store) for store in self.gtid_sets)


def _source(servers: Mapping[str, MySql | Away]) -> MySql | None:
    """The first server that takes writes, else the first that answers."""
    answering = [one for one in servers.values() if isinstance(one, MySql)]
    return next((one for one in answering if not one.read_only), answering[0] if answering else None)
