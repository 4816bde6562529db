"""Nodes of a Redis or Valkey Cluster die, pause, change places, come and go, and slots move: under load."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from ops.stack import Stack
from ops.stack.cluster import node_client
from ops.stack.servers.redis_cluster import ClusterNode
from reader.read_model.shards import Shard, shard_number, shards
from tests.conftest import empty_stores, service_environment
from tests.support.clusters import Cluster, primaries
from tests.support.harness import wait_until, wait_until_caught_up
from tests.support.traffic import traffic, write_traffic
from tests.verification.faults.slots import another_node, cut_off, let_follow, move_at_once, move_key_by_key
from tests.verification.faults.system import System, running_system
from tests.verification.faults.witness import HITS, POSTS, Read, Witness

SHARDS = shards(16)
AUTHOR = "user:1"  # of all posts that the witness reads
BACK_WITHIN_SECONDS = 5
NOTICED_WITHIN_SECONDS = 1
ENGINES = [pytest.param("redis", marks=pytest.mark.long), "valkey"]


@pytest.fixture(scope="module", params=ENGINES)
def cluster(request: pytest.FixtureRequest, clusters: Callable[[str], Cluster]) -> Cluster:
    found = clusters(request.param)
    found.make_whole()
    return found


@pytest.fixture(scope="module")
def system(shared_stack: Stack, cluster: Cluster) -> Iterator[System]:
    with system_on(shared_stack, cluster) as system:
        yield system


@contextlib.contextmanager
def system_on(stack: Stack, cluster: Cluster) -> Iterator[System]:
    """With the cluster in place of the stack's Redis."""
    empty_stores(stack)
    stack.cluster = cluster.servers
    try:
        with running_system(stack, {**service_environment(stack), **cluster.urls}) as system:
            yield system
    finally:
        stack.cluster = None


@dataclass(frozen=True)
class Loss:
    """A primary that has some posts of the witness, and not their author."""

    node: ClusterNode
    shard: Shard
    posts: frozenset[int]

    @classmethod
    def chosen(cls, cluster: Cluster) -> Loss:
        of_author = cluster.primary(shard_of(AUTHOR).slot)
        for known in primaries(cluster.servers):
            posts = frozenset(post for post in POSTS if known.has(shard_of(f"post:{post}").slot))
            if known.node is not of_author and posts:
                return cls(known.node, shard_of(f"post:{min(posts)}"), posts)
        raise AssertionError("no node has posts and not their author")


def shard_of(key: str) -> Shard:
    return SHARDS[shard_number(key, len(SHARDS))]


def replaced(cluster: Cluster, loss: Loss) -> float:
    """When another primary serves the lost shard."""

    def another() -> bool:
        now = [known.node for known in primaries(cluster.servers) if known.has(loss.shard.slot)]
        return now != [] and now[0] is not loss.node

    wait_until(another, "another primary")
    return time.monotonic()


def assert_back(witness: Witness, posts: frozenset[int], since: float) -> None:
    """Hits again, of these posts, soon after that moment."""

    def hit() -> Read | None:
        return next((read for read in witness.reads if is_hit(read, posts) and read.at > since), None)

    back = wait_until(hit, "reads from the cache")
    assert back.at - since < BACK_WITHIN_SECONDS


def is_hit(read: Read, posts: frozenset[int]) -> bool:
    return read.post in posts and read.origin in HITS


def assert_only_its_shards_were_away(witness: Witness, loss: Loss, lost: float, found: float) -> None:
    during = [read for read in witness.reads if lost + NOTICED_WITHIN_SECONDS < read.at < found]
    others = [read for read in during if read.post not in loss.posts]
    hits = [read for read in others if read.origin in HITS]
    assert len(hits) > 0.8 * len(others) > 0, (len(hits), len(others))
    moments = [read.as_of for read in hits]
    assert (max(moments) - min(moments)).total_seconds() > (found - lost - NOTICED_WITHIN_SECONDS) / 2
    assert not [read for read in during if is_hit(read, loss.posts)]


def assert_all_is_well(system: System, witness: Witness) -> None:
    """No answer was ever stale, and in the end all stores are equal."""
    witness.wait_until_fresh(system.connection)
    witness.stop()
    system.assert_all_is_well()


