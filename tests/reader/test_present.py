"""Answers at present, from one snapshot of MongoDB: the process answers nothing older until a reset."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from ops.stack import Stack
from reader.demands import Need
from reader.errors import DocumentsUnavailable
from reader.parts import Origin
from reader.read_model.declarations import COLLECTIONS, POST, USER
from tests.reader.inside import Inside, inside, shown, until
from tests.reader.world import SOURCE, World
from tidemark.gtid import GtidSet
from tidemark.problem import Problem

pytestmark = pytest.mark.anyio
LONG_AGO = "1.1"  # a cluster time of which MongoDB has no snapshot


def write(world: World, seq: int) -> None:
    """A batch that MongoDB has, and that Redis does not have yet."""
    world.user(1, bio=str(seq), v=seq)


@asynccontextmanager
async def reading(stack: Stack, world: World, cluster_time: str | None = None) -> AsyncIterator[Inside]:
    """A reader at batch 5, whose replica has user 1 and not the user's post."""
    write(world, 5)
    world.post(9, body="5")
    checkpoint = world.commit(5)
    world.apply(checkpoint if cluster_time is None else replace(checkpoint, cluster_time=cluster_time))
    async with inside(stack) as reader:
        await reader.read(USER, 1)
        yield reader


async def bio(reader: Inside) -> tuple[str, int]:
    answer = await reader.read(USER, 1)
    return shown(answer)["bio"], answer.moment.seq


async def until_blind(reader: Inside) -> None:
    await until(lambda: reader.following.bypass, "the reader to be blind")


def restored(world: World, seq: int) -> None:
    """MongoDB has what it had after an earlier batch."""
    write(world, seq)
    world.commit(seq)


def expired(world: World) -> None:
    """SnapshotTooOld (239): MongoDB keeps no history."""
    keep_history(world, 0)


def without_catalog(world: World) -> None:
    """SnapshotUnavailable (246): the collection is another one since."""
    name = COLLECTIONS["users"].in_build(world.build)
    world.database.drop_collection(name)
    world.database.create_collection(name, **COLLECTIONS["users"].options)


def keep_history(world: World, seconds: int) -> None:
    world.database.client.admin.command("setParameter", 1, minSnapshotHistoryWindowInSeconds=seconds)


@pytest.mark.parametrize("gone", [expired, without_catalog], ids=lambda one: one.__name__)
async def test_a_moment_that_mongodb_has_lost_is_answered_at_present(
    shared_stack: Stack, world: World, gone: Callable[[World], None]
) -> None:
    async with reading(shared_stack, world) as reader:
        await reader.read(POST, 9)
        reader.replica.drop(["user:1"])
        world.cache.delete("tidemark:e7:user:1")
        try:
            async with reader.fetching.before_level.holding(reader.read(POST, 9)) as asked:
                gone(world)
                for seq in (6, 7):
                    write(world, seq)
                    world.post(9, body=str(seq))
                    checkpoint = world.commit(seq)
                    if seq == 6:
                        world.apply(replace(checkpoint, cluster_time=LONG_AGO), ["post:9", "user:1"])
                await reader.follows(world)
            answer = await asked
        finally:
            keep_history(world, 300)
        assert (shown(answer)["body"], answer.moment.seq, answer.origin) == ("7", 7, Origin.MOVED_ON)


@pytest.mark.parametrize("cluster_time", ["", LONG_AGO])
async def test_the_present_counts_as_the_moment_while_it_is_the_same_batch(
    shared_stack: Stack, world: World, cluster_time: str
) -> None:
    async with reading(shared_stack, world, cluster_time) as reader:
        answer = await reader.read(POST, 9)
        assert (shown(answer)["body"], answer.moment.seq, answer.origin) == ("5", 5, Origin.STORED)
        assert reader.commands.sent[-1]["readConcern"]["level"] == "snapshot"


async def test_after_an_answer_at_present_none_is_older_until_the_tide_has_it(
    shared_stack: Stack, world: World
) -> None:
    async with reading(shared_stack, world, LONG_AGO) as reader:
        assert await bio(reader) == ("5", 5)
        write(world, 7)
        world.commit(7)
        assert (await reader.read(POST, 9)).moment.seq == 7
        assert await bio(reader) == ("7", 7)  # the replica's is of batch 5
        world.apply(replace(world.commit(6), cluster_time=LONG_AGO), ["user:1"])
        write(world, 8)
        world.commit(8)
        await reader.follows(world)
        assert await bio(reader) == ("8", 8)
        world.batch(8)
        await reader.follows(world)
        await reader.read(USER, 1)
        assert (await reader.read(USER, 1)).origin is Origin.LOCAL


