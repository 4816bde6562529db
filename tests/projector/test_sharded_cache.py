"""The projector and the shards of a cluster: each follows the journal by itself, whatever the others do."""

from __future__ import annotations

import contextlib
import random
import signal
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any

import httpx2
import pytest
from pymongo import MongoClient

from binlog_projector.backoff import Backoff
from binlog_projector.console.vital_signs import VitalSigns
from binlog_projector.domain.batch import Batch
from binlog_projector.domain.mutations import Invalidate
from binlog_projector.errors import CacheUnavailable
from binlog_projector.leading import cache_thread
from binlog_projector.leading.cache_thread import CacheThread, CacheThreads, Committed
from binlog_projector.leading.health import Health, seconds
from binlog_projector.metrics import ProjectorMetrics
from binlog_projector.mysql.connections import Connection
from binlog_projector.stores import mongodb
from binlog_projector.stores.cache_nodes import CacheNode
from binlog_projector.stores.cache_topology import CacheTopology, agreed
from binlog_projector.stores.control_store import ControlStore
from binlog_projector.stores.document_store import DocumentStore
from ops.stack import Stack
from ops.stack.cluster import node_client
from ops.stack.servers.ports import free_port
from ops.stack.servers.redis_cluster import ClusterNode
from reader.read_model.announcements import decode
from reader.read_model.cached_values import Watermark
from reader.read_model.control import SERVING_ID, Checkpoint, JournalEntry, Serving
from reader.read_model.shards import Shard, shard_number, shards
from tests.projector.test_status import ask
from tests.support.caches import caches
from tests.support.clusters import Cluster
from tests.support.harness import (
    Process,
    assert_everything_is_equal,
    process,
    projector,
    projector_environment,
    run_sql,
    wait_until,
    wait_until_caught_up,
)
from tests.support.reader_fills import fill_cache
from tests.support.traffic import write_traffic
from tidemark.redis_url import RedisUrl

COUNT = 16
NOW = "2026-11-23T00:00:00.000000Z"
WELL = {"lease": "ok", "source": "ok", "mongodb": "ok", "redis": "ok"}
Marks = Mapping[int, Watermark]


