"""Reads of the cache: batched, and only while the tide is one that this release understands."""

from __future__ import annotations

import asyncio

import pytest

from ops.stack import Stack
from reader.errors import CacheBypassed
from reader.parts import Origin
from reader.read_model.cached_values import WATERMARK_KEY, encode_entity
from reader.read_model.declarations import MODEL_VERSION, USER
from tests.reader.inside import Inside, inside, shown, until
from tests.reader.world import World

pytestmark = pytest.mark.anyio


def mgets(world: World) -> int:
    calls = world.cache.info("commandstats").get("cmdstat_mget", {"calls": 0})["calls"]
    assert isinstance(calls, int)
    return calls


async def bypass_reason(reader: Inside) -> Origin:
    with pytest.raises(CacheBypassed) as raised:
        await reader.cache.get(["user:1"])
    return raised.value.origin


async def test_keys_asked_for_in_one_tick_travel_in_one_mget(shared_stack: Stack, world: World) -> None:
    async with inside(shared_stack) as reader:
        before = mgets(world)
        found = await asyncio.gather(*(reader.cache.get([f"user:{id}", "user:1"]) for id in range(2, 102)))
        assert mgets(world) == before + 1
        assert [sorted(entries)[0] for entries, *_ in found] == ["user:1"] * 100


async def test_keys_asked_for_during_an_mget_travel_in_the_next(shared_stack: Stack, world: World) -> None:
    async with inside(shared_stack) as reader:
        before = mgets(world)
        shared_stack.redis.pause()
        waiting = []
        for id in range(20):
            waiting.append(reader.cache.get([f"user:{id}"]))
            await asyncio.sleep(0.001)  # another tick of the loop
        shared_stack.redis.resume()
        await asyncio.gather(*waiting)
        assert mgets(world) == before + 2


async def test_an_mget_has_at_most_256_keys(shared_stack: Stack, world: World) -> None:
    async with inside(shared_stack) as reader:
        before = mgets(world)
        found = await asyncio.gather(
            *(reader.cache.get([f"user:{2 * id}", f"user:{2 * id + 1}"]) for id in range(381))
        )
        assert mgets(world) == before + 3  # 762 keys: 127 pairs in each
        assert all(f"user:{2 * id}" in entries for id, (entries, *_) in enumerate(found))


async def test_keys_of_a_former_epoch_are_never_served(shared_stack: Stack, world: World) -> None:
    world.user(1)
    world.batch(2)
    async with inside(shared_stack) as reader:
        await reader.read(USER, 1)
        world.epoch = "8"
        world.user(1, v=9)
        world.set_watermark(world.commit(9))
        await reader.follows(world)
        answer = await reader.read(USER, 1)
        assert (answer.version, answer.origin) == ("4.8.9", Origin.STORED)


async def test_another_model_version_bypasses_the_cache(shared_stack: Stack, world: World) -> None:
    world.put_cached("user:1", encode_entity(USER, world.user(1, v=1)))
    world.user(1, v=2)
    world.set_watermark(world.commit(2), model_version=MODEL_VERSION + 1)
    async with inside(shared_stack, follow=False) as reader:
        await until(lambda: reader.following.bypass is Origin.OTHER_MODEL, "the watermark to be read")
        answer = await reader.read(USER, 1)
        assert (answer.origin, answer.version) == (Origin.OTHER_MODEL, "4.7.2")
        assert await bypass_reason(reader) is Origin.OTHER_MODEL
        world.cache.set(WATERMARK_KEY, "a|shape|of|the|future")
        await asyncio.sleep(0.3)
        assert await bypass_reason(reader) is Origin.OTHER_MODEL
        assert shown(await reader.read(USER, 2)) is None
        assert world.cached("user:2") is None
        world.set_watermark(world.commit(3))
        await reader.follows(world)


async def test_without_a_watermark_nothing_is_read_from_the_cache_or_stored(
    shared_stack: Stack, world: World
) -> None:
    world.put_cached("user:1", encode_entity(USER, world.user(1, v=1)))
    world.user(1, v=2)
    world.cache.delete(WATERMARK_KEY)
    async with inside(shared_stack, follow=False) as reader:
        await until(lambda: reader.following.bypass is Origin.NO_WATERMARK, "the answer that there is none")
        answers = [await reader.read(USER, id) for id in (1, 2)]
        assert [answer.origin for answer in answers] == [Origin.NO_WATERMARK] * 2
        assert (answers[0].version, answers[1].body) == ("4.7.2", None)
        assert reader.counted("session_answers", reason="no_watermark") == 2
        assert world.cached("user:2") is None
        world.set_watermark(world.commit(2))
        await reader.follows(world)


async def test_callers_that_wait_when_the_tide_ends_are_released(shared_stack: Stack, world: World) -> None:
    async with inside(shared_stack) as reader:
        shared_stack.redis.pause()
        try:
            waiting = [reader.cache.get([f"user:{id}"]) for id in (1, 2)]
            await asyncio.sleep(0.01)
            waiting.append(reader.cache.get(["user:3"]))
            reader.task.cancel()
            released = await asyncio.gather(*waiting, return_exceptions=True)
        finally:
            shared_stack.redis.resume()
        assert [type(one) for one in released] == [CacheBypassed] * 3
