"""The tide: one order of messages and replies; whatever does not continue it empties the replica."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import structlog

from ops.stack import Stack
from reader import named
from reader.errors import CacheBypassed
from reader.metrics import ReaderMetrics
from reader.named import Named, Position
from reader.parts import Origin
from reader.read_model.announcements import encode
from reader.read_model.cached_values import TIDE_CHANNEL, WATERMARK_KEY, Entry, encode_entity, encode_list
from reader.read_model.declarations import COMMENT, POST, USER, USER_POSTS
from reader.refreshing import Refreshing
from reader.replica import OVERHEAD_BYTES, Replica
from reader.wire import packed
from tests.reader.inside import Inside, inside, shown, until
from tests.reader.world import SOURCE, World
from tests.support.proxy import Proxy
from tidemark.gtid import GtidSet

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def holding_user(stack: Stack, world: World, redis_url: str = "") -> AsyncIterator[Inside]:
    """A reader whose replica holds user 1 as of batch 2."""
    world.user(1, bio="old")
    world.batch(2)
    async with inside(stack, redis_url=redis_url) as reader:
        await reader.read(USER, 1)
        assert (await reader.read(USER, 1)).origin is Origin.LOCAL
        yield reader


async def test_it_subscribes_before_it_reads_the_watermark(shared_stack: Stack, world: World) -> None:
    """In the opposite order, a batch applied between the two would never be heard of."""
    with world.cache.monitor() as monitor:  # type: ignore[no-untyped-call]
        async with inside(shared_stack):
            sent = [monitor.next_command()]
            while sent[-1]["command"] != f"GET {WATERMARK_KEY}" or len(sent) == 1:
                sent.append(monitor.next_command())
    mine = [one["command"] for one in sent if one["client_port"] == sent[-1]["client_port"]]
    assert mine[-2:] == [f"SSUBSCRIBE {TIDE_CHANNEL}", f"GET {WATERMARK_KEY}"]


async def test_a_message_before_the_watermarks_reply_is_skipped(shared_stack: Stack, world: World) -> None:
    async with inside(shared_stack, follow=False) as reader:
        async with reader.following.before_send.holding(
            reader.read(USER, 1), passes=1
        ) as reading:  # SSUBSCRIBE passes
            world.batch(2, ["user:1"])
            world.batch(3, ["user:1"])
        await reading
        await reader.follows(world)
        assert (reader.following.position, reader.resets("broken")) == (Position(0, 0), 0)
        world.batch(4)
        await reader.follows(world)
        assert reader.following.position == Position(0, 1)


@pytest.mark.parametrize("counted", [False, True])
async def test_an_entry_leaves_with_the_message_that_names_it(
    shared_stack: Stack, world: World, counted: bool
) -> None:
    async with holding_user(shared_stack, world) as reader:
        world.batch(3, ["user:2", "post:1"])
        await reader.follows(world)
        assert reader.replica.get("user:1")
        world.user(1, bio="new", v=4)
        keys, names = ([], ["user:1"]) if counted else (["user:1"], [])
        world.apply(world.commit(4), keys, names)
        await reader.follows(world)
        assert reader.replica.get("user:1") is None
        assert (reader.drops("named"), reader.drops("reset")) == (1, 0)
        answer = await reader.read(USER, 1)
        assert (shown(answer)["bio"], answer.moment.seq) == ("new", 4)


async def test_entries_come_again_after_a_message_before_anybody_asks(
    shared_stack: Stack, world: World
) -> None:
    """With a list come the items that its message names. What Redis does not have stays away."""
    user = world.user(1)
    world.batch(2)
    async with inside(shared_stack) as reader:
        reader.replica.dropped = Refreshing(reader.cache, reader.replica).refresh
        await reader.read(USER_POSTS, 1)
        await reader.read(COMMENT, 5)
        post = world.post(7)
        values = {
            "user:1": encode_entity(USER, user),
            "user:1:posts": encode_list(USER_POSTS, 3, [7], None),
            "post:7": encode_entity(POST, post),
        }
        world.apply(world.commit(3), [*values, "comment:5", "post:8"], values=values)
        await reader.follows(world)
        await until(lambda: reader.replica.get("post:7"), "the list's new item")
        asked = reader.metrics.redis_commands.counts.copy()
        answer = await reader.read(USER_POSTS, 1)
        assert [post["id"] for post in shown(answer)["items"]] == ["7"]
        assert (answer.origin, reader.metrics.redis_commands.counts) == (Origin.LOCAL, asked)
        assert reader.replica.get("comment:5") is None


def test_an_entry_that_nobody_asked_for_goes_first() -> None:
    held = Replica(2 * (OVERHEAD_BYTES + 1), ReaderMetrics())
    for key in ("post:1", "post:2"):
        held.put(key, Entry(True, 1, b"", b"x"))
    held.unread(["post:2", "post:9"])
    held.put("post:3", Entry(True, 1, b"", b"x"))
    assert [held.get(f"post:{id}") is not None for id in (1, 2, 3)] == [True, False, True]


async def test_all_messages_of_a_large_batch_name_keys(shared_stack: Stack, world: World) -> None:
    async with holding_user(shared_stack, world) as reader:
        keys, before = ["user:1", *(f"post:{id}" for id in range(5_000))], reader.following.position
        assert len(encode("", world.watermark(), keys)) > 2
        world.batch(3, keys)
        await reader.follows(world)
        now = reader.following.position
        assert now.messages == before.messages + 1  # a batch counts at its last message
        assert all(reader.following.named.between([key], before, now) for key in keys)
        assert reader.replica.get("user:1") is None
        assert reader.resets("broken") == 0


async def test_a_tick_moves_the_tide_and_keeps_every_entry(shared_stack: Stack, world: World) -> None:
    async with holding_user(shared_stack, world) as reader:
        later = replace(world.watermark(), as_of="2027-01-01T00:00:00.000000Z")
        world.cache.set(WATERMARK_KEY, later.encode())
        for message in encode(later.lineage, later):
            world.cache.spublish(TIDE_CHANNEL, message)
        await reader.follows(world)
        answer = await reader.read(USER, 1)
        assert (answer.origin, answer.moment.as_of) == (Origin.LOCAL, later.as_of)


def discontinued(world: World, reader: Inside) -> None:
    """Redis failed over: the new primary tells what another history leaves."""
    for message in encode("3|7|3|1|another|", world.watermark()):
        world.cache.spublish(TIDE_CHANNEL, message)


def unreadable(world: World, reader: Inside) -> None:
    world.cache.spublish(TIDE_CHANNEL, "a\nshape\nof\nthe\nfuture")


def restored(world: World, reader: Inside) -> None:
    """SET_WATERMARK tells nobody; the number is that of before, and the history is another."""
    world.set_watermark(world.commit(2))


def begun_anew(world: World, reader: Inside) -> None:
    world.epoch = "8"
    world.set_watermark(world.commit(2))


def unsubscribed(world: World, reader: Inside) -> None:
    """As after the slot has moved to another node; the connection lives."""
    node = reader.following.strands[0].node
    assert node is not None and node.connection is not None
    asyncio.get_running_loop().create_task(
        node.connection.send_packed_command(packed("SUNSUBSCRIBE", TIDE_CHANNEL))
    )


def killed(world: World, reader: Inside) -> None:
    assert world.cache.client_kill_filter(_type="pubsub", skipme=True) >= 1


@pytest.mark.parametrize(
    ("happens", "cause"),
    [
        (discontinued, "broken"),
        (unreadable, "broken"),
        (restored, "broken"),
        (begun_anew, "broken"),
        (unsubscribed, "broken"),
        (killed, "connection"),
    ],
    ids=lambda one: getattr(one, "__name__", one),
)
async def test_what_does_not_continue_the_tide_empties_the_replica(
    shared_stack: Stack, world: World, happens: Callable[[World, Inside], None], cause: str
) -> None:
    async with holding_user(shared_stack, world) as reader:
        before = reader.following.position
        world.user(1, bio="new")
        happens(world, reader)
        await until(lambda: reader.resets(cause) == 1, "a reset", seconds=1)
        assert (len(reader.replica), reader.replica.bytes, reader.drops("reset")) == (0, 0, 1)
        await reader.follows(world)
        assert reader.following.position == Position(before.life + 1, 0)
        assert reader.following.named.between(["post:9"], before, reader.following.position)
        assert (await reader.read(USER, 1)).origin in (Origin.STORED, Origin.HIT)


async def test_an_idle_reader_notices_a_silent_watermark_within_200_ms(
    shared_stack: Stack, world: World
) -> None:
    """Its answers are all local, so no reply of another request would tell."""
    waits = []
    async with holding_user(shared_stack, world) as reader:
        for number in range(5):
            world.set_watermark(world.commit(2))
            started = time.monotonic()
            while reader.resets("broken") == number:
                assert (await reader.read(USER, 1)).origin is Origin.LOCAL
                await asyncio.sleep(0.002)
            waits.append(time.monotonic() - started)
            await reader.follows(world)
            await reader.read(USER, 1)
    assert sorted(waits)[2] < 0.2  # a busy machine may be late once


def set_user(world: World, rule: str) -> None:
    """Change the reader's account."""
    world.cache.execute_command(f"ACL SETUSER reader {rule}")  # type: ignore[no-untyped-call]


