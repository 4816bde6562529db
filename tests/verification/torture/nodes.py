"""The faults of a torture on a cluster, in place of those of one Redis. Each leaves the cluster whole."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Mapping, Sequence

from ops.stack.cluster import node_client
from ops.stack.servers.redis_cluster import ClusterNode
from reader.read_model.shards import shards
from tests.support.clusters import Cluster, primaries
from tests.support.harness import wait_until
from tests.verification.faults.slots import another_node, cut_off, let_follow, move_at_once, move_key_by_key
from tests.verification.faults.system import stopped
from tests.verification.torture.system import System
from tidemark.redis_url import SHARDS

WAYS_TO_FAIL_OVER: Sequence[list[str]] = ([], ["FORCE"], ["TAKEOVER"])


def kill_node(system: System, chance: random.Random) -> str:
    """At times for longer than it takes to replace a primary."""
    node = _any_node(system, chance)
    node.kill()
    time.sleep(chance.uniform(0.1, 6))
    system.cluster.mend()
    return node.directory.name


def pause_node(system: System, chance: random.Random) -> str:
    node = _any_node(system, chance)
    node.pause()
    time.sleep(chance.uniform(0.3, 6))
    system.cluster.mend()
    return node.directory.name


def fail_over(system: System, chance: random.Random) -> str:
    """As an operator does: with the primary's consent, without it, or without anybody's."""
    slot, way, cluster = _any_slot(chance), chance.choice(WAYS_TO_FAIL_OVER), system.cluster
    replica = cluster.replica(slot)
    with node_client(replica.admin_url) as client:
        client.cluster("FAILOVER", *way)
    wait_until(lambda: replica in _serving(cluster, slot), "the replica to be primary")
    cluster.mend()
    return " ".join([replica.directory.name, *way])


def lose_suffix(system: System, chance: random.Random) -> str:
    """The primary dies when its replica has missed some writes."""
    slot, cluster = _any_slot(chance), system.cluster
    primary, replica = cluster.primary(slot), cluster.replica(slot)
    cut_off(primary, replica)
    time.sleep(chance.uniform(0.1, 2))
    primary.kill()
    wait_until(lambda: replica in _serving(cluster, slot), "the replica to be primary")
    let_follow(replica)
    cluster.mend()
    return primary.directory.name


def move_shard(system: System, chance: random.Random) -> str:
    slot, cluster = _any_slot(chance), system.cluster
    target = chance.choice([known.node for known in primaries(cluster.servers) if not known.has(slot)])
    ways = [move_key_by_key, *([move_at_once] if cluster.servers.engine == "valkey" else [])]
    way = chance.choice(ways)
    way(cluster, slot, target)
    return f"{way.__name__} to {target.directory.name}"


def change_nodes(system: System, chance: random.Random) -> str:
    """Another node comes, has a shard for a while, and goes."""
    slot, cluster = _any_slot(chance), system.cluster
    former = cluster.primary(slot)
    with another_node(cluster) as node:
        move_key_by_key(cluster, slot, node)
        time.sleep(chance.uniform(0.5, 3))
        move_key_by_key(cluster, slot, former)
    return node.directory.name


def restore_node(system: System, chance: random.Random) -> str:
    """Replaces the data folder of a node by a copy that is some seconds old."""
    node, copy = _any_node(system, chance), system.new_folder()
    with stopped(node):
        shutil.copytree(node.data, copy)
    time.sleep(chance.uniform(0.5, 5))
    with stopped(node):
        shutil.rmtree(node.data)
        shutil.copytree(copy, node.data)
    system.cluster.mend()
    return node.directory.name


def restart_all(system: System, chance: random.Random) -> str:
    system.cluster.servers.kill()
    time.sleep(chance.uniform(0.1, 2))
    system.cluster.mend()
    return "all nodes"


def flush(system: System, chance: random.Random) -> str:
    node = chance.choice(primaries(system.cluster.servers)).node
    with node_client(node.admin_url) as client:
        client.flushall()
    return node.directory.name


def _any_node(system: System, chance: random.Random) -> ClusterNode:
    return chance.choice(system.cluster.nodes)


def _any_slot(chance: random.Random) -> int:
    """Of a shard."""
    return chance.choice(shards(SHARDS)).slot


def _serving(cluster: Cluster, slot: int) -> list[ClusterNode]:
    return [known.node for known in primaries(cluster.servers) if known.has(slot)][:1]


FAULTS_OF_NODES: Mapping[str, Callable[[System, random.Random], str]] = {
    "kill_node": kill_node,
    "pause_node": pause_node,
    "failover_node": fail_over,
    "lose_suffix": lose_suffix,
    "move_shard": move_shard,
    "change_nodes": change_nodes,
    "restore_node": restore_node,
    "restart_all": restart_all,
    "flush_node": flush,
}