@pytest.fixture
def cluster(stack: Stack, clusters: Callable[[str], Cluster], monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """In place of the stack's own Redis."""
    found = clusters("redis")
    found.make_whole()
    monkeypatch.setattr(stack, "cluster", found.servers)
    return found


@pytest.fixture
def environment(stack: Stack, cluster: Cluster) -> dict[str, str]:
    bind = f"127.0.0.1:{free_port()}"
    return {**projector_environment(stack), **cluster.urls, "TIDEMARK_PROJECTOR_ADMIN_BIND": bind}


@dataclass(frozen=True)
class Projecting:
    """A projector with a filled cache, and its admin port."""

    running: Process
    admin: httpx2.Client

    def ready(self) -> dict[str, str]:
        found: dict[str, str] = self.admin.get("/readyz").json()
        return found

    def metric(self, name: str) -> float:
        lines = self.admin.get("/metrics").text.splitlines()
        return float(next(line.split()[-1] for line in lines if line.startswith(name)))


@contextlib.contextmanager
def projecting(
    stack: Stack, connection: Connection, environment: Mapping[str, str], *launcher: str
) -> Iterator[Projecting]:
    with projector(environment, *launcher) as running, admin_of(environment) as admin:
        wait_until(lambda: len(marks(stack)) == COUNT, "all watermarks")
        wait_until_caught_up(stack, connection)
        fill_cache(stack)
        yield Projecting(running, admin)


def admin_of(environment: Mapping[str, str]) -> httpx2.Client:
    bind = environment["TIDEMARK_PROJECTOR_ADMIN_BIND"]
    return httpx2.Client(base_url=f"http://{bind}", trust_env=False)


def marks(stack: Stack) -> Marks:
    """Of the shards that have a watermark."""
    with caches(stack) as every:
        raw = {shard.number: client.get(shard.watermark_key) for shard, client in every}
    return {number: Watermark.decode(mark) for number, mark in raw.items() if isinstance(mark, bytes)}


def epochs(stack: Stack) -> dict[int, str]:
    return {number: mark.epoch for number, mark in marks(stack).items()}


def serving(stack: Stack) -> Serving | None:
    document = serving_document(stack)
    return Serving.decode(document) if document else None


def serving_document(stack: Stack) -> dict[str, Any] | None:
    with MongoClient[dict[str, Any]](stack.mongodb.admin_url) as client:
        return client["tidemark"]["control"].find_one({"_id": SERVING_ID})


def held_by(cluster: Cluster, shard: Shard) -> tuple[Sequence[ClusterNode], list[int]]:
    """The primary of a shard and its replica, and all shards that lie there."""
    primary = cluster.primary(shard.slot)
    its = [each.number for each in shards(COUNT) if cluster.primary(each.slot) is primary]
    return (primary, cluster.replica(shard.slot)), its


def mend(cluster: Cluster) -> None:
    for node in cluster.nodes:
        node.resume()
    cluster.servers.start()


def test_every_entry_lies_in_its_shard_and_all_shards_reach_the_checkpoint(
    stack: Stack, connection: Connection, environment: dict[str, str]
) -> None:
    with projecting(stack, connection, environment) as projector:
        write_traffic(connection, random.Random(1), 100)
        wait_until_caught_up(stack, connection)
        assert assert_everything_is_equal(stack, connection) > 50
        found = marks(stack)
        assert len({(mark.seq, mark.batch_id, mark.gtid_set) for mark in found.values()}) == 1
        epochs = tuple(mark.epoch for mark in found.values())
        assert len({*epochs}) == COUNT
        assert serving(stack) == Serving(found[0].build, epochs[0], epochs)
        assert projector.ready() == WELL
        for number in range(COUNT):
            assert projector.metric(f'tidemark_cache_shard_away{{shard="{number}"}}') == 0
    with caches(stack) as every:
        for shard, client in every:
            prefix = shard.cache_key(found[shard.number].epoch, "")
            for key in client.scan_iter(f"{prefix}*", count=1000):
                name = key.decode().removeprefix(prefix)
                assert shard_number(name, COUNT) == shard.number


def test_a_batch_and_a_tick_are_told_in_every_shard(
    stack: Stack, connection: Connection, environment: dict[str, str]
) -> None:
    with projecting(stack, connection, environment), contextlib.ExitStack() as opened, caches(stack) as every:
        listening = {}
        for shard, client in every:
            pubsub = client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
            opened.enter_context(contextlib.closing(pubsub)).ssubscribe(shard.channel)
            listening[shard.number] = pubsub
        named = {f"user:{id}" for id in (1, 2)}
        run_sql(connection, "UPDATE users SET display_name = 'new' WHERE id IN (1, 2)")
        heard: dict[int, list[str]] = {number: [] for number in listening}
        seqs: dict[int, list[int]] = {number: [] for number in listening}

        def told() -> bool:
            for number, pubsub in listening.items():
                while message := pubsub.get_sharded_message():
                    told = decode(message["data"])
                    assert told.to is not None
                    seqs[number].append(told.to.seq)
                    heard[number] += [*told.keys, *told.counted]
            newest = max((seq for each in seqs.values() for seq in each), default=0)
            return all(each.count(newest) > 1 for each in seqs.values()) and any(heard.values())

        wait_until(told, "the batch and a tick in every shard")
    assert {key for keys in heard.values() for key in keys} >= named
    for number, keys in heard.items():
        assert {shard_number(key, COUNT) for key in keys} <= {number}


@pytest.mark.parametrize("fault", ["kill", "pause"])
def test_a_lost_node_holds_up_nothing_but_its_own_shards(
    stack: Stack, connection: Connection, environment: dict[str, str], cluster: Cluster, fault: str
) -> None:
    with projecting(stack, connection, environment) as projector:
        before = epochs(stack)
        nodes, its = held_by(cluster, shards(COUNT)[7])
        for node in nodes:
            getattr(node, fault)()
        try:
            write_traffic(connection, random.Random(3), 60)
            wait_until_caught_up(stack, connection, seconds=5)
            assert marks(stack).keys() == {*range(COUNT)} - {*its}
            away = f"away: reads of shards {', '.join(map(str, its))} come from MongoDB"
            wait_until(lambda: projector.ready() == {**WELL, "redis": away}, "the shards to be missed")
            assert projector.metric("tidemark_projector_lag_seconds") < 3
            assert projector.metric(f'tidemark_cache_shard_away{{shard="{its[0]}"}}') == 1
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(stack, "environment", lambda: environment)
                status, text = ask(stack, "status")
            assert (status, text.splitlines()[0]) == (1, f"a part of Redis is {away}")
        finally:
            mend(cluster)
        wait_until(lambda: projector.ready() == WELL, "all shards")
        wait_until_caught_up(stack, connection)
        assert assert_everything_is_equal(stack, connection) > 50
    assert epochs(stack) == before, "the journal was enough"


@pytest.mark.parametrize("fault", ["killed", "asked"])
def test_a_failover_is_followed_within_seconds(
    stack: Stack, connection: Connection, environment: dict[str, str], cluster: Cluster, fault: str
) -> None:
    """An old primary that lives on answers MOVED."""
    with projecting(stack, connection, environment) as projector:
        before, slot = epochs(stack), shards(COUNT)[7].slot
        primary, replica = cluster.primary(slot), cluster.replica(slot)
        if fault == "killed":
            primary.kill()
        else:
            with node_client(replica.admin_url) as client:
                client.execute_command("CLUSTER FAILOVER")  # type: ignore[no-untyped-call]
        try:
            wait_until(lambda: new_primary(cluster, slot) is replica, "the replica to take over")
            write_traffic(connection, random.Random(4), 30)
            wait_until(lambda: projector.ready() == WELL and len(marks(stack)) == COUNT, "all shards", 8)
            wait_until_caught_up(stack, connection, seconds=8)
            assert assert_everything_is_equal(stack, connection) > 50
        finally:
            mend(cluster)
    assert epochs(stack) == before, "the journal was enough"


def new_primary(cluster: Cluster, slot: int) -> ClusterNode | None:
    try:
        return cluster.primary(slot)
    except StopIteration:
        return None


def test_a_takeover_between_two_applies_of_a_batch_leaves_nothing_stale(
    stack: Stack, connection: Connection, environment: dict[str, str], cluster: Cluster
) -> None:
    faulty = {**environment, "AT": "after_apply:SIGKILL"}
    nodes, its = held_by(cluster, shards(COUNT)[7])
    with projecting(stack, connection, faulty, "tests.support.faulty_projector") as first:
        before = epochs(stack)
        for node in nodes:
            node.pause()
        first.running.popen.send_signal(signal.SIGUSR1)
        run_sql(connection, "UPDATE users SET display_name = 'new'")
        assert first.running.popen.wait(timeout=20) == -signal.SIGKILL
        mend(cluster)
        seqs = {number: mark.seq for number, mark in marks(stack).items()}
        assert max(seqs[number] for number in its) < max(seqs.values()), "the batch is in some shards alone"
    with projector({**environment}):
        wait_until_caught_up(stack, connection)
        assert assert_everything_is_equal(stack, connection) > 50
    assert epochs(stack) == before


def test_an_audit_finds_and_repairs_a_wrong_entry_in_any_shard(
    stack: Stack, connection: Connection, environment: dict[str, str]
) -> None:
    command = ("-m", "binlog_projector", "audit", "--json", "--repair", "--samples", "1000", "--after", "0")
    with projecting(stack, connection, environment):
        wrong = [key for number in range(COUNT) for key in spoil(stack, number)]
        assert len({shard_number(key, COUNT) for key in wrong}) > COUNT / 2
        with process(environment, *command) as audit:
            assert audit.popen.wait(timeout=60) == 0
            (report,) = (event for event in audit.events() if "differences" in event)
        assert sorted(one["name"] for one in report["differences"]) == sorted(wrong)
        wait_until_caught_up(stack, connection)
        assert assert_everything_is_equal(stack, connection) > 50


def spoil(stack: Stack, number: int) -> Iterator[str]:
    """Changes the body of each cached post of a shard. Gives their keys."""
    with caches(stack) as every:
        shard, client = every[number]
        prefix = shard.cache_key(epochs(stack)[number], "")
        for name in client.scan_iter(f"{prefix}post:*", count=1000):
            value = client.get(name)
            assert isinstance(value, bytes) and b"post #" in value
            client.set(name, value.replace(b"post #", b"poem #"), px=3_600_000)
            yield name.decode().removeprefix(prefix)


@contextlib.contextmanager
def unserved(cluster: Cluster, slot: int) -> Iterator[None]:
    """During the block no node serves the slot."""
    primary = cluster.primary(slot)
    try:
        for node in cluster.nodes:
            with node_client(node.admin_url) as client:
                client.execute_command("CLUSTER DELSLOTS", slot)  # type: ignore[no-untyped-call]
        yield
    finally:
        with node_client(primary.admin_url) as client:
            client.execute_command("CLUSTER ADDSLOTS", slot)  # type: ignore[no-untyped-call]
        mend(cluster)


def test_a_slot_that_nobody_serves_holds_up_its_shard_alone(
    stack: Stack, connection: Connection, environment: dict[str, str], cluster: Cluster
) -> None:
    """A projector that begins then."""
    lost = shards(COUNT)[0]
    with contextlib.ExitStack() as until_served:
        until_served.enter_context(unserved(cluster, lost.slot))
        with projector(environment), admin_of(environment) as admin:
            write_traffic(connection, random.Random(5), 30)
            wait_until_caught_up(stack, connection, seconds=15)
            assert marks(stack).keys() == {*range(COUNT)} - {lost.number}
            away = f"away: reads of shard {lost.number} come from MongoDB"
            wait_until(lambda: admin.get("/readyz").json() == {**WELL, "redis": away}, "it to be missed")
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(stack, "environment", lambda: environment)
                assert f"no node has shard {lost.number}: away" in ask(stack, "status")[1]
                assert f"redis slots is 'shard {lost.number} without a node'" in ask(stack, "check")[1]
            until_served.close()
            wait_until(lambda: admin.get("/readyz").json() == WELL, "all shards")
            fill_cache(stack)
            write_traffic(connection, random.Random(6), 30)
            wait_until_caught_up(stack, connection)
            assert assert_everything_is_equal(stack, connection) > 50


@contextlib.contextmanager
def control_of(environment: Mapping[str, str], count: int) -> Iterator[ControlStore]:
    with mongodb.connect(environment["TIDEMARK_PROJECTOR_MONGODB_URL"]) as client:
        yield ControlStore(client, 1, shards=count)


@pytest.fixture
def documents(environment: dict[str, str]) -> Iterator[DocumentStore]:
    """A new build that serves."""
    with control_of(environment, COUNT) as control:
        documents = control.create_build(1)
        documents.serve(None, NOW)
        yield documents


@contextlib.contextmanager
def opened(url: str, documents: DocumentStore) -> Iterator[Sequence[CacheNode]]:
    """The nodes at the checkpoint of the build."""
    nodes = CacheTopology(RedisUrl.parse(url), ProjectorMetrics(), random.Random()).open(documents)
    for node in nodes:
        node.catch_up()
    yield nodes
    for node in nodes:
        node.client.close()


@pytest.fixture
def nodes(environment: dict[str, str], documents: DocumentStore) -> Iterator[Sequence[CacheNode]]:
    with opened(environment["TIDEMARK_PROJECTOR_REDIS_URL"], documents) as nodes:
        yield nodes


def commit(documents: DocumentStore, keys: int = 200) -> JournalEntry:
    """A batch with keys of all shards, if they are many."""
    batch = Batch(documents.position.gtid_set)
    batch.fold(Invalidate(f"post:{id}") for id in range(keys))
    return documents.commit(batch, NOW)


def test_a_shard_without_keys_moves_with_the_batch(
    documents: DocumentStore, nodes: Sequence[CacheNode]
) -> None:
    entry = commit(documents, keys=1)
    for node in nodes:
        node.apply(entry.by_shard(COUNT))
        assert in_step(node, entry) == node.watermarks.keys()


def test_a_refused_shard_leaves_the_others_of_its_node_in_step(
    cluster: Cluster, documents: DocumentStore, nodes: Sequence[CacheNode]
) -> None:
    """As while its slot moves."""
    (node,) = [each for each in nodes if 0 in each.watermarks]
    with unserved(cluster, shards(COUNT)[0].slot):
        entry = commit(documents)
        node.apply(entry.by_shard(COUNT))
        assert in_step(node, entry) == node.watermarks.keys() - {0}
        for stage in node.stages:
            stage.watermark = None
        with pytest.raises(CacheUnavailable, match="not served"):
            node.catch_up()
        assert in_step(node, entry) == node.watermarks.keys() - {0}
    node.catch_up()
    assert in_step(node, entry) == node.watermarks.keys()


def test_what_waits_too_long_for_a_node_comes_from_the_journal(
    documents: DocumentStore, nodes: Sequence[CacheNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commits never wait for a node of a cluster."""
    monkeypatch.setattr(cache_thread, "WAITING_BYTES", 5_000)  # of keys; a batch has 1,490
    health, backoff = Health(ProjectorMetrics()), Backoff(random.Random())
    threads = CacheThreads(
        [CacheThread(node, health, backoff, lambda: None, patient=False) for node in nodes]
    )
    before = [epochs_of(node) for node in nodes]
    entries = [commit(documents) for _ in range(10)]
    for entry in entries:
        threads.apply(Committed(entry.by_shard(COUNT), None))
    assert [len(thread.waiting) for thread in threads.threads] == [2] * len(nodes)
    with threads:
        wait_until(lambda: all(in_step(node, entries[-1]) == node.watermarks.keys() for node in nodes), "all")
    assert [epochs_of(node) for node in nodes] == before


def epochs_of(node: CacheNode) -> Sequence[str]:
    return [mark.epoch for mark in node.watermarks.values() if mark is not None]


@pytest.mark.parametrize("lost", [[3], range(6)], ids=["one watermark", "a node"])
def test_a_lost_watermark_empties_its_shard_alone(
    stack: Stack, documents: DocumentStore, nodes: Sequence[CacheNode], lost: Sequence[int]
) -> None:
    before = documents.serving().epochs
    with caches(stack) as every:
        for shard, client in (every[number] for number in lost):
            client.delete(shard.watermark_key)
    entry = commit(documents)
    for node in nodes:
        node.apply(entry.by_shard(COUNT))
        assert in_step(node, entry) == node.watermarks.keys() - {*lost}
        node.catch_up()
        assert in_step(node, entry) == node.watermarks.keys()
    after = documents.serving().epochs
    assert [number for number in range(COUNT) if after[number] != before[number]] == [*lost]
    assert after == tuple(epoch for _, epoch in sorted(epochs(stack).items()))


def test_another_number_of_shards_begins_with_empty_shards(
    stack: Stack, environment: dict[str, str], documents: DocumentStore, nodes: Sequence[CacheNode]
) -> None:
    """A reader that still has the former number finds no watermark, so MongoDB answers."""
    url, seen = environment["TIDEMARK_PROJECTOR_REDIS_URL"], {*documents.serving().epochs}
    assert len(marks(stack)) == len(seen) == COUNT
    for count in (4, COUNT):
        with control_of(environment, count) as control:
            again = control.open_build(documents.build, 1)
            with opened(f"{url}?shards={count}", again) as others:
                found = {epoch for node in others for epoch in epochs_of(node)}
                assert (len(found), found & seen) == (count, set())
                assert {*again.serving().epochs} == found
                assert len(marks(stack)) == (COUNT if count == COUNT else 0)
                seen |= found


def test_a_single_server_is_named_as_the_release_before_reads_it(stack: Stack) -> None:
    with control_of(stack.environment(), 1) as control:
        control.create_build(1).serve(None, NOW)
    document = serving_document(stack)
    assert document is not None and document.keys() == {"_id", "build", "epoch"}


def in_step(node: CacheNode, entry: JournalEntry) -> AbstractSet[int]:
    seq = entry.checkpoint.seq
    return {shard for shard, mark in node.watermarks.items() if mark is not None and mark.seq == seq}


def test_a_shard_lies_where_most_nodes_say() -> None:
    """A primary that is cut off from the others does not know of its successor."""
    before, after = {0: "one", 1: "two"}, {0: "three", 1: "two"}
    assert agreed([before, after, after]) == after
    assert agreed([{1: "two"}, {}]) == {1: "two"}


def test_the_whole_is_as_far_as_the_shard_that_is_furthest_behind() -> None:
    checkpoint = Checkpoint(1, 7, "b7", "2026-11-23T00:00:07.000000Z", "")
    ahead, behind = checkpoint.watermark("e"), replace(checkpoint, seq=5, as_of=NOW).watermark("e")
    health = Health(ProjectorMetrics())
    signs = VitalSigns(health, [], deque(), clock=lambda: seconds(checkpoint.as_of))
    health.led(1)
    with health.caching(lambda: {0: ahead, 1: behind, 2: None}):
        health.served(checkpoint)
    sample = signs.sample()
    assert sample["watermark"]["seq"] == 5 and health.parts["redis"] == (
        "away: reads of shard 2 come from MongoDB"
    )
    assert [(each["seq"], each["lag_seconds"]) for each in sample["shards"]] == [(7, 0), (5, 7), (None, None)]
    away = "tidemark_cache_shard_away"
    value = health.metrics.registry.get_sample_value
    assert [value(away, {"shard": str(shard)}) for shard in range(3)] == [0, 0, 1]
    assert value("tidemark_projector_as_of_timestamp_seconds", {"stage": "redis"}) == seconds(NOW)
    health.led(None)
    assert value(away, {"shard": "2"}) is None and signs.sample()["shards"] == []
