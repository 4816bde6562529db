"""Reads of the cache: batched, and all values of a batch under its own watermark."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from ops.stack import Stack
from reader.cache import Cache
from reader.errors import CacheBypassed
from reader.parts import Origin, Wanted
from reader.read_model.cached_values import WATERMARK_KEY, encode_entity
from reader.read_model.declarations import MODEL_VERSION, USER
from tests.reader.inside import DEADLINE_SECONDS, inside
from tests.reader.world import World

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def opened(stack: Stack) -> AsyncIterator[Cache]:
    cache = Cache(stack.environment()["TIDEMARK_READER_REDIS_URL"])
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            yield cache
    finally:
        await cache.aclose()


def mgets(world: World) -> int:
    calls = world.cache.info("commandstats").get("cmdstat_mget", {"calls": 0})["calls"]
    assert isinstance(calls, int)
    return calls


async def bypass_reason(cache: Cache) -> Origin:
    with pytest.raises(CacheBypassed) as raised:
        await cache.get(["user:1"])
    return raised.value.origin


async def test_keys_asked_for_in_one_tick_travel_in_one_mget(shared_stack: Stack, world: World) -> None:
    async with opened(shared_stack) as cache:
        await cache.get([])
        before = mgets(world)
        lookups = await asyncio.gather(*(cache.get([f"user:{id}", "user:1"]) for id in range(2, 102)))
        assert mgets(world) == before + 1
        assert [sorted(lookup.values)[0] for lookup in lookups] == ["user:1"] * 100


async def test_keys_asked_for_during_an_mget_travel_in_the_next(shared_stack: Stack, world: World) -> None:
    async with opened(shared_stack) as cache:
        await cache.get([])
        before = mgets(world)
        shared_stack.redis.pause()
        waiting = []
        for id in range(20):
            waiting.append(asyncio.create_task(cache.get([f"user:{id}"])))
            await asyncio.sleep(0.001)  # another tick of the loop
        shared_stack.redis.resume()
        await asyncio.gather(*waiting)
        assert mgets(world) == before + 2


async def test_an_mget_has_at_most_256_keys(shared_stack: Stack, world: World) -> None:
    async with opened(shared_stack) as cache:
        await cache.get([])
        before = mgets(world)
        lookups = await asyncio.gather(
            *(cache.get([f"user:{2 * id}", f"user:{2 * id + 1}"]) for id in range(381))
        )
        assert mgets(world) == before + 3  # 762 keys: 127 pairs in each
        assert all(f"user:{2 * id}" in lookup.values for id, lookup in enumerate(lookups))


async def test_an_answer_names_the_watermark_of_its_own_mget(shared_stack: Stack, world: World) -> None:
    async with opened(shared_stack) as cache:
        for seq in (5, 6, 7):
            world.batch(seq)
            assert (await cache.get(["user:1"])).watermark == world.watermark()


async def test_after_an_epoch_switch_the_same_question_is_asked_again(
    shared_stack: Stack, world: World
) -> None:
    old, new = world.user(1), world.user(1, v=2)
    world.put_cached("user:1", encode_entity(USER, old))
    async with opened(shared_stack) as cache:
        assert (await cache.get(["user:1"])).values["user:1"] == encode_entity(USER, old)
        world.epoch = "8"
        world.put_cached("user:1", encode_entity(USER, new))
        world.batch(2)
        lookup = await cache.get(["user:1"])
        assert (lookup.values["user:1"], lookup.watermark.epoch) == (encode_entity(USER, new), "8")


async def test_keys_of_a_former_epoch_are_never_served(shared_stack: Stack, world: World) -> None:
    world.user(1)
    async with inside(shared_stack) as reader:
        await reader.read_through.get([Wanted(USER, 1)])
        world.epoch = "8"
        world.user(1, v=9)
        world.batch(9)
        found = await reader.read_through.get([Wanted(USER, 1)])
        assert (found["user:1"].entry.version, found["user:1"].origin) == (9, Origin.STORED)


async def test_another_model_version_bypasses_the_cache(shared_stack: Stack, world: World) -> None:
    user = world.user(1, v=2)
    world.put_cached("user:1", encode_entity(USER, user))
    world.set_watermark(world.commit(2), model_version=MODEL_VERSION + 1)
    async with inside(shared_stack) as reader:
        part = (await reader.read_through.get([Wanted(USER, 1)]))["user:1"]
        assert (part.origin, part.entry.version) == (Origin.OTHER_MODEL, 2)
        world.cache.set(WATERMARK_KEY, "a|shape|of|the|future")
        assert await bypass_reason(reader.cache) is Origin.OTHER_MODEL
        assert (await reader.read_through.get([Wanted(USER, 2)]))["user:2"].entry.present is False
    assert world.cached("user:2") is None


async def test_without_a_watermark_nothing_is_read_from_the_cache_or_stored(
    shared_stack: Stack, world: World
) -> None:
    world.user(1, v=2)
    world.put_cached("user:1", encode_entity(USER, world.user(1, v=1)))
    world.user(1, v=2)
    world.cache.delete(WATERMARK_KEY)
    async with inside(shared_stack) as reader:
        found = await reader.read_through.get([Wanted(USER, 1), Wanted(USER, 2)])
        assert {part.origin for part in found.values()} == {Origin.NO_WATERMARK}
        assert (found["user:1"].entry.version, found["user:2"].entry.present) == (2, False)
        assert reader.requests("redis", "user", "bypass") == 2
    assert world.cached("user:2") is None


async def test_numbers_that_change_at_every_attempt_are_given_up(shared_stack: Stack, world: World) -> None:
    """Only the build changes, the keys do not. The reader must not loop over an unsettled watermark."""
    async with opened(shared_stack) as cache:
        await cache.get(["user:1"])
        settled = world.watermark()
        world.cache.set(WATERMARK_KEY, replace(settled, build=4).encode())
        assert (await cache.get(["user:1"])).watermark.build == 4


async def test_a_failure_pauses_the_cache_for_a_second(shared_stack: Stack, world: World) -> None:
    moment = 100.0
    cache = Cache(shared_stack.environment()["TIDEMARK_READER_REDIS_URL"], clock=lambda: moment)
    try:
        shared_stack.redis.pause()
        started = asyncio.get_running_loop().time()
        assert await bypass_reason(cache) is Origin.UNAVAILABLE
        waited = asyncio.get_running_loop().time() - started
        shared_stack.redis.resume()
        assert waited < 1
        assert await bypass_reason(cache) is Origin.UNAVAILABLE
        moment += 1.01
        assert (await cache.get(["user:1"])).values == {"user:1": None}
    finally:
        shared_stack.redis.resume()
        await cache.aclose()


async def test_callers_that_wait_when_the_cache_is_closed_are_released(
    shared_stack: Stack, world: World
) -> None:
    cache = Cache(shared_stack.environment()["TIDEMARK_READER_REDIS_URL"])
    shared_stack.redis.pause()
    try:
        waiting = [asyncio.create_task(cache.get([f"user:{id}"])) for id in (1, 2)]
        await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        waiting.append(asyncio.create_task(cache.get(["user:3"])))
        await asyncio.sleep(0.01)
        await cache.aclose()
        await asyncio.wait(waiting, timeout=5)
        assert all(task.cancelled() for task in waiting)
    finally:
        shared_stack.redis.resume()