async def test_a_restored_mongodb_gives_nothing_older_than_the_tide(
    shared_stack: Stack, world: World
) -> None:
    """Blind, the process still knows what it answered from its replica."""
    async with reading(shared_stack, world) as reader:
        assert await bio(reader) == ("5", 5)
        shared_stack.redis.pause()
        try:
            await until_blind(reader)
            restored(world, 4)
            for _ in range(2):
                with pytest.raises(DocumentsUnavailable, match="older"):
                    await reader.read(USER, 1)
        finally:
            shared_stack.redis.resume()
        await until(lambda: reader.following.bypass is None, "the tide to go on")
        assert await bio(reader) == ("5", 5)
        world.epoch = "8"
        world.set_watermark(world.commit(4))
        await reader.follows(world)  # after a reset: another history
        assert await bio(reader) == ("4", 4)


async def test_a_restored_mongodb_gives_nothing_older_than_an_answer_at_present(
    shared_stack: Stack, world: World
) -> None:
    async with reading(shared_stack, world) as reader:
        shared_stack.redis.pause()
        try:
            await until_blind(reader)
            restored(world, 7)
            assert await bio(reader) == ("7", 7)
            restored(world, 6)  # newer than the tide
            with pytest.raises(DocumentsUnavailable, match="older"):
                await reader.read(USER, 1)
        finally:
            shared_stack.redis.resume()
        await until(lambda: reader.following.bypass is None, "the tide to go on")
        with pytest.raises(DocumentsUnavailable, match="older"):
            await reader.read(USER, 1)
        restored(world, 8)
        assert await bio(reader) == ("8", 8)


async def test_a_watermark_after_none_may_be_of_another_history(shared_stack: Stack, world: World) -> None:
    """All stores were restored while Redis had no watermark. Else the reader would refuse for ever."""
    async with reading(shared_stack, world) as reader:
        restored(world, 7)
        world.cache.delete("tidemark:watermark")
        await until(lambda: reader.following.bypass is Origin.NO_WATERMARK, "the loss to be noticed")
        assert await bio(reader) == ("7", 7)
        restored(world, 4)
        world.epoch = "8"
        world.set_watermark(world.commit(4))
        await reader.follows(world)
        assert await bio(reader) == ("4", 4)


async def test_sessions_at_once_do_not_refuse_each_other(shared_stack: Stack, world: World) -> None:
    """One that began earlier is older than one that ended earlier; it takes nothing back, either."""
    async with reading(shared_stack, world) as reader:
        shared_stack.redis.pause()
        try:
            await until_blind(reader)
            async with reader.documents.before_values.holding(reader.read(USER, 1)) as earlier:
                restored(world, 6)
                assert await bio(reader) == ("6", 6)
            assert (await earlier).moment.seq == 5
            restored(world, 5)
            with pytest.raises(DocumentsUnavailable, match="older"):
                await reader.read(USER, 1)
        finally:
            shared_stack.redis.resume()


async def test_a_session_is_not_refused_for_what_the_tide_brings_meanwhile(
    shared_stack: Stack, world: World
) -> None:
    async with reading(shared_stack, world, LONG_AGO) as reader:
        write(world, 6)
        world.commit(6)
        async with reader.documents.before_values.holding(reader.read(POST, 9), passes=1) as asked:
            world.batch(7, ["user:1"])
            await reader.follows(world)
        assert (await asked).moment.seq == 6


async def test_a_token_waits_for_the_tide_without_asking_anybody(shared_stack: Stack, world: World) -> None:
    async with reading(shared_stack, world) as reader:
        reader.commands.sent.clear()
        need = Need(GtidSet.parse(f"{SOURCE}:1-6"), wait_seconds=5, preferred=True)
        asked = asyncio.create_task(reader.answer(USER, 1, need))
        await asyncio.sleep(0.2)
        assert (asked.done(), reader.commands.sent) == (False, [])
        world.batch(6)
        answer = await asked
        assert (answer.moment.seq, answer.origin) == (6, Origin.LOCAL)
        assert reader.counted("consistency_reads", outcome="waited") == 1


async def test_a_token_is_met_by_mongodb_or_refused(shared_stack: Stack, world: World) -> None:
    async with reading(shared_stack, world) as reader:
        six, nine = (
            Need(GtidSet.parse(f"{SOURCE}:1-{seq}"), wait_seconds=0.01, preferred=True) for seq in (6, 9)
        )
        write(world, 6)
        world.commit(6)
        answer = await reader.answer(USER, 1, six)
        assert (shown(answer)["bio"], answer.origin) == ("6", Origin.TOKEN)
        with pytest.raises(Problem) as refused:
            await reader.answer(USER, 1, nine)
        assert (refused.value.status, refused.value.name) == (503, "not-yet-consistent")
        assert await bio(reader) == ("5", 5)  # others need not wait for what one client asked for


async def test_no_more_tokens_wait_than_allowed(shared_stack: Stack, world: World) -> None:
    async with reading(shared_stack, world) as reader:
        need = Need(GtidSet.parse(f"{SOURCE}:1-6"), wait_seconds=5, preferred=True)
        waiting = [asyncio.create_task(reader.answer(USER, 1, need)) for _ in range(10)]
        await asyncio.sleep(0.05)
        with pytest.raises(Problem):  # at once: MongoDB does not have it, either
            await asyncio.wait_for(reader.answer(USER, 1, need), 2)
        world.batch(6)
        assert {(await one).moment.seq for one in waiting} == {6}
