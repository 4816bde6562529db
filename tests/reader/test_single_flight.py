"""Many callers share one read; a cancelled caller changes nothing for the others."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator

import pytest

from ops.stack import Stack
from reader.errors import ReadModelMissing
from reader.parts import Origin
from reader.read_model.declarations import LISTINGS, USER
from tests.reader.inside import inside, shown, until
from tests.reader.world import World
from tests.support.proxy import Proxy

pytestmark = pytest.mark.anyio
COMMENTS = next(listing for listing in LISTINGS if listing.name == "comments")


@pytest.fixture
def slow_redis_url(shared_stack: Stack) -> Iterator[str]:
    chance, port = random.Random(8), shared_stack.redis.port
    with Proxy(port, lambda: chance.uniform(0, 0.004)) as proxy:
        yield shared_stack.environment()["TIDEMARK_READER_REDIS_URL"].replace(f":{port}/", f":{proxy.port}/")


async def test_two_hundred_concurrent_misses_are_one_read_of_the_document(
    shared_stack: Stack, world: World
) -> None:
    world.user(5)
    async with inside(shared_stack) as reader:
        answers = await asyncio.gather(*(reader.read(USER, 5) for _ in range(200)))
        assert {answer.version for answer in answers} == {"4.7.1"}
        assert reader.commands.collections().count("users_b3") == 1


async def test_keys_missed_together_are_read_together_except_lists(shared_stack: Stack, world: World) -> None:
    with world.many():
        world.post(1)
        for id in range(1, 51):
            world.user(id)
    async with inside(shared_stack) as reader:
        await reader.read(USER, 99)  # the reader knows the build from here on
        reader.commands.sent.clear()
        users = [reader.read(USER, id) for id in range(1, 51)]
        *found, page = await asyncio.gather(*users, reader.read(COMMENTS, 1))
        assert [int(shown(answer)["id"]) for answer in found] == list(range(1, 51))
        assert shown(page) == {"items": [], "next": None}
        one_each = ["comments_b3", "control", "posts_b3", "users_b3"]
        assert reader.commands.collections() == one_each


async def test_two_readers_make_one_fill(shared_stack: Stack, world: World) -> None:
    world.user(5)
    async with inside(shared_stack) as one, inside(shared_stack) as other:
        found = await asyncio.gather(*(reader.read(USER, 5) for reader in [one, other] * 50))
        assert one.fills("user", "stored") + other.fills("user", "stored") == 1
    assert {answer.version for answer in found} == {"4.7.1"}


async def test_a_cancelled_caller_does_not_end_the_flight_of_the_others(
    shared_stack: Stack, world: World
) -> None:
    world.user(5)
    async with inside(shared_stack) as reader:
        first = asyncio.create_task(reader.read(USER, 5))
        async with reader.documents.before_values.holding(reader.read(USER, 5)) as second:
            first.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await first
        assert (await second).origin is Origin.STORED
        assert (first.cancelled(), reader.documents.values_read) == (True, 1)


async def test_a_flight_whose_callers_are_all_gone_still_fills(shared_stack: Stack, world: World) -> None:
    world.user(5)
    async with inside(shared_stack) as reader:
        async with reader.documents.before_values.holding(reader.read(USER, 5)) as only:
            only.cancel()
            await asyncio.wait([only])
        await until(lambda: (world.cached("user:5") or b"")[:1] == b"V", "the fill")


async def test_a_failed_flight_fails_for_all_and_the_next_is_new(shared_stack: Stack, world: World) -> None:
    world.user(5)
    control = world.database["control"].find_one({"_id": "serving"})
    world.database["control"].delete_one({"_id": "serving"})
    async with inside(shared_stack) as reader:
        failed = await asyncio.gather(*(reader.read(USER, 5) for _ in range(3)), return_exceptions=True)
        assert [type(error) for error in failed] == [ReadModelMissing] * 3
        world.database["control"].insert_one(control)
        assert shown(await reader.read(USER, 5))["id"] == "5"


async def test_callers_that_are_cancelled_at_random_never_get_each_others_answers(
    shared_stack: Stack, world: World, slow_redis_url: str
) -> None:
    users = range(1, 41)
    with world.many():
        for id in users:
            world.user(id)
    chance = random.Random(7)
    async with inside(shared_stack, redis_url=slow_redis_url, local_bytes=0) as reader:

        async def ask(id: int) -> bool:
            assert shown(await reader.read(USER, id))["id"] == str(id)
            return True

        for _ in range(60):
            tasks = [asyncio.create_task(ask(chance.choice(users))) for _ in range(20)]
            for task in tasks:
                asyncio.get_running_loop().call_later(chance.uniform(0, 0.008), task.cancel)
            await asyncio.wait(tasks)
            assert all(task.cancelled() or task.result() for task in tasks)
        assert await asyncio.gather(*map(ask, users)) == [True] * len(users)


async def test_answers_stay_right_when_connections_to_redis_are_cut(
    shared_stack: Stack, world: World
) -> None:
    with world.many():
        for id in range(1, 11):
            world.user(id)
    origins = set()
    async with inside(shared_stack, local_bytes=0) as reader:
        for turn in range(60):
            if turn % 10 == 9:
                world.cache.client_kill_filter(_type="pubsub")
            answers = await asyncio.gather(*(reader.read(USER, id) for id in range(1, 11)))
            assert [int(shown(answer)["id"]) for answer in answers] == list(range(1, 11))
            origins |= {answer.origin for answer in answers}
            if answers[0].origin is Origin.UNAVAILABLE:
                await reader.follows(world)
        assert reader.resets("connection") == 6
    assert {Origin.HIT, Origin.UNAVAILABLE} < origins