async def test_a_refused_subscription_leaves_reads_on_mongodb_and_says_why(
    shared_stack: Stack, world: World
) -> None:
    world.user(1, bio="old")
    set_user(world, "resetchannels")
    try:
        with structlog.testing.capture_logs() as logs:
            async with inside(shared_stack, follow=False) as reader:
                await until(lambda: reader.resets("broken") >= 2, "another attempt")
                answer = await reader.read(USER, 1)
                assert (shown(answer)["bio"], answer.origin) == ("old", Origin.UNAVAILABLE)
                set_user(world, "&tidemark:tide")
                await reader.follows(world)
    finally:
        set_user(world, "&tidemark:tide")
    told = next(log for log in logs if log["log_level"] == "warning")
    assert told["event"] == "the tide is lost; reads go to MongoDB"
    assert "channel" in told["error"]


async def test_an_unreadable_value_in_redis_harms_its_own_answer_only(
    shared_stack: Stack, world: World
) -> None:
    world.user(1)
    world.put_cached("user:1", b"Vnot hexadecimal")
    async with inside(shared_stack) as reader:
        answer = await asyncio.wait_for(reader.read(USER, 1), 5)
        assert shown(answer)["id"] == "1"
        await reader.follows(world)


async def test_a_hanging_redis_fails_requests_and_then_blinds(shared_stack: Stack, world: World) -> None:
    """Within 600 ms. The tide may go on where it was, so the entries stay."""
    async with holding_user(shared_stack, world) as reader:
        shared_stack.redis.pause()
        try:
            started = time.monotonic()
            with pytest.raises(CacheBypassed):
                await reader.cache.get(["user:1"])
            failed = time.monotonic() - started
            assert (await reader.read(USER, 1)).origin is Origin.LOCAL
            await until(lambda: reader.following.bypass, "the reader to be blind")
            blind = time.monotonic() - started
            answer = await reader.read(USER, 1)
            assert (shown(answer)["bio"], answer.origin) == ("old", Origin.UNAVAILABLE)
        finally:
            shared_stack.redis.resume()
        assert (failed < 0.4, 0.4 < blind < 0.7) == (True, True)
        await until(lambda: reader.following.bypass is None, "the tide to go on", seconds=1)
        assert (await reader.read(USER, 1)).origin is Origin.LOCAL
        assert reader.following.position == Position(0, 0)


