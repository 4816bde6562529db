"""Many callers share one read; a cancelled caller changes nothing for the others."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from reader.read_through import ReadThrough

from ops.stack import Stack
from reader.cache import Cache
from reader.errors import CacheBypassed, DocumentsUnavailable
from reader.metrics import ReaderMetrics
from reader.parts import Origin, Wanted
from reader.read_model.declarations import LISTINGS, POST, USER
from tests.reader.inside import Commands, inside, watched_store
from tests.reader.world import World
from tests.support.proxy import Proxy

pytestmark = pytest.mark.anyio
COMMENTS = next(listing for listing in LISTINGS if listing.name == "comments")


@asynccontextmanager
async def counted(shared_stack: Stack) -> AsyncIterator[tuple[ReadThrough, Commands]]:
    documents, commands = watched_store(shared_stack, 64)
    cache = Cache(shared_stack.environment()["TIDEMARK_READER_REDIS_URL"])
    try:
        yield ReadThrough(cache, documents, ReaderMetrics()), commands
    finally:
        await cache.aclose()
        await documents.aclose()


def collections_asked(commands: Commands) -> list[str]:
    return [command["find"] for command in commands.sent if "find" in command]


@pytest.fixture
def slow_redis_url(shared_stack: Stack) -> Iterator[str]:
    chance, port = random.Random(8), shared_stack.redis.port
    with Proxy(port, lambda: chance.uniform(0, 0.004)) as proxy:
        yield shared_stack.environment()["TIDEMARK_READER_REDIS_URL"].replace(f":{port}/", f":{proxy.port}/")


async def test_two_hundred_concurrent_misses_are_one_read_of_the_document(
    shared_stack: Stack, world: World
) -> None:
    world.post(5)
    async with counted(shared_stack) as (read_through, commands):
        found = await asyncio.gather(*(read_through.get([Wanted(POST, 5)]) for _ in range(200)))
        assert {part["post:5"].entry.version for part in found} == {1}
        assert collections_asked(commands).count("posts_b3") == 1


async def test_keys_missed_together_are_read_together_except_lists(shared_stack: Stack, world: World) -> None:
    with world.many():
        for id in range(1, 51):
            world.post(id)
    async with counted(shared_stack) as (read_through, commands):
        await read_through.get([Wanted(POST, 99)])  # the reader knows the epoch from here on
        commands.sent.clear()
        wanted = [[Wanted(POST, id)] for id in range(1, 51)]
        found = await asyncio.gather(
            *map(read_through.get, wanted), read_through.get([Wanted(COMMENTS, 1), Wanted(POST, 1)])
        )
        assert [part[f"post:{id}"].entry.present for id, part in enumerate(found[:50], 1)] == [True] * 50
        assert sorted(collections_asked(commands)) == ["comments_b3", "control", "control", "posts_b3"]


async def test_two_readers_make_one_fill(shared_stack: Stack, world: World) -> None:
    world.post(5)
    async with inside(shared_stack) as one, inside(shared_stack) as other:
        found = await asyncio.gather(
            *(reader.read_through.get([Wanted(POST, 5)]) for reader in [one, other] * 50)
        )
        assert one.fills("post", "stored") + other.fills("post", "stored") == 1
    assert all(part["post:5"].entry.present for part in found)


async def test_a_cancelled_caller_does_not_end_the_flight_of_the_others(
    shared_stack: Stack, world: World
) -> None:
    world.post(5)
    async with inside(shared_stack) as reader:
        first_asks, second_asks = (reader.read_through.get([Wanted(POST, 5)]) for _ in range(2))
        first = asyncio.create_task(first_asks)
        async with reader.documents.before_values.holding(second_asks) as second:
            first.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await first
        assert (await second)["post:5"].origin is Origin.STORED
        assert (first.cancelled(), reader.documents.values_read) == (True, 1)


async def test_a_flight_whose_callers_are_all_gone_still_fills(shared_stack: Stack, world: World) -> None:
    world.post(5)
    async with inside(shared_stack) as reader:
        asking = reader.read_through.get([Wanted(POST, 5)])
        async with reader.documents.before_values.holding(asking) as only:
            only.cancel()
            await asyncio.wait([only])
        await reader.cache.after_fill.reached.wait()
    assert (world.cached("post:5") or b"")[:1] == b"V"


async def test_a_failed_flight_fails_for_all_and_the_next_is_new(shared_stack: Stack, world: World) -> None:
    world.post(5)
    control = world.database["control"].find_one({"_id": "serving"})
    world.database["control"].delete_one({"_id": "serving"})
    async with inside(shared_stack) as reader:
        failed = await asyncio.gather(
            *(reader.read_through.get([Wanted(POST, 5)]) for _ in range(3)), return_exceptions=True
        )
        assert [type(error).__mro__[1] for error in failed] == [DocumentsUnavailable] * 3
        world.database["control"].insert_one(control)
        assert (await reader.read_through.get([Wanted(POST, 5)]))["post:5"].entry.present


async def test_callers_that_are_cancelled_at_random_never_get_each_others_answers(
    shared_stack: Stack, world: World, slow_redis_url: str
) -> None:
    users = range(1, 41)
    with world.many():
        for id in users:
            world.user(id)
    chance = random.Random(7)
    async with inside(shared_stack, slow_redis_url) as reader:

        async def ask(id: int) -> bool:
            found = await reader.read_through.get([Wanted(USER, id)])
            assert f'"id":"{id}"'.encode() in found[f"user:{id}"].entry.body
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
    for id in range(1, 11):
        world.user(id)
    ten_seconds_later = itertools.count(0, 10).__next__  # longer than the pause after a failure
    cache = Cache(shared_stack.environment()["TIDEMARK_READER_REDIS_URL"], clock=ten_seconds_later)
    answered = 0
    try:
        for turn in range(30):
            if turn % 3 == 2:
                world.cache.client_kill_filter(_type="normal", skipme=True)
            try:
                lookup = await cache.get([f"user:{turn % 10}"])
            except CacheBypassed:
                continue
            assert set(lookup.values) == {f"user:{turn % 10}"}
            answered += 1
    finally:
        await cache.aclose()
    assert answered >= 10
