"""Slots of a cluster that move to another node, nodes that come and go, and a replica that misses writes."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator

from redis import Redis
from redis.exceptions import ResponseError

from ops.stack.accounts.create import create_redis_accounts
from ops.stack.cluster import meet, node_client
from ops.stack.servers.ports import LOOPBACK
from ops.stack.servers.redis import ADMIN
from ops.stack.servers.redis_cluster import ClusterNode
from tests.support.clusters import Cluster, Known, primaries
from tests.support.harness import wait_until

KEYS_AT_ONCE = 3  # few, so that a batch of keys is split between the nodes for a while
MOVED_WITHIN_MS = 5_000


def move_key_by_key(cluster: Cluster, slot: int, target: ClusterNode) -> None:
    """As `redis-cli --cluster reshard` does. Meanwhile the old node redirects (ASK), or says TRYAGAIN."""
    source, to = _serving(cluster, slot), Known.of(target)
    with node_client(source.node.admin_url) as old, node_client(target.admin_url) as new:
        new.cluster("SETSLOT", slot, "IMPORTING", source.id)
        old.cluster("SETSLOT", slot, "MIGRATING", to.id)
        while keys := old.cluster("GETKEYSINSLOT", slot, KEYS_AT_ONCE):
            _migrate(old, target, keys)
        new.cluster("SETSLOT", slot, "NODE", to.id)
        with contextlib.suppress(
            ResponseError
        ):  # it has heard so, and if it has no slot left, it is a replica
            old.cluster("SETSLOT", slot, "NODE", to.id)
    _wait_until_at(cluster, slot, target)


def move_at_once(cluster: Cluster, slot: int, target: ClusterNode) -> None:
    """Valkey 9: the old node sends the slot, and hands it over in one step."""
    source, to = _serving(cluster, slot), Known.of(target)
    with node_client(source.node.admin_url) as old:
        old.cluster("MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", to.id)
    _wait_until_at(cluster, slot, target)


@contextlib.contextmanager
def another_node(cluster: Cluster) -> Iterator[ClusterNode]:
    """A primary without slots and without a replica, with the services' accounts. Slots must leave it."""
    servers = cluster.servers
    name = f"{servers.engine}-{len(servers.nodes) + 1}"
    folder = cluster.nodes[0].directory.with_name(name)
    node = servers.nodes[name] = ClusterNode(folder, servers.engine, password=cluster.nodes[0].password)
    try:
        node.start()
        meet([each.admin_url for each in cluster.nodes])
        seen = len(cluster.nodes)
        wait_until(lambda: all(_sees(each, seen) for each in cluster.nodes), "all to know the new node")
        create_redis_accounts(servers.admin_url, cluster.passwords)
        yield node
    finally:
        gone = Known.of(node).id
        del servers.nodes[name]
        for other in cluster.nodes:
            with node_client(other.admin_url) as client:
                client.cluster("FORGET", gone)
        node.kill()
        shutil.rmtree(folder)  # the next one is another node: for a minute nobody lets this one in again


def cut_off(primary: ClusterNode, replica: ClusterNode) -> None:
    """The replica misses all writes from now on."""
    with node_client(replica.admin_url) as client, node_client(primary.admin_url) as other:
        client.config_set("masterauth", "wrong")
        other.client_kill_filter(_type="replica")


def let_follow(replica: ClusterNode) -> None:
    with node_client(replica.admin_url) as client:
        client.config_set("masterauth", replica.password)


def _migrate(old: Redis, target: ClusterNode, keys: list[str]) -> None:
    login = ("AUTH2", ADMIN, target.password)
    where = (LOOPBACK, target.port, "", 0, MOVED_WITHIN_MS)
    old.execute_command("MIGRATE", *where, *login, "KEYS", *keys)  # type: ignore[no-untyped-call]


def _serving(cluster: Cluster, slot: int) -> Known:
    return next(each for each in primaries(cluster.servers) if each.has(slot))


def _wait_until_at(cluster: Cluster, slot: int, target: ClusterNode) -> None:
    wait_until(lambda: _owners(cluster, slot) == {target.port}, f"all to find slot {slot} at {target.port}")


def _owners(cluster: Cluster, slot: int) -> set[int]:
    """The ports at which the nodes find the slot."""
    found = set()
    for node in cluster.nodes:
        with node_client(node.admin_url) as client:
            ranges = client.execute_command("CLUSTER SLOTS")  # type: ignore[no-untyped-call]
        found |= {port for first, last, (_, port, *_), *_ in ranges if first <= slot <= last}
    return found


def _sees(node: ClusterNode, nodes: int) -> bool:
    with node_client(node.admin_url) as client:
        known, state = client.cluster("NODES").values(), client.cluster("INFO")["cluster_state"]
    return (state, len(known)) == ("ok", nodes) and all(
        each["connected"] and "handshake" not in each["flags"] for each in known
    )