async def test_a_connection_that_is_silent_for_two_seconds_is_given_up(
    shared_stack: Stack, world: World
) -> None:
    port = shared_stack.redis.port
    url = shared_stack.environment()["TIDEMARK_READER_REDIS_URL"]
    with Proxy(port) as proxy, socket.create_server(("127.0.0.1", 0)) as nobody:
        async with holding_user(shared_stack, world, url.replace(f":{port}/", f":{proxy.port}/")) as reader:
            proxy.target = nobody.getsockname()[1]  # for new connections: it accepts and never answers
            started = time.monotonic()
            with proxy.silent():
                await until(lambda: reader.resets("connection"), "the connection to be given up")
            assert 1.5 < time.monotonic() - started < 3
            await until(lambda: reader.resets("connection") >= 3, "more connections")
            proxy.target = port
            await until(lambda: reader.following.bypass is None, "the tide", seconds=2)
            assert (await reader.read(USER, 1)).origin is Origin.HIT


async def test_a_waiter_is_woken_by_the_tide_also_after_a_reset(shared_stack: Stack, world: World) -> None:
    async with inside(shared_stack) as reader:
        seven = GtidSet.parse(f"{SOURCE}:1-7")
        waiting = asyncio.create_task(reader.following.reaches(seven, 10))
        other = asyncio.create_task(reader.following.reaches(GtidSet.parse(f"{SOURCE}:1-8"), 10))
        world.batch(6)
        await reader.follows(world)
        assert not waiting.done()
        world.batch(7)
        assert await waiting
        world.epoch = "8"
        world.set_watermark(world.commit(8))
        assert await other
        started = time.monotonic()
        assert not await reader.following.reaches(GtidSet.parse(f"{SOURCE}:1-9"), 0.1)
        assert 0.1 <= time.monotonic() - started < 1


def test_what_was_named_long_ago_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded, also by messages without keys: an idle system ticks for ever."""
    monkeypatch.setattr(named, "KEPT", 10)
    tide = Named()
    begin = tide.position
    tide.add(frozenset(("user:1", "user:2")))
    tide.add(frozenset(("user:3",)))
    now = tide.position
    assert tide.between(["user:2", "post:1"], begin, now)
    assert not tide.between(["post:1", "user:3"], begin, Position(0, 1))
    assert tide.between(["user:3"], now, Position(0, 1))  # in either order
    for _ in range(12):
        tide.add(frozenset())
    assert tide.between(["post:1"], begin, now)
    assert not tide.between(["post:1"], Position(0, 10), tide.position)
