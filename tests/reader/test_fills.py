"""Fills of the cache: a value of another moment than its lease's watermark is never stored, nor kept."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from ops.stack import Stack
from reader.parts import Origin, Wanted
from reader.read_model.cached_values import (
    ABSENT_TTL_MS,
    LEASE_TTL_MS,
    VALUE_TTL_MS,
    encode_absent,
    encode_entity,
    encode_page,
)
from reader.read_model.control import CONTROL
from reader.read_model.declarations import COMMENT, LISTINGS, POST, USER
from reader.view import View
from tests.reader.inside import inside, shown, until
from tests.reader.world import World

pytestmark = pytest.mark.anyio
COMMENTS = next(listing for listing in LISTINGS if listing.path == "/post/{id}/comments")
LEASE = b"L" + b"0" * 32  # of another reader
LONG_AGO = "1.1"  # a cluster time that MongoDB no longer has


async def test_a_miss_stores_the_document_with_its_own_version(shared_stack: Stack, world: World) -> None:
    user = world.user(1, v=4)
    world.batch(9)
    async with inside(shared_stack, local_bytes=0) as reader:
        answer = await reader.read(USER, 1)
        assert (answer.origin, answer.version, answer.moment.seq) == (Origin.STORED, "4.7.4", 9)
        assert world.cached("user:1") == encode_entity(USER, user)
        assert 0.85 * VALUE_TTL_MS < world.ttl_ms("user:1") <= 1.1 * VALUE_TTL_MS
        assert (await reader.read(USER, 1)).origin is Origin.HIT


async def test_a_known_absence_carries_the_checkpoint_read_before(shared_stack: Stack, world: World) -> None:
    world.batch(9)
    async with inside(shared_stack) as reader:
        async with reader.documents.before_values.holding(reader.read(POST, 5)) as reading:
            world.commit(10)
        answer = await reading
    assert (answer.body, answer.moment.seq) == (None, 9)
    assert world.cached("post:5") == encode_absent(9)
    assert ABSENT_TTL_MS[0] - 2_000 < world.ttl_ms("post:5") <= ABSENT_TTL_MS[1]


async def test_a_first_page_is_stored_with_the_checkpoint_as_its_version(
    shared_stack: Stack, world: World
) -> None:
    world.post(5)
    for id in (3, 4):
        world.comment(id, post_id=5)
    world.batch(9)
    async with inside(shared_stack) as reader:
        await reader.read(COMMENTS, 5)
    assert world.cached("post:5:comments") == encode_page(9, [4, 3], None)


async def test_the_lease_is_random_and_short(shared_stack: Stack, world: World) -> None:
    leases = set()
    async with inside(shared_stack) as reader:
        for id in (1, 2):
            async with reader.documents.before_moment.holding(reader.read(USER, id)) as reading:
                lease = world.cached(f"user:{id}") or b""
                assert 0 < world.ttl_ms(f"user:{id}") <= LEASE_TTL_MS
                assert lease[:1] == b"L"
                assert len(bytes.fromhex(lease[1:].decode())) == 16
                leases.add(lease)
            await reading
    assert len(leases) == 2


@pytest.mark.parametrize("deleted", [False, True])
async def test_a_batch_applied_during_a_fill_ends_it(
    shared_stack: Stack, world: World, deleted: bool
) -> None:
    """The value was true at the lease. The replica would serve it beyond the batch that names its key."""
    world.user(1, bio="old")
    world.batch(2)
    async with inside(shared_stack) as reader:
        async with reader.cache.before_fill.holding(reader.read(USER, 1)) as reading:
            value = encode_entity(USER, world.user(1, bio="new", v=3))
            world.batch(3, ["user:1"])
            if not deleted:
                world.put_cached("user:1", value)
            await reader.follows(world)
        assert shown(await reading)["bio"] == "old"
        assert reader.fills("user", "lease_lost") == 1
        assert reader.replica.get("user:1") is None
        assert world.cached("user:1") == (None if deleted else value)
        assert shown(await reader.read(USER, 1))["bio"] == "new"


async def test_a_fill_reads_what_its_watermark_had_while_mongodb_goes_on(
    shared_stack: Stack, world: World
) -> None:
    old = world.user(1, bio="old")
    world.batch(4)
    world.user(1, bio="new", v=5)
    world.commit(5)
    async with inside(shared_stack) as reader:
        answer = await reader.read(USER, 1)
        assert (answer.origin, answer.moment.seq, shown(answer)["bio"]) == (Origin.STORED, 4, "old")
    assert world.cached("user:1") == encode_entity(USER, old)


@pytest.mark.parametrize("cluster_time", ["", LONG_AGO])
async def test_a_fill_without_its_cluster_time_reads_the_present_of_its_watermark(
    shared_stack: Stack, world: World, cluster_time: str
) -> None:
    world.user(1)
    world.apply(replace(world.commit(4), cluster_time=cluster_time))
    async with inside(shared_stack) as reader:
        answer = await reader.read(USER, 1)
        assert (answer.origin, answer.moment.seq) == (Origin.STORED, 4)


def ahead(world: World) -> None:
    world.apply(replace(world.commit(4), seq=5))


def other_batch(world: World) -> None:
    world.apply(replace(world.commit(4), batch_id="another"))


def forked_before(world: World) -> None:
    world.apply(replace(world.commit(4), batch_id="another"))
    world.commit(5)


def gone_on(world: World, cluster_time: str = "") -> None:
    world.apply(replace(world.commit(4), cluster_time=cluster_time))
    world.commit(5)


def gone_on_for_long(world: World) -> None:
    gone_on(world, LONG_AGO)


def other_epoch(world: World) -> None:
    world.apply(replace(world.commit(4), cluster_time=""))
    world.database[CONTROL].update_one({"_id": "serving"}, {"$set": {"epoch": "8"}})


def watermark_of_another_build(world: World) -> None:
    world.set_watermark(replace(world.commit(4), build=4))


def other_build(world: World) -> None:
    world.apply(replace(world.commit(4), cluster_time=""))
    world.begin_build(4, "8")
    world.user(1, handle="user_1")
    world.commit(5)


@pytest.mark.parametrize(
    "diverge",
    [
        ahead,
        other_batch,
        forked_before,
        gone_on,
        gone_on_for_long,
        other_epoch,
        other_build,
        watermark_of_another_build,
    ],
    ids=lambda f: f.__name__,
)
async def test_a_value_not_continuing_the_watermark_is_answered_but_not_stored(
    shared_stack: Stack, world: World, diverge: Callable[[World], None]
) -> None:
    world.user(1)
    diverge(world)
    async with inside(shared_stack) as reader:
        answer = await reader.read(USER, 1)
        assert (shown(answer)["handle"], answer.origin) == ("user_1", Origin.MOVED_ON)
        assert reader.fills("user", "behind_watermark") == 1
        assert reader.replica.get("user:1") is None
    world.epoch = "7"
    assert (world.cached("user:1") or b"")[:1] == b"L"
    world.clear_build(4)


@pytest.mark.parametrize("served", [True, False])
async def test_a_flush_between_the_miss_and_the_lease_stores_nothing(
    shared_stack: Stack, world: World, served: bool
) -> None:
    """Of the old epoch. The fill goes on under the new one if MongoDB serves that."""
    world.user(1, bio="old")
    world.batch(2)
    async with inside(shared_stack) as reader:
        async with reader.cache.before_lease.holding(reader.read(USER, 1)) as reading:
            user = world.user(1, bio="new", v=3)
            checkpoint = world.commit(3)
            world.cache.flushall()
            world.epoch = "8"
            world.set_watermark(world.commit(3) if served else checkpoint)
            await reader.follows(world)
        answer = await reading
        assert (shown(answer)["bio"], answer.moment.epoch) == ("old", "7")
        assert reader.fills("user", "stored" if served else "behind_watermark") == 1
    assert world.cache.exists("tidemark:e7:user:1") == 0
    assert world.cached("user:1") == encode_entity(USER, user) if served else True


async def test_a_fill_does_not_outlive_a_reset(shared_stack: Stack, world: World) -> None:
    world.user(1, bio="old")
    world.batch(2)
    async with inside(shared_stack) as reader:
        async with reader.cache.before_fill.holding(reader.read(USER, 1)) as reading:
            world.epoch = "8"
            world.set_watermark(world.commit(3))
            await reader.follows(world)
        assert shown(await reading)["bio"] == "old"
        assert reader.replica.get("user:1") is None
    assert world.cached("user:1") is None


async def test_a_watermark_that_vanishes_before_the_lease_stores_nothing(
    shared_stack: Stack, world: World
) -> None:
    world.user(1)
    world.batch(2)
    async with inside(shared_stack) as reader:
        async with reader.cache.before_lease.holding(reader.read(USER, 1)) as reading:
            world.cache.delete("tidemark:watermark")
            await until(lambda: reader.following.bypass is Origin.NO_WATERMARK, "the loss to be noticed")
        answer = await reading
        assert (shown(answer)["handle"], answer.origin) == ("user_1", Origin.NO_WATERMARK)
    assert world.cached("user:1") is None


async def test_a_value_too_late_for_its_lease_is_not_stored(shared_stack: Stack, world: World) -> None:
    world.user(1)
    async with inside(shared_stack) as reader:
        async with reader.documents.before_values.holding(reader.read(USER, 1)) as reading:
            world.cache.pexpire("tidemark:e7:user:1", 0)
        assert (await reading).origin is Origin.MISS
    assert world.cached("user:1") is None


async def test_a_full_redis_stores_nothing_and_the_answer_goes_out(shared_stack: Stack, world: World) -> None:
    world.user(1)
    async with inside(shared_stack) as reader:
        async with reader.documents.before_values.holding(reader.read(USER, 1)) as reading:
            world.cache.config_set("maxmemory-policy", "noeviction")
            world.cache.config_set("maxmemory", 1)
        try:
            answer = await reading
        finally:
            world.cache.config_set("maxmemory", "256mb")
            world.cache.config_set("maxmemory-policy", "volatile-lfu")
        assert (shown(answer)["handle"], answer.origin) == ("user_1", Origin.MISS)
        assert reader.fills("user", "error") == 1


async def test_a_lease_held_by_another_is_awaited_and_its_value_taken(
    shared_stack: Stack, world: World
) -> None:
    user = world.user(1)
    world.put_cached("user:1", LEASE)
    async with inside(shared_stack) as reader:
        async with reader.cache.before_lease.holding(reader.read(USER, 1)) as reading:
            world.put_cached("user:1", encode_entity(USER, user))
        assert (await reading).origin is Origin.HIT
        assert reader.documents.values_read == 0
        assert reader.requests("redis", "user", "lease_wait") == 1


async def test_a_lease_that_stays_held_is_gone_round_without_storing(
    shared_stack: Stack, world: World
) -> None:
    world.user(1)
    world.put_cached("user:1", LEASE)
    async with inside(shared_stack) as reader:
        answer = await reader.read(USER, 1)
        assert (shown(answer)["handle"], answer.origin) == ("user_1", Origin.LEASE_HELD)
        assert reader.replica.get("user:1") is None
    assert world.cached("user:1") == LEASE


async def test_of_several_keys_each_goes_its_own_way(shared_stack: Stack, world: World) -> None:
    users = [world.user(id) for id in (1, 2, 3)]
    world.put_cached("user:1", encode_entity(USER, users[0]))
    world.put_cached("user:2", LEASE)
    wanted = [Wanted(USER, 1), Wanted(USER, 2), Wanted(USER, 3), Wanted(COMMENT, 4), Wanted(COMMENTS, 4)]
    async with inside(shared_stack) as reader:
        view = View(world.watermark(), reader.following.position, reader.replica)
        assert [view.get(one) for one in wanted] == [None] * 5
        await reader.fetching.fetch(view)
        assert {key: entry.present for key, entry in view.parts.items()} == {
            "user:1": True,
            "user:2": True,
            "user:3": True,
            "comment:4": False,
            "post:4:comments": True,
        }
        assert reader.requests("redis", "user", "hit") == reader.requests("redis", "user", "lease_wait") == 1
        kinds = ("user", "comment", "post_comments")
        assert [reader.fills(kind, "stored") for kind in kinds] == [1, 1, 1]
        kept = [one.key for one in wanted if reader.replica.get(one.key)]
        assert kept == ["user:1", "user:3", "comment:4", "post:4:comments"]
    assert world.cached("user:2") == LEASE


async def test_a_miss_takes_the_lease_before_it_reads_the_watermark(
    shared_stack: Stack, world: World
) -> None:
    """In the opposite order, a batch applied between the two would find no lease to end."""
    world.user(1)
    key = "tidemark:e7:user:1"
    async with inside(shared_stack) as reader:
        with world.cache.monitor() as monitor:  # type: ignore[no-untyped-call]
            await reader.read(USER, 1)
            sent: list[str] = []
            while not sent or not sent[-1].startswith(f"SET {key} V"):
                sent.append(monitor.next_command()["command"])
    sent = sent[sent.index(f"MGET {key} tidemark:watermark") + 1 :]
    at = next(place for place, command in enumerate(sent) if key in command)
    assert re.fullmatch(f"SET {key} L[0-9a-f]{{32}} NX PX {LEASE_TTL_MS}", sent[at])
    assert sent[at + 1] == "GET tidemark:watermark"
    assert sent[-3].startswith("EVAL #!lua")
    assert sent[-2] == f"GET {key}"
    assert re.search(" PX [0-9]{7}$", sent[-1])
