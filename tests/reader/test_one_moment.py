"""Every answer is the read model as it was at one moment, though batches are applied between its reads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from ops.stack import Stack
from reader.asked import EntityQuery, FeedQuery, HashtagQuery, ListQuery, Query
from reader.composing import Answer
from reader.paging import FIRST_PAGE, Page
from reader.parts import Origin
from reader.read_model.declarations import COMMENT, LISTINGS, POST, USER
from tests.reader.inside import Inside, inside, shown, until
from tests.reader.world import World

pytestmark = pytest.mark.anyio
POSTS = next(listing for listing in LISTINGS if listing.path == "/user/{id}/posts")
COMMENTS = next(listing for listing in LISTINGS if listing.path == "/post/{id}/comments")
POSTS_20 = ListQuery(POSTS, 1, FIRST_PAGE)
COMMENTS_100 = ListQuery(COMMENTS, 1, Page(100))
FEED = FeedQuery("subject-2", Page())
SEA = HashtagQuery("sea", Page())
ITEMS = [f"{name}:{id}" for id in range(1, 31) for name in ("post", "comment")]
ALL = ["user:1", "user:1:posts", "post:1:comments", "hashtag:736561", *ITEMS]
HELD: dict[Query, int] = {FEED: 3}  # the first level at which a part is held that the batch names; others: 1


def write(world: World, word: str, posts: range = range(1, 31)) -> None:
    """All that an answer can show says `word`. User 2 follows user 1."""
    with world.many():
        for id in posts:
            world.post(id, body=f"{word} #sea")
            world.comment(id, 1, body=word)
    world.user(1, display_name=word, handle=word)


def change(world: World, seq: int, word: str = "new", added: int = 0, deleted: int = 0) -> None:
    """A batch that names everything that it changes."""
    posts = range(1, 31 + added)
    write(world, word, posts)
    for id in range(30, 30 - deleted, -1):
        world.remove("posts", id)
        world.remove("comments", id)
    world.batch(seq, [*ALL, *(f"{name}:{id}" for id in posts[30:] for name in ("post", "comment"))])


@asynccontextmanager
async def reading(stack: Stack, world: World, *, local_bytes: int = 2**20) -> AsyncIterator[Inside]:
    """A reader of a world in which all is old, as of batch 2."""
    world.user(2)
    world.follow(2, 1)
    write(world, "old")
    world.batch(2)
    async with inside(stack, local_bytes=local_bytes) as reader:
        yield reader


def forget(reader: Inside, world: World, *keys: str) -> None:
    """Neither the replica nor Redis has these keys."""
    reader.replica.drop(keys)
    world.cache.delete(*(f"tidemark:e{world.epoch}:{key}" for key in keys))


def words(answer: Answer) -> set[str]:
    """All words that it shows: of its post or posts, and of their authors."""
    body = shown(answer)
    items = body.get("items", [body])
    return {word for one in items for word in (one["body"].split()[0], one["author"]["display_name"])}


def ids(answer: Answer) -> list[int]:
    return [int(one["id"]) for one in shown(answer)["items"]]


async def test_a_post_and_its_author_are_of_one_moment(shared_stack: Stack, world: World) -> None:
    """The post is held from the replica when a batch changes both."""
    async with reading(shared_stack, world) as reader:
        await reader.read(POST, 5)
        forget(reader, world, "user:1")
        async with reader.fetching.before_level.holding(reader.read(POST, 5)) as asked:
            change(world, 3)
            await reader.follows(world)
        answer = await asked
        assert (words(answer), answer.moment.seq) == ({"old"}, 2)
        answer = await reader.read(POST, 5)
        assert (words(answer), answer.moment.seq) == ({"new"}, 3)


async def test_a_moment_moves_on_while_no_held_part_is_named(shared_stack: Stack, world: World) -> None:
    async with reading(shared_stack, world) as reader:
        await reader.read(POST, 5)
        forget(reader, world, "user:1")
        async with reader.fetching.before_level.holding(reader.read(POST, 5)) as asked:
            world.user(1, display_name="old", bio="new")
            world.batch(3, ["user:1"])
            await reader.follows(world)
        answer = await asked
        assert (answer.moment.seq, answer.origin) == (3, Origin.STORED)
        assert words(answer) == {"old"}


PAGES = {"list": POSTS_20, "page of 100": COMMENTS_100, "feed": FEED, "hashtag": SEA}
QUERIES = pytest.mark.parametrize("query", PAGES.values(), ids=PAGES)
LEVELS = pytest.mark.parametrize(
    ("query", "level"),
    [
        *((query, level) for query in (POSTS_20, COMMENTS_100) for level in (0, 1)),
        *((FEED, level) for level in range(4)),
        (SEA, 2),
    ],
)


@LEVELS
async def test_a_page_is_of_one_moment_whenever_a_batch_comes(
    shared_stack: Stack, world: World, query: Query, level: int
) -> None:
    """Levels: the list, its items, their authors. The batch changes them all, and adds a post.

    Of the feed: the caller's user, the followees, their heads, then the items with the heads' authors.
    """
    async with reading(shared_stack, world) as reader:
        async with reader.fetching.before_level.holding(reader.ask(query), passes=level) as asked:
            change(world, 3, added=1)
            await reader.follows(world)
        answer = await asked
        seq = answer.moment.seq
        assert words(answer) == {{2: "old", 3: "new"}[seq]}
        assert ids(answer)[0] == {2: 30, 3: 31}[seq]
        assert seq == (2 if level >= HELD.get(query, 1) else 3)
        answer = await reader.ask(query)
        assert (words(answer), ids(answer)[0], answer.moment.seq) == ({"new"}, 31, 3)


async def test_a_page_takes_nothing_from_a_replica_that_went_on(shared_stack: Stack, world: World) -> None:
    """While MongoDB is asked for the page, others bring new items into the replica."""
    async with reading(shared_stack, world) as reader:
        async with reader.documents.before_values.holding(reader.ask(COMMENTS_100), passes=1) as asked:
            change(world, 3)
            await reader.follows(world)
            for id in range(1, 31):
                await reader.read(COMMENT, id)
            assert reader.replica.get("comment:30") and reader.replica.get("user:1")
        answer = await asked
        assert (words(answer), answer.moment.seq) == ({"old"}, 2)


async def test_a_part_read_for_one_answer_is_not_joined_with_a_newer_one(
    shared_stack: Stack, world: World
) -> None:
    """Another reader holds the post's lease, so its document is read for this answer alone."""
    async with reading(shared_stack, world) as reader:
        world.put_cached("post:5", b"L" + b"0" * 32)
        async with reader.documents.before_values.holding(reader.read(POST, 5)) as asked:
            change(world, 3)
            await reader.follows(world)
            await reader.read(USER, 1)
            assert reader.replica.get("user:1")
        answer = await asked
        assert (words(answer), answer.moment.seq) == ({"old"}, 2)


