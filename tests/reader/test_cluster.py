"""A cluster's shards: the strands of all are one tide, and one that is lost harms its own keys only."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import redis
from pymongo.database import Database

from ops.stack import Stack
from ops.stack.cluster import node_client
from reader import merging
from reader.asked import EntityQuery, ListQuery
from reader.composing import Answer
from reader.demands import NO_DEMANDS
from reader.errors import NOTHING, not_found
from reader.live.hub import Hub
from reader.live.watch import Turn, Watched
from reader.merging import LATE
from reader.node import ASK_SECONDS
from reader.paging import FIRST_PAGE
from reader.parts import Origin
from reader.read_model.declarations import LISTINGS, USER
from reader.read_model.shards import Shard, shard_number, shards
from tests.conftest import service_environment
from tests.reader.conftest import starting_reader
from tests.reader.inside import Inside, inside, shown, until
from tests.reader.world import SOURCE, World
from tests.support.clusters import Cluster
from tests.support.harness import wait_until
from tidemark.gtid import GtidSet

pytestmark = [pytest.mark.anyio, pytest.mark.server]
COUNT = 6  # two on each node
POSTS = next(listing for listing in LISTINGS if listing.path == "/user/{id}/posts")
POSTS_20 = ListQuery(POSTS, 1, FIRST_PAGE)
ALL = ["user:1", "user:1:posts", *(f"post:{id}" for id in range(1, 31))]


class ShardedWorld(World):
    """A read model whose cache is a cluster."""

    shards = shards(COUNT)

    def __init__(self, database: Any, cluster: Cluster) -> None:
        self.cluster = cluster
        self._clients: dict[str, redis.Redis] = {}
        self.find_primaries()
        super().__init__(database, self.cache_of(self.shards[0]))

    def find_primaries(self) -> None:
        self.primaries = {shard: self.cluster.primary(shard.slot) for shard in self.shards}

    def cache_of(self, shard: Shard) -> redis.Redis:
        url = self.primaries[shard].admin_url
        if url not in self._clients:
            self._clients[url] = redis.Redis.from_url(url)
        return self._clients[url]

    def beside(self, shard: Shard) -> list[Shard]:
        """All shards of its node."""
        return [one for one in self.shards if self.primaries[one] is self.primaries[shard]]

    def close(self) -> None:
        for client in self._clients.values():
            client.close()


@pytest.fixture
def sharded(
    cluster: Cluster, shared_stack: Stack, database: Database[dict[str, Any]]
) -> Iterator[ShardedWorld]:
    world = ShardedWorld(database, cluster)
    yield world
    world.close()


@asynccontextmanager
async def reading(stack: Stack, world: ShardedWorld, *, local_bytes: int = 2**20) -> AsyncIterator[Inside]:
    """A reader that is at batch 2 with all shards. User 1 has 30 posts, which say `old`."""
    write(world, "old")
    for shard in world.shards:
        world.user(key_on(shard), display_name="old")
    world.batch(2)
    url = f"{world.cluster.urls['TIDEMARK_READER_REDIS_URL']}?shards={COUNT}"
    async with inside(stack, redis_url=url, local_bytes=local_bytes) as reader:
        await at(reader, 2)
        yield reader


def is_at(reader: Inside, seq: int) -> bool:
    """The tide is there, though shards may be away."""
    return reader.following.tide is not None and reader.following.tide.seq == seq


async def at(reader: Inside, seq: int) -> None:
    def has_all() -> bool:
        tide = reader.following.tide
        return tide is not None and tide.seq == seq and reader.following.whole and not reader.following.away

    await until(has_all, f"all shards at batch {seq}")


def write(world: World, word: str) -> None:
    with world.many():
        for id in range(1, 31):
            world.post(id, body=word)
    world.user(1, display_name=word)


def words(answer: Any) -> set[str]:
    """The parts of a list of posts."""
    return {
        text for item in shown(answer)["items"] for text in (item["body"], item["author"]["display_name"])
    }


def key_on(shard: Shard) -> int:
    """A user whose key lies on the shard."""
    return next(id for id in itertools.count(100) if shard_number(f"user:{id}", COUNT) == shard.number)


@pytest.mark.parametrize(("patience", "local_bytes"), [(10_000, 2**20), (10_000, 0), (0, 2**20)])
async def test_an_answer_from_several_shards_is_of_one_moment(
    shared_stack: Stack,
    sharded: ShardedWorld,
    monkeypatch: pytest.MonkeyPatch,
    patience: int,
    local_bytes: int,
) -> None:
    """Each batch reaches the shards one by one, in any order, and readers ask in between."""
    monkeypatch.setattr(merging, "LATE", patience)
    chance = random.Random(7)
    async with reading(shared_stack, sharded, local_bytes=local_bytes) as reader:
        for seq in range(3, 13):
            write(sharded, f"word {seq}")
            checkpoint, asked = sharded.commit(seq), list[asyncio.Task[Answer]]()
            for shard in chance.sample(sharded.shards, COUNT):
                sharded.apply_to(shard, checkpoint, ALL)
                asked += [asyncio.create_task(reader.ask(POSTS_20)) for _ in range(3)]
                await asyncio.sleep(chance.choice((0, 0.01, 0.15)) if patience == 0 else 0.005)
            await at(reader, seq)
            for answer in await asyncio.gather(*asked):
                written = answer.moment.seq
                assert words(answer) == {"old" if written == 2 else f"word {written}"}
        assert (reader.resets("broken"), reader.following.position.life) == (0, 0)
        assert (reader.resets("late") > 0) == (patience == 0)


async def test_the_tide_and_its_tokens_wait_for_the_slowest_shard(
    shared_stack: Stack, sharded: ShardedWorld
) -> None:
    async with reading(shared_stack, sharded) as reader:
        waiting = asyncio.create_task(reader.following.reaches(GtidSet.parse(f"{SOURCE}:1-3"), 10))
        checkpoint, (*most, last) = sharded.commit(3), sharded.shards
        for shard in most:
            sharded.apply_to(shard, checkpoint)
        await asyncio.sleep(0.1)
        assert (reader.following.tide or checkpoint).seq == 2
        assert not waiting.done()
        sharded.apply_to(last, checkpoint)
        assert await waiting
        await at(reader, 3)


async def test_a_reply_behind_a_message_waits_with_it(shared_stack: Stack, sharded: ShardedWorld) -> None:
    """Redis has answered from after the batch; for the tide, the batch has not come."""
    async with reading(shared_stack, sharded) as reader:
        first, *others = sharded.shards
        id = key_on(first)
        sharded.user(id, display_name="new")
        checkpoint = sharded.commit(3)
        sharded.apply_to(first, checkpoint, [f"user:{id}"])
        looking = reader.cache.get([f"user:{id}"])
        await asyncio.sleep(0.05)
        assert not looking.done()
        for shard in others:
            sharded.apply_to(shard, checkpoint)
        looked = await looking
        assert looked.at(f"user:{id}") == reader.following.position
        assert reader.following.position.messages == 1


async def test_a_late_shard_is_left_out_and_comes_back(shared_stack: Stack, sharded: ShardedWorld) -> None:
    async with reading(shared_stack, sharded) as reader:
        *most, late = sharded.shards
        mine, other = key_on(late), key_on(most[0])
        for id in (mine, other):
            await reader.read(USER, id)
        sharded.user(mine, display_name="new", v=3)
        third = sharded.commit(3)
        started = time.monotonic()
        for shard in most:
            sharded.apply_to(shard, third, [f"user:{mine}"])
        await until(lambda: (reader.following.tide or third).seq == 3, "the tide to go on without it")
        assert LATE * ASK_SECONDS * 0.6 < time.monotonic() - started < 1
        assert reader.following.away == [late.number]
        assert (reader.resets("late"), reader.replica.get(f"user:{mine}")) == (1, None)
        before = reader.metrics.redis_commands.counts.copy()
        answer = await reader.read(USER, mine)
        assert (shown(answer)["display_name"], answer.moment.seq) == ("new", 3)
        assert answer.origin is Origin.UNAVAILABLE
        assert reader.metrics.redis_commands.counts == before
        assert (await reader.read(USER, other)).origin is Origin.LOCAL
        fourth = sharded.commit(4)
        sharded.apply_to(late, third, [f"user:{mine}"])
        for shard in sharded.shards:
            sharded.apply_to(shard, fourth)
        await at(reader, 4)
        assert (await reader.read(USER, mine)).origin is Origin.STORED
        assert (await reader.read(USER, mine)).origin is Origin.LOCAL


async def test_a_fill_for_a_shard_that_has_left_is_not_kept(
    shared_stack: Stack, sharded: ShardedWorld
) -> None:
    """The tide has not moved, but no message will name the key."""
    async with reading(shared_stack, sharded) as reader:
        shard = sharded.shards[0]
        id = key_on(shard)
        async with reader.documents.before_values.holding(reader.read(USER, id)) as reading_user:
            sharded.cache_of(shard).delete(shard.watermark_key)
            await until(lambda: reader.following.away == [shard.number], "the loss to be noticed")
        assert shown(await reading_user)["display_name"] == "old"
        assert reader.following.position.messages == 0
        assert reader.replica.get(f"user:{id}") is None


async def test_what_was_named_while_a_shard_was_away_is_not_known(
    shared_stack: Stack, sharded: ShardedWorld
) -> None:
    async with reading(shared_stack, sharded) as reader:
        *most, _ = sharded.shards
        before = reader.following.position
        for seq in (3, 4):
            checkpoint = sharded.commit(seq)
            for shard in most:
                sharded.apply_to(shard, checkpoint)
        await until(lambda: reader.following.tide and reader.following.tide.seq == 4, "batch 4")
        now = reader.following.position
        assert now.life == before.life
        assert reader.following.named.names(before, now) is None
        assert reader.following.named.between(["post:9"], before, now)


async def test_a_lost_node_harms_its_own_shards_only(shared_stack: Stack, sharded: ShardedWorld) -> None:
    """A replica takes its place; until then and after, no other shard notices."""
    async with reading(shared_stack, sharded) as reader:
        lost = sharded.beside(sharded.shards[0])
        here = [shard for shard in sharded.shards if shard not in lost]
        ids = {shard: key_on(shard) for shard in sharded.shards}
        for id in ids.values():
            await reader.read(USER, id)
        life = reader.following.position.life
        sharded.primaries[lost[0]].kill()
        await until(lambda: len(reader.following.away) == len(lost), "the loss to be noticed")
        for shard in here:
            assert (await reader.read(USER, ids[shard])).origin is Origin.LOCAL
        for shard in lost:
            assert (await reader.read(USER, ids[shard])).origin is Origin.UNAVAILABLE
        answer = await reader.ask(POSTS_20)
        assert (words(answer), answer.origin) == ({"old"}, Origin.UNAVAILABLE)
        assert reader.requests("redis", "post", "lease_wait") == 0  # nor does anybody wait for a lease
        checkpoint = sharded.commit(3)
        for shard in here:
            sharded.apply_to(shard, checkpoint)
        await until(lambda: reader.following.tide and reader.following.tide.seq == 3, "the tide to go on")
        await until(lambda: _replaced(sharded, lost[0]), "a replica to take its place", seconds=20)
        for shard in lost:
            sharded.apply_to(shard, checkpoint)
        await at(reader, 3)
        assert reader.following.position.life == life
        for shard in lost:
            assert (await reader.read(USER, ids[shard])).origin in (Origin.HIT, Origin.STORED)


def _replaced(world: ShardedWorld, shard: Shard) -> bool:
    former = world.primaries[shard]
    try:
        world.find_primaries()
    except StopIteration:
        return False
    return world.primaries[shard] is not former


async def test_a_moved_slot_is_followed_to_its_new_node(shared_stack: Stack, sharded: ShardedWorld) -> None:
    async with reading(shared_stack, sharded) as reader:
        moved = sharded.shards[0]
        source = sharded.primaries[moved]
        target = next(node for node in sharded.primaries.values() if node is not source)
        _move(sharded, moved, target)
        try:
            await until(lambda: reader.following.strands[0].node is not None, "its node")
            node = reader.following.strands[0].node
            await until(lambda: reader.following.strands[0].node is not node, "another node", seconds=3)
            sharded.batch(3, ALL)
            await at(reader, 3)
            assert reader.following.position.life == 0
        finally:
            _move(sharded, moved, source)


def _move(world: ShardedWorld, shard: Shard, target: Any) -> None:
    """The slot and all its keys, as redis-cli does it."""
    source = world.primaries[shard]
    with node_client(source.admin_url) as old, node_client(target.admin_url) as new:
        ids = [client.cluster("MYID") for client in (old, new)]
        new.cluster("SETSLOT", shard.slot, "IMPORTING", ids[0])
        old.cluster("SETSLOT", shard.slot, "MIGRATING", ids[1])
        keys = old.cluster("GETKEYSINSLOT", shard.slot, 1_000)
        if keys:
            password = target.password
            old.execute_command(  # type: ignore[no-untyped-call]
                *(
                    "MIGRATE",
                    "127.0.0.1",
                    target.port,
                    "",
                    0,
                    5_000,
                    "AUTH2",
                    "admin",
                    password,
                    "KEYS",
                    *keys,
                )
            )
        for client in (new, old):
            client.cluster("SETSLOT", shard.slot, "NODE", ids[1])
    world.primaries[shard] = target


async def test_a_lost_watermark_empties_one_shard(shared_stack: Stack, sharded: ShardedWorld) -> None:
    async with reading(shared_stack, sharded) as reader:
        shard, other = sharded.shards[:2]
        id = key_on(other)
        await reader.read(USER, id)
        sharded.cache_of(shard).delete(shard.watermark_key)
        await until(lambda: reader.following.away == [shard.number], "the loss to be noticed")
        await until(
            lambda: reader.following.strands[shard.number].bypass is Origin.NO_WATERMARK, "the reason"
        )
        answer = await reader.read(USER, key_on(shard))
        assert answer.origin is Origin.NO_WATERMARK
        assert (await reader.read(USER, id)).origin is Origin.LOCAL
        assert reader.resets("broken") == 1


async def test_a_watch_shows_no_tide_while_a_shard_is_away(
    shared_stack: Stack, sharded: ShardedWorld
) -> None:
    """A change meanwhile is shown afterwards, though no message named it."""
    async with reading(shared_stack, sharded) as reader:
        *most, late = sharded.shards
        id = key_on(late)
        hub = Hub(reader.following, reader.consistency)
        running = asyncio.create_task(hub.run())
        try:
            query = EntityQuery(USER, id)
            watch = hub.watch(Watched(("/user", "", ""), query, not_found(*NOTHING)), Woken())
            assert b"old" in (await hub.present(watch, NO_DEMANDS)).body
            sharded.user(id, display_name="new", v=3)
            checkpoint = sharded.commit(3)
            for shard in most:
                sharded.apply_to(shard, checkpoint)
            assert hub.tide is not None
            await until(lambda: reader.following.tide and reader.following.tide.seq == 3, "batch 3")
            assert hub.tide is None
            sharded.apply_to(late, checkpoint, [f"user:{id}"])
            await at(reader, 3)
            assert hub.tide is not None
            await until(lambda: watch.state and b"new" in watch.state.body, "the state", seconds=3)
        finally:
            running.cancel()
            await asyncio.wait([running])


async def test_a_watch_vouches_for_nothing_that_happened_while_a_shard_was_away(
    shared_stack: Stack, sharded: ShardedWorld
) -> None:
    """A later message that names another of its keys does not make it sure of what no message named."""
    async with reading(shared_stack, sharded) as reader:
        hub = Hub(reader.following, reader.consistency)
        watch = hub.watch(Watched(("/user/1/posts", "", ""), POSTS_20, not_found(*NOTHING)), Woken())
        state = await hub.present(watch, NO_DEMANDS)
        missed, late = "post:30", sharded.shard_of("post:30")
        named = next(key for key in watch.keys if sharded.shard_of(key) is not late)
        for seq, keys in ((3, [missed]), (4, [named])):
            checkpoint = sharded.commit(seq)
            for shard in sharded.shards:
                if shard is not late:
                    sharded.apply_to(shard, checkpoint, keys)
            await until(partial(is_at, reader, seq), f"batch {seq}")
        assert watch.before == state.moment


class Woken:
    def tell(self, turn: Turn) -> None:
        pass


async def test_shards_that_begin_at_different_batches_come_together(
    shared_stack: Stack, sharded: ShardedWorld
) -> None:
    write(sharded, "old")
    second, third = sharded.batch(2), sharded.commit(3)
    ahead: Sequence[Shard] = sharded.shards[::2]
    for shard in ahead:
        sharded.apply_to(shard, third)
    url = f"{sharded.cluster.urls['TIDEMARK_READER_REDIS_URL']}?shards={COUNT}"
    async with inside(shared_stack, redis_url=url) as reader:
        for shard in sharded.shards[1::2]:
            sharded.apply_to(shard, third)
        await at(reader, 3)
        assert second.seq == 2


def test_readiness_names_the_shards_that_are_away(shared_stack: Stack, sharded: ShardedWorld) -> None:
    url = f"{sharded.cluster.urls['TIDEMARK_READER_REDIS_URL']}?shards={COUNT}"
    with starting_reader({**service_environment(shared_stack), "TIDEMARK_READER_REDIS_URL": url}) as reader:
        wait_until(reader.answers, "the reader to answer")
        wait_until(lambda: reader.ready().json()["redis"] == "ok", "all shards")
        for shard in sharded.shards[1:3]:
            sharded.cache_of(shard).delete(shard.watermark_key)
        away = "away: reads of shards 1, 2 come from MongoDB"
        wait_until(lambda: reader.ready().json()["redis"] == away, "the shards to be named")
        assert (reader.ready().status_code, reader.metrics("tidemark_tide_shards_away")) == (200, [2])
