"""Fills of the cache: a stale value is never stored."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from ops.stack import Stack
from reader.parts import Origin, Part, Wanted
from reader.read_model.cached_values import (
    ABSENT_TTL_MS,
    LEASE_TTL_MS,
    VALUE_TTL_MS,
    encode_absent,
    encode_entity,
    encode_page,
)
from reader.read_model.control import CONTROL, journal_id
from reader.read_model.declarations import COMMENT, LISTINGS, POST, USER
from tests.reader.inside import Inside, inside
from tests.reader.world import World

pytestmark = pytest.mark.anyio
COMMENTS = next(listing for listing in LISTINGS if listing.path == "/post/{id}/comments")


async def read(reader: Inside, wanted: Wanted) -> Part:
    return (await reader.read_through.get([wanted]))[wanted.key]


async def test_a_miss_stores_the_document_with_its_own_version(shared_stack: Stack, world: World) -> None:
    post = world.post(5, v=4)
    world.batch(9)
    async with inside(shared_stack) as reader:
        part = await read(reader, Wanted(POST, 5))
        assert (part.origin, part.entry.version, part.proof.seq) == (Origin.STORED, 4, 9)
        assert world.cached("post:5") == encode_entity(POST, post)
        assert 0.85 * VALUE_TTL_MS < world.ttl_ms("post:5") <= 1.1 * VALUE_TTL_MS
        assert (await read(reader, Wanted(POST, 5))).origin is Origin.HIT


async def test_a_known_absence_carries_the_checkpoint_read_before(shared_stack: Stack, world: World) -> None:
    world.batch(9)
    async with inside(shared_stack) as reader:
        async with reader.documents.before_values.holding(read(reader, Wanted(POST, 5))) as reading:
            world.commit(10)
        part = await reading
    assert (part.entry.present, part.proof.seq) == (False, 9)
    assert world.cached("post:5") == encode_absent(9)
    assert ABSENT_TTL_MS[0] - 2_000 < world.ttl_ms("post:5") <= ABSENT_TTL_MS[1]


async def test_a_first_page_is_stored_with_the_checkpoint_as_its_version(
    shared_stack: Stack, world: World
) -> None:
    for id in (3, 4):
        world.comment(id, post_id=5)
    world.batch(9)
    async with inside(shared_stack) as reader:
        await read(reader, Wanted(COMMENTS, 5))
    assert world.cached("post:5:comments") == encode_page(9, [4, 3], None)


async def test_the_lease_is_random_and_short(shared_stack: Stack, world: World) -> None:
    leases = set()
    async with inside(shared_stack) as reader:
        for id in (1, 2):
            async with reader.documents.before_view.holding(read(reader, Wanted(POST, id))) as reading:
                lease = world.cached(f"post:{id}") or b""
                assert 0 < world.ttl_ms(f"post:{id}") <= LEASE_TTL_MS
                assert lease[:1] == b"L"
                assert len(bytes.fromhex(lease[1:].decode())) == 16
                leases.add(lease)
            await reading
    assert len(leases) == 2


@pytest.mark.parametrize("deleted", [False, True])
async def test_a_batch_applied_during_a_fill_ends_it(
    shared_stack: Stack, world: World, deleted: bool
) -> None:
    old = world.post(5, body="old", v=1)
    async with inside(shared_stack) as reader:
        async with reader.documents.before_values.holding(read(reader, Wanted(POST, 5))) as reading:
            value = encode_entity(POST, {**old, "body": "new", "v": 2})
            world.put_cached("post:5", value)
            if deleted:
                world.cache.delete("tidemark:e7:post:5")
        part = await reading
        assert (part.origin, b"old" in part.entry.body) == (Origin.MISS, True)
        assert reader.fills("post", "lease_lost") == 1
    assert world.cached("post:5") == (None if deleted else value)


def ahead(world: World) -> None:
    world.set_watermark(replace(world.commit(4), seq=5))


def other_batch(world: World) -> None:
    world.set_watermark(replace(world.commit(4), batch_id="another"))


def forked_before(world: World) -> None:
    world.set_watermark(replace(world.commit(4), batch_id="another"))
    world.commit(5)


def journal_expired(world: World) -> None:
    world.batch(4)
    world.commit(5)
    world.database[CONTROL].delete_one({"_id": journal_id(world.build, 4)})


def other_epoch(world: World) -> None:
    world.batch(4)
    world.database[CONTROL].update_one({"_id": "serving"}, {"$set": {"epoch": "8"}})


def watermark_of_another_build(world: World) -> None:
    checkpoint = world.commit(4)
    world.set_watermark(replace(checkpoint, build=4))


def other_build(world: World) -> None:
    world.batch(4)
    world.build = 4
    world.user(1, handle="user_1")
    world.commit(5)
    world.build = 3


@pytest.mark.parametrize(
    "diverge",
    [
        ahead,
        other_batch,
        forked_before,
        journal_expired,
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
        part = await read(reader, Wanted(USER, 1))
        assert (part.entry.present, part.origin) == (True, Origin.MISS)
        assert reader.fills("user", "behind_watermark") == 1
    assert (world.cached("user:1") or b"L")[:1] == b"L"
    world.clear_build(4)


async def test_a_checkpoint_further_on_in_the_same_history_may_fill(
    shared_stack: Stack, world: World
) -> None:
    world.user(1)
    world.batch(4)
    world.commit(5)
    world.commit(6)
    async with inside(shared_stack) as reader:
        part = await read(reader, Wanted(USER, 1))
    assert (part.origin, part.proof.seq) == (Origin.STORED, 6)


@pytest.mark.parametrize("served", [True, False])
async def test_a_flush_between_the_miss_and_the_lease_stores_nothing(
    shared_stack: Stack, world: World, served: bool
) -> None:
    world.user(1)
    async with inside(shared_stack) as reader:
        async with reader.cache.before_lease.holding(read(reader, Wanted(USER, 1))) as reading:
            checkpoint = world.commit(2)
            world.epoch = "8"
            world.set_watermark(world.commit(3) if served else checkpoint)
        assert (await reading).origin is Origin.MISS
        assert reader.fills("user", "behind_watermark") == 1
    assert world.cached("user:1") is None
    world.epoch = "7"
    assert (world.cached("user:1") or b"")[:1] == b"L"


async def test_a_watermark_that_vanishes_before_the_lease_stores_nothing(
    shared_stack: Stack, world: World
) -> None:
    world.user(1)
    async with inside(shared_stack) as reader:
        async with reader.cache.before_lease.holding(read(reader, Wanted(USER, 1))) as reading:
            world.cache.delete("tidemark:watermark")
        assert (await reading).entry.present
    assert (world.cached("user:1") or b"")[:1] == b"L"


async def test_a_value_too_late_for_its_lease_is_not_stored(shared_stack: Stack, world: World) -> None:
    world.user(1)
    async with inside(shared_stack) as reader:
        async with reader.documents.before_values.holding(read(reader, Wanted(USER, 1))) as reading:
            world.cache.pexpire("tidemark:e7:user:1", 0)
        assert (await reading).origin is Origin.MISS
    assert world.cached("user:1") is None


async def test_a_full_redis_stores_nothing_and_the_answer_goes_out(shared_stack: Stack, world: World) -> None:
    world.user(1)
    async with inside(shared_stack) as reader:
        async with reader.documents.before_values.holding(read(reader, Wanted(USER, 1))) as reading:
            world.cache.config_set("maxmemory-policy", "noeviction")
            world.cache.config_set("maxmemory", 1)
        try:
            part = await reading
        finally:
            world.cache.config_set("maxmemory", "256mb")
            world.cache.config_set("maxmemory-policy", "volatile-lfu")
        assert (part.entry.present, part.origin) == (True, Origin.MISS)
        assert reader.fills("user", "error") == 1


async def test_a_lease_held_by_another_is_awaited_and_its_value_taken(
    shared_stack: Stack, world: World
) -> None:
    user = world.user(1)
    world.put_cached("user:1", b"L" + b"0" * 32)
    async with inside(shared_stack) as reader:
        async with reader.cache.before_lease.holding(read(reader, Wanted(USER, 1))) as reading:
            world.put_cached("user:1", encode_entity(USER, user))
        part = await reading
        assert part.origin is Origin.HIT
        assert reader.documents.values_read == 0
        assert reader.requests("redis", "user", "lease_wait") == 1


async def test_a_lease_that_stays_held_is_gone_round_without_storing(
    shared_stack: Stack, world: World
) -> None:
    world.user(1)
    lease = b"L" + b"0" * 32
    world.put_cached("user:1", lease)
    async with inside(shared_stack) as reader:
        part = await read(reader, Wanted(USER, 1))
    assert (part.entry.present, part.origin) == (True, Origin.LEASE_HELD)
    assert world.cached("user:1") == lease


async def test_of_several_keys_each_goes_its_own_way(shared_stack: Stack, world: World) -> None:
    users = [world.user(id) for id in (1, 2, 3)]
    world.put_cached("user:1", encode_entity(USER, users[0]))
    world.put_cached("user:2", b"L" + b"0" * 32)
    wanted = [Wanted(USER, 1), Wanted(USER, 2), Wanted(USER, 3), Wanted(COMMENT, 4), Wanted(COMMENTS, 4)]
    async with inside(shared_stack) as reader:
        found = await reader.read_through.get(wanted)
    assert {key: (part.origin, part.entry.present) for key, part in found.items()} == {
        "user:1": (Origin.HIT, True),
        "user:2": (Origin.LEASE_HELD, True),
        "user:3": (Origin.STORED, True),
        "comment:4": (Origin.STORED, False),
        "post:4:comments": (Origin.STORED, True),
    }


async def test_a_miss_takes_the_lease_before_it_reads_the_watermark(
    shared_stack: Stack, world: World
) -> None:
    """In the opposite order, a batch applied between the two would find no lease to end."""
    world.user(1)
    async with inside(shared_stack) as reader:
        await read(reader, Wanted(USER, 2))  # opens all connections
        with world.cache.monitor() as monitor:  # type: ignore[no-untyped-call]
            await read(reader, Wanted(USER, 1))
            commands = [monitor.next_command() for _ in range(6)]
    key = "tidemark:e7:user:1"
    expected = [
        f"MGET {key} tidemark:watermark",
        f"SET {key} L",
        "GET tidemark:watermark",
        "EVAL #!lua",
        f"GET {key}",
        f"SET {key} V",
    ]
    assert [
        command["command"][: len(text)] for command, text in zip(commands, expected, strict=True)
    ] == expected
    assert re.search(" (NX PX 2000|PX 2000 NX)$", commands[1]["command"])
    assert re.search(" PX [0-9]{7}$", commands[5]["command"])