async def test_a_page_without_a_key_does_not_move_on(shared_stack: Stack, world: World) -> None:
    """No message names the page itself, so nothing tells that it has another comment now."""
    async with reading(shared_stack, world) as reader:
        async with reader.fetching.before_level.holding(reader.ask(COMMENTS_100), passes=1) as asked:
            world.comment(31, 1, body="new")
            world.batch(3, ["comment:31", "post:1:comments"])
            await reader.follows(world)
        answer = await asked
        assert (answer.moment.seq, ids(answer)[0]) == (2, 30)
        assert ids(await reader.ask(COMMENTS_100))[0] == 31


@QUERIES
async def test_a_deleted_post_is_whole_or_gone(shared_stack: Stack, world: World, query: Query) -> None:
    """Never a page of 29 posts that had 30, nor one of 20 that shows 19."""
    async with reading(shared_stack, world) as reader:
        passes = HELD.get(query, 1)
        async with reader.fetching.before_level.holding(reader.ask(query), passes) as asked:
            change(world, 3, "old", deleted=1)
            await reader.follows(world)
        answer = await asked
        assert (ids(answer)[0], answer.moment.seq) == (30, 2)
        assert len(ids(answer)) == (30 if query is COMMENTS_100 else 20)
        assert shown(await reader.read(POST, 30)) is None
        assert ids(await reader.ask(query))[0] == 29


