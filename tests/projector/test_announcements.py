"""APPLY announces what it did, to all who follow. Neither a refusal nor a slow reader harms the cache."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import redis

from binlog_projector.domain.mutations import Increment
from binlog_projector.stores.cache import CacheStage
from binlog_projector.stores.cache_scripts import APPLY
from ops.stack import RedisServer, Stack
from ops.stack.fetch import programs
from ops.stack.fetch.programs import Program
from reader.read_model.announcements import Announcement, decode, encode
from reader.read_model.cached_values import TIDE_CHANNEL, WATERMARK_KEY, Watermark
from tests.projector.test_read_back import Side, post, side_of
from tests.support.harness import wait_until

KEYS = tuple(f"post:{2**53 - number}" for number in range(10_000))
ENTRIES = 20_000
MEBIBYTE = 1 << 20


@pytest.fixture
def side(stack: Stack) -> Iterator[Side]:
    with side_of(stack, stack.environment()["TIDEMARK_PROJECTOR_MONGODB_URL"]) as side:
        yield side


@contextlib.contextmanager
def listening(stack: Stack) -> Iterator[Callable[[], list[Announcement]]]:
    """The reader's account subscribes. Gives what it has heard since the last call."""
    with (
        redis.Redis.from_url(stack.environment()["TIDEMARK_READER_REDIS_URL"]) as client,
        contextlib.closing(client.pubsub(ignore_subscribe_messages=True)) as pubsub,
    ):
        pubsub.ssubscribe(TIDE_CHANNEL)
        pubsub.get_sharded_message(timeout=5)

        def heard() -> list[Announcement]:
            found = []
            while message := pubsub.get_sharded_message(timeout=0.3):
                found.append(decode(message["data"]))
            return found

        yield heard


def mark(stage: CacheStage) -> Watermark:
    assert stage.watermark is not None
    return stage.watermark


def counted(side: Side, outcome: str) -> float:
    metrics = side.stage.metrics
    name = "tidemark_cache_announcements_total"
    return metrics.registry.get_sample_value(name, {"outcome": outcome}) or 0.0


def test_an_apply_announces_its_keys_and_the_watermark_it_left(stack: Stack, side: Side) -> None:
    with listening(stack) as heard:
        before = mark(side.stage)
        side.applied(side.commit(post("1", new=True), Increment("users", 1, "post_count", 1)))
        after = mark(side.stage)
        assert heard() == [Announcement(before.lineage, after, ("post:1",), ("user:1",))]
        side.stage.tick(side.documents.position.checkpoint.at("2026-11-23T00:00:01.000000Z"))
        ticked = mark(side.stage)
        assert ticked.as_of > after.as_of and heard() == [Announcement(after.lineage, ticked)]
    assert (counted(side, "sent"), counted(side, "refused")) == (2, 0)


def test_a_replay_announces_like_the_batch_itself(stack: Stack, side: Side) -> None:
    first = side.commit(post("1", new=True), Increment("users", 1, "post_count", 1))
    side.commit(Increment("posts", 1, "like_count", 1))
    with listening(stack) as heard:
        before = mark(side.stage)
        side.stage.catch_up()
        one, two = heard()
    assert (one.found, one.keys, one.counted) == (before.lineage, ("post:1",), ("user:1",))
    assert one.to is not None and one.to.lineage == two.found and one.to.seq == first.checkpoint.seq
    assert (two.to, two.keys, two.counted) == (mark(side.stage), (), ("post:1",))


def test_a_new_cache_epoch_is_announced_to_nobody(stack: Stack, side: Side) -> None:
    side.admin.delete(WATERMARK_KEY)
    with listening(stack) as heard:
        side.stage.catch_up()
        assert heard() == []
    assert mark(side.stage).epoch == side.documents.serving().epoch


@pytest.mark.parametrize("right", ["-spublish", "resetchannels"])
def test_a_refused_announcement_leaves_an_apply_whole(stack: Stack, side: Side, right: str) -> None:
    """An error in the script would come after its writes, and again after each catching up."""
    entry = side.commit(post("1", new=True))
    grant(side, right)
    try:
        found = side.applied(entry)
    finally:
        grant(side, "+spublish", f"&{TIDE_CHANNEL}")
    assert found is not None and b'"1"' in found.body
    assert side.admin.get(WATERMARK_KEY) == mark(side.stage).encode().encode()
    assert (counted(side, "sent"), counted(side, "refused")) == (0, 1)


def grant(side: Side, *rules: str) -> None:
    side.admin.execute_command("ACL SETUSER", "projector", *rules)  # type: ignore[no-untyped-call]


class ValkeyServer(RedisServer):
    def program(self) -> Program:
        return programs.valkey_server()


@pytest.mark.server
@pytest.mark.parametrize("kind", [RedisServer, ValkeyServer])
def test_a_reader_that_is_stuck_is_cut_off_before_it_costs_an_entry(
    kind: type[RedisServer], tmp_path: Path
) -> None:
    """The announcements that it does not read would take the memory of the entries."""
    server = kind(tmp_path)
    server.start()
    try:
        with redis.Redis.from_url(server.admin_url) as client, stuck_reader(server):
            fill(client)
            client.config_set("maxmemory", client.info("memory")["used_memory"] + 12 * MEBIBYTE)
            announce(client, batches=300)
            assert client.client_list(_type="pubsub") == []
            assert client.dbsize() == ENTRIES + 1
            assert client.info("stats")["evicted_keys"] == 0
    finally:
        server.kill()


@contextlib.contextmanager
def stuck_reader(server: RedisServer) -> Iterator[None]:
    """Subscribes, and reads nothing any more."""
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        for command in (f"AUTH admin {server.password}", f"SSUBSCRIBE {TIDE_CHANNEL}"):
            connection.sendall(command.encode() + b"\r\n")
        with redis.Redis.from_url(server.admin_url) as client:
            wait_until(lambda: client.client_list(_type="pubsub"), "the subscription")
        yield


def fill(client: redis.Redis) -> None:
    with client.pipeline(transaction=False) as pipeline:
        for number in range(ENTRIES):
            pipeline.set(f"tidemark:e1:post:{number}", b"x" * 1_000, px=3_600_000)
        pipeline.execute()


def announce(client: redis.Redis, batches: int) -> None:
    """APPLYs of 10,000 keys, of which none is cached."""
    apply = client.register_script(APPLY)
    former = watermark(0)
    client.set(WATERMARK_KEY, former.encode())
    for seq in range(1, batches + 1):
        following = watermark(seq)
        messages: Sequence[bytes] = encode(former.lineage, following, KEYS)
        refused, *_, failure = apply(
            [WATERMARK_KEY], [former.lineage, following.encode(), 0, TIDE_CHANNEL, *messages]
        )
        assert (refused, failure) == (b"", b"")
        former = following


def watermark(seq: int) -> Watermark:
    return Watermark(1, "1-a", 3, seq, f"{seq:016x}", "1.1", False, "2026", "")
