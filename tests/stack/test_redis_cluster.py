"""A Redis and a Valkey Cluster: slots, replicas, accounts, restarts."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError

from ops.stack import Stack, StackError
from ops.stack.accounts.create import create_accounts
from ops.stack.cluster import BUS, SLOTS, node_client
from ops.stack.servers.ports import free_port
from reader.read_model.shards import Shard, shards
from tests.stack.test_command import answer, quick, run
from tests.support.clusters import Cluster, known_of
from tests.support.harness import wait_until
from tidemark.redis_url import RedisUrl

SHARDS = shards(16)
FORBIDDEN = ("READONLY", "CLUSTER NODES", "CLUSTER FAILOVER", "CLUSTER RESET", "FLUSHALL", "CONFIG GET *")


@contextmanager
def client(cluster: Cluster, account: str, shard: Shard) -> Iterator[Redis]:
    """The account's client of the node that serves the shard."""
    url = RedisUrl.parse(cluster.urls[f"TIDEMARK_{account}_REDIS_URL".upper()])
    at = cluster.nodes.index(cluster.primary(shard.slot))
    with node_client(url.nodes[at]) as client:
        yield client


def test_every_slot_has_a_primary_and_a_replica_that_follows(cluster: Cluster) -> None:
    known = known_of(cluster.servers)
    primaries = [each for each in known if each.slots]
    assert sorted(slot for each in primaries for part in each.slots for slot in part) == [*range(SLOTS)]
    assert sorted(each.primary_id for each in known if not each.slots) == sorted(
        each.id for each in primaries
    )
    with client(cluster, "projector", SHARDS[3]) as primary:
        primary.set(SHARDS[3].watermark_key, "1")
    with node_client(cluster.replica(SHARDS[3].slot).admin_url) as replica:
        replica.readonly()
        wait_until(lambda: replica.get(SHARDS[3].watermark_key) == "1", "the key at the replica")


def test_shards_lie_on_every_node_and_accounts_use_all_of_their_names(cluster: Cluster) -> None:
    for shard in SHARDS:
        entry = shard.cache_key("1", "post:1")
        with client(cluster, "projector", shard) as projector, client(cluster, "reader", shard) as reader:
            projector.set(shard.watermark_key, "1")
            projector.set(entry, "value", px=60_000)
            with reader.pubsub() as subscribed:  # type: ignore[no-untyped-call]
                subscribed.ssubscribe(shard.channel)
                assert subscribed.get_message(timeout=5)
                assert projector.spublish(shard.channel, "tide") == 1
            assert reader.mget(entry, shard.watermark_key) == ["value", "1"]
            assert reader.set(entry, "filled", px=60_000)
            with pytest.raises(NoPermissionError):
                reader.set(shard.watermark_key, "2")
            with pytest.raises(NoPermissionError):
                reader.spublish(shard.channel, "forged")
    assert len({cluster.primary(shard.slot).port for shard in SHARDS}) == 3


@pytest.mark.parametrize("account", ["projector", "reader"])
def test_accounts_see_the_slots_and_change_no_node(cluster: Cluster, account: str) -> None:
    for node in RedisUrl.parse(cluster.urls[f"TIDEMARK_{account}_REDIS_URL".upper()]).nodes:
        with node_client(node) as client:
            assert len(client.execute_command("CLUSTER SLOTS")) == 3  # type: ignore[no-untyped-call]
            assert len(client.execute_command("CLUSTER SHARDS")) == 3  # type: ignore[no-untyped-call]
            for command in FORBIDDEN:
                with pytest.raises(NoPermissionError):
                    client.execute_command(*command.split())  # type: ignore[no-untyped-call]


def test_a_cluster_comes_back_from_its_folders_on_other_ports(cluster: Cluster) -> None:
    with client(cluster, "projector", SHARDS[5]) as projector:
        projector.set(SHARDS[5].watermark_key, "1")
    before = {node.port for node in cluster.nodes}
    cluster.servers.kill()
    for node in cluster.nodes:
        node.port = free_port(BUS)
    cluster.servers.start()
    with node_client(cluster.primary(SHARDS[5].slot).admin_url) as admin:
        assert admin.get(SHARDS[5].watermark_key) == "1"
    assert not before & {node.port for node in cluster.nodes}


def test_accounts_are_refused_if_a_node_is_not_named(cluster: Cluster) -> None:
    some = cluster.servers.admin_url.rpartition(",")[0] + "/"
    with pytest.raises(StackError, match="the cluster has 6 nodes, and the URL names 5: name all"):
        create_accounts("redis", some, cluster.passwords)


def test_up_remembers_its_cluster_and_starts_only_the_lost_node(
    tmp_path: Path, shared_stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    stores, nodes = ("mysql", "mongodb"), [f"valkey-{number}" for number in range(1, 7)]
    given = {f"TIDEMARK_{store.upper()}_ADMIN_URL": shared_stack.servers[store].admin_url for store in stores}
    folder = ("--dir", str(tmp_path))
    try:
        first = answer("up", "--valkey-cluster", "3", *folder, **given)
        assert RedisUrl.parse(first["environment"]["TIDEMARK_READER_REDIS_URL"]).shards == 16
        os.kill(first[nodes[1]]["pid"], signal.SIGKILL)
        wait_until(lambda: "partly up" in quick(capsys, "status", *folder)[1], "the stack to be partly up")
        after = answer("up", *folder, **given)
        assert [node for node in nodes if after[node]["pid"] != first[node]["pid"]] == [nodes[1]]
        assert after["environment"] == first["environment"]
        for word in ("one", "two", "three"):
            assert run("shell", *folder, "redis", "SET", word, "1").stdout == "OK\n"
        assert "uses another kind of Redis" in quick(capsys, "up", "--redis-cluster", "3", *folder)[2]
        assert answer("down", *folder)["stopped"] == nodes
    finally:
        quick(capsys, "down", *folder)
        shared_stack.start()  # gives the shared stack's accounts their own passwords again