def new_build(world: World) -> None:
    world.begin_build(4, "8")
    write(world, "new")
    world.user(2)
    world.follow(2, 1)
    world.set_watermark(world.commit(1))


def new_epoch(world: World) -> None:
    """The cache began anew: it was lost, or does not continue MongoDB's history."""
    world.cache.flushall()
    world.epoch = "8"
    write(world, "new")
    world.set_watermark(world.commit(3))


def failed_over(world: World) -> None:
    """To a replica of Redis that has missed nothing but the last batch; the projector brings it again."""
    cached = world.all_cached()
    change(world, 3)
    world.cache.flushall()
    world.cache.mset(cached)
    world.cache.client_kill_filter(_type="pubsub")


@pytest.mark.parametrize("happens", [new_build, new_epoch, failed_over], ids=lambda one: one.__name__)
@pytest.mark.parametrize("query", [EntityQuery(POST, 5), POSTS_20, SEA])
async def test_no_answer_mixes_two_builds_epochs_or_primaries(
    shared_stack: Stack, world: World, query: Query, happens: Callable[[World], None]
) -> None:
    async with reading(shared_stack, world) as reader:
        passes = 0 if isinstance(query, EntityQuery) else 1
        if passes == 0:
            await reader.ask(query)
            forget(reader, world, "user:1")
        life = reader.following.position.life
        async with reader.fetching.before_level.holding(reader.ask(query), passes=passes) as asked:
            happens(world)
            await until(lambda: reader.following.position.life > life, "a reset")
            await reader.follows(world)
        answer = await asked
        assert (words(answer), answer.moment.seq, answer.moment.build) == ({"old"}, 2, 3)
        answer = await reader.ask(query)
        assert words(answer) == {"old" if happens is failed_over else "new"}
        assert answer.moment.lineage == world.watermark().lineage
    world.clear_build(4)


@LEVELS
async def test_a_blind_reader_answers_of_one_moment(
    shared_stack: Stack, world: World, query: Query, level: int
) -> None:
    async with reading(shared_stack, world) as reader:
        world.cache.delete("tidemark:watermark")
        await until(lambda: reader.following.bypass is Origin.NO_WATERMARK, "the loss to be noticed")
        async with reader.documents.before_values.holding(reader.ask(query), passes=level) as asked:
            write(world, "new", range(1, 32))
            world.commit(3)
        answer = await asked
        assert (words(answer), answer.moment.seq, answer.origin) == ({"old"}, 2, Origin.NO_WATERMARK)
        assert words(await reader.ask(query)) == {"new"}


async def test_a_composition_that_goes_blind_keeps_its_moment(shared_stack: Stack, world: World) -> None:
    async with reading(shared_stack, world) as reader:
        async with reader.fetching.before_level.holding(reader.ask(COMMENTS_100), passes=1) as asked:
            shared_stack.redis.pause()
            try:
                await until(lambda: reader.following.bypass, "the reader to be blind")
                write(world, "new")
                world.commit(3)
                reader.fetching.before_level.open()
                answer = await asked
            finally:
                shared_stack.redis.resume()
        assert (words(answer), answer.moment.seq, answer.origin) == ({"old"}, 2, Origin.UNAVAILABLE)


async def test_all_requests_of_a_level_travel_together(shared_stack: Stack, world: World) -> None:
    """At most one MGET and one lease a level, and MongoDB is asked once for a level's documents."""
    async with reading(shared_stack, world) as reader:
        await reader.read(USER, 77)  # the reader knows the build from here on
        reader.commands.sent.clear()
        before = world.cache.info("commandstats")["cmdstat_mget"]["calls"]
        await reader.ask(POSTS_20)
        assert world.cache.info("commandstats")["cmdstat_mget"]["calls"] == before + 2
        find = ["posts_b3", "posts_b3", "users_b3"]  # all have the same author, who is the parent
        assert [name for name in reader.commands.collections() if name != "control"] == find
        assert reader.commands.collections().count("control") == 2
        reader.commands.sent.clear()
        assert (await reader.ask(POSTS_20)).origin is Origin.LOCAL
        assert reader.commands.sent == []