@pytest.mark.parametrize("kind", ["killed", pytest.param("paused", marks=pytest.mark.long)])
def test_a_lost_primary_costs_the_hits_of_its_shards_alone(
    system: System, witness: Witness, cluster: Cluster, kind: str
) -> None:
    system.catch_up_and_fill()
    witness.wait_until_fresh(system.connection)
    loss, lost = Loss.chosen(cluster), time.monotonic()
    (loss.node.kill if kind == "killed" else loss.node.pause)()
    found = replaced(cluster, loss)
    assert_back(witness, loss.posts, found)
    assert_only_its_shards_were_away(witness, loss, lost, found)
    cluster.mend()  # the former primary follows its successor
    assert_all_is_well(system, witness)


@pytest.mark.long
def test_a_successor_that_missed_a_suffix_catches_up_from_the_journal(
    system: System, witness: Witness, cluster: Cluster
) -> None:
    before = system.catch_up_and_fill()
    loss = Loss.chosen(cluster)
    replica = cluster.replica(loss.shard.slot)
    cut_off(loss.node, replica)
    write_traffic(system.connection, random.Random(12), 60)
    wait_until_caught_up(system.stack, system.connection)
    loss.node.kill()
    found = replaced(cluster, loss)
    assert_back(witness, loss.posts, found)
    let_follow(replica)
    cluster.mend()
    assert_all_is_well(system, witness)
    assert system.watermark().epoch == before.epoch, "the journal was enough: no new epoch was needed"


def test_a_planned_failover_is_over_within_five_seconds(
    system: System, witness: Witness, cluster: Cluster
) -> None:
    system.catch_up_and_fill()
    witness.wait_until_fresh(system.connection)
    loss = Loss.chosen(cluster)
    with node_client(cluster.replica(loss.shard.slot).admin_url) as client:
        client.cluster("FAILOVER")
    assert_back(witness, loss.posts, replaced(cluster, loss))
    assert_all_is_well(system, witness)


def test_a_shard_moves_to_another_node_and_back_under_load(
    system: System, witness: Witness, cluster: Cluster
) -> None:
    """Key by key; on Valkey 9, back in one step."""
    before = system.catch_up_and_fill()
    loss = Loss.chosen(cluster)
    target = cluster.primary(shard_of(AUTHOR).slot)
    back = move_at_once if cluster.servers.engine == "valkey" else move_key_by_key
    with traffic(system.stack, seed=3):
        for move, to in ((move_key_by_key, target), (back, loss.node)):
            move(cluster, loss.shard.slot, to)
            assert_back(witness, loss.posts, time.monotonic())
    assert_all_is_well(system, witness)
    assert system.watermark().epoch == before.epoch


@pytest.mark.long
def test_a_node_is_added_and_removed_under_load(system: System, witness: Witness, cluster: Cluster) -> None:
    before = system.catch_up_and_fill()
    loss = Loss.chosen(cluster)
    slots = [shard.slot for shard in SHARDS if cluster.primary(shard.slot) is loss.node]
    with traffic(system.stack, seed=4):
        with another_node(cluster) as node:
            for to in (node, loss.node):
                for slot in slots:
                    move_key_by_key(cluster, slot, to)
                assert_back(witness, loss.posts, time.monotonic())
        assert_back(witness, loss.posts, time.monotonic())
    assert_all_is_well(system, witness)
    assert system.watermark().epoch == before.epoch


@pytest.mark.long
def test_all_nodes_restart_with_their_entries(system: System, witness: Witness, cluster: Cluster) -> None:
    before = system.catch_up_and_fill()
    cluster.servers.kill()
    cluster.mend()
    assert_back(witness, frozenset(POSTS), time.monotonic())
    assert_all_is_well(system, witness)
    assert system.watermark().epoch == before.epoch


@pytest.mark.long
def test_a_node_without_memory_stops_neither_its_watermarks_nor_other_nodes(
    system: System, witness: Witness, cluster: Cluster
) -> None:
    before = system.catch_up_and_fill()
    witness.wait_until_fresh(system.connection)
    loss = Loss.chosen(cluster)
    with full_memory(loss.node):
        write_traffic(system.connection, random.Random(23), 30)
        witness.wait_until_fresh(system.connection)
        wait_until_caught_up(system.stack, system.connection)
        since = time.monotonic()
        assert_back(witness, frozenset(POSTS) - loss.posts, since)
    witness.stop()
    system.assert_all_is_well()
    assert system.watermark().epoch == before.epoch


@contextlib.contextmanager
def full_memory(node: ClusterNode) -> Iterator[None]:
    """The node refuses every write that may cost memory, except those of scripts that allow it."""
    with node_client(node.admin_url) as client:
        before = {name: str(client.config_get(name)[name]) for name in ("maxmemory-policy", "maxmemory")}
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1)
        try:
            yield
        finally:
            for name, value in before.items():
                client.config_set(name, value)
