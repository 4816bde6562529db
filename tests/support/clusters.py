"""A running Redis or Valkey Cluster with the services' accounts, and its nodes by their present roles."""

from __future__ import annotations

import contextlib
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from redis.exceptions import RedisError

from ops.stack.accounts.create import ACCOUNTS
from ops.stack.accounts.given import make_given_accounts
from ops.stack.cluster import node_client
from ops.stack.servers.redis_cluster import ClusterNode, RedisCluster
from ops.stack.urls import with_account


@dataclass(frozen=True)
class Known:
    """A node's own view of itself. `primary_id`: "-" of a primary."""

    node: ClusterNode
    id: str
    primary_id: str
    epoch: int
    slots: list[range]

    @classmethod
    def of(cls, node: ClusterNode) -> Known:
        """Raises RedisError."""
        with node_client(node.admin_url) as client:
            views = client.cluster("NODES").values()
        own = next(view for view in views if "myself" in view["flags"])
        slots = [range(int(bounds[0]), int(bounds[-1]) + 1) for bounds in own["slots"]]
        return cls(node, own["node_id"], own["master_id"], int(own["epoch"]), slots)

    def has(self, slot: int) -> bool:
        return any(slot in part for part in self.slots)


def known_of(servers: RedisCluster) -> list[Known]:
    """Of each node that answers. After a failover, a lost primary has the lower epoch and comes later."""
    found = []
    for node in servers.nodes.values():
        if node.identity is not None and node.is_running() and not node.identity.is_paused():
            with contextlib.suppress(RedisError):
                found.append(Known.of(node))
    return sorted(found, key=lambda known: -known.epoch)


def primaries(servers: RedisCluster) -> list[Known]:
    return [known for known in known_of(servers) if known.primary_id == "-" and known.slots]


@dataclass(frozen=True)
class Cluster:
    """`passwords`: of the services' accounts."""

    servers: RedisCluster
    passwords: dict[str, str]

    @property
    def urls(self) -> dict[str, str]:
        """Variable -> URL of each service."""
        return {
            f"TIDEMARK_{account}_REDIS_URL".upper(): with_account(
                self.servers.admin_url, account, password, "/"
            )
            for account, password in self.passwords.items()
        }

    @property
    def nodes(self) -> list[ClusterNode]:
        return [*self.servers.nodes.values()]

    def primary(self, slot: int) -> ClusterNode:
        """The node that serves the slot."""
        return next(each.node for each in primaries(self.servers) if each.has(slot))

    def replica(self, slot: int) -> ClusterNode:
        """A replica of that node."""
        known = known_of(self.servers)
        primary = next(each.id for each in known if each.has(slot))
        return next(each.node for each in known if each.primary_id == primary)

    def mend(self) -> None:
        """Resumes and starts all nodes, and waits until all see all."""
        for node in self.nodes:
            node.resume()
        self.servers.start()

    def make_whole(self) -> None:
        """The same, and empties them."""
        self.mend()
        for primary in primaries(self.servers):
            with node_client(primary.node.admin_url) as client:
                client.flushall()


@contextlib.contextmanager
def running_cluster(engine: str) -> Iterator[Cluster]:
    """Three primaries and three replicas."""
    with (
        tempfile.TemporaryDirectory(prefix="tidemark-cluster-") as folder,
        started(RedisCluster(Path(folder), engine)) as cluster,
    ):
        yield cluster


@contextlib.contextmanager
def started(servers: RedisCluster) -> Iterator[Cluster]:
    """New nodes, made one cluster as `python -m ops.stack accounts` does."""
    cluster = Cluster(servers, {account: secrets.token_urlsafe(18) for account in ACCOUNTS["redis"]})
    try:
        servers.launch()
        make_given_accounts({"redis": servers.admin_url}, cluster.urls)
        yield cluster
    finally:
        servers.kill()
