"""The hub's six invariants, in this process: a test can hold a composition, a client and the clock."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from types import FrameType

import msgspec
import pytest

from authorizer_lambda.tokens import Claims
from ops.stack import Stack
from reader.asked import EntityQuery, FeedQuery, ListQuery, Query
from reader.composing import Answer
from reader.demands import Demands
from reader.errors import NOTHING, not_found
from reader.live import connection, hub, slices
from reader.live.connection import Connection
from reader.live.connections import Connections
from reader.live.hub import Hub
from reader.live.messages import Direct, End, Message, Shown
from reader.live.slices import Slices
from reader.live.watch import Subscriber, Turn, Watched
from reader.paging import FIRST_PAGE
from reader.read_model.cached_values import Watermark
from reader.read_model.control import Checkpoint
from reader.read_model.declarations import POST, POST_LIKES, USER
from reader.settings import ReaderSettings
from tests.conftest import service_environment
from tests.reader.inside import Inside, inside, until
from tests.reader.world import World, moment
from tidemark.problem import Problem
from tidemark.settings import load

pytestmark = pytest.mark.anyio
POST_5 = EntityQuery(POST, 5)
FEED = FeedQuery("subject-1", FIRST_PAGE)


@dataclass
class Client:
    """A connection and what it was sent. While `takes` is clear it takes nothing.

    `sent`: what a task sent. `written`: what was written without one, together.
    """

    connection: Connection
    got: list[Message] = field(default_factory=list)
    sent: list[Message] = field(default_factory=list)
    written: list[list[Message]] = field(default_factory=list)
    takes: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, message: Message) -> None:
        await self.takes.wait()
        self.got.append(message)
        self.sent.append(message)

    async def watch(self, query: Query) -> None:
        await self.connection.watch(Watched((str(query), "", ""), query, not_found(*NOTHING)), str(query))

    @property
    def bodies(self) -> list[dict[str, object]]:
        return [msgspec.json.decode(one.state.body) for one in self.got if isinstance(one, Shown)]

    @property
    def tides(self) -> list[str]:
        return [one.as_of for one in self.got if isinstance(one, Watermark)]

    @property
    def ended(self) -> bool:
        return isinstance(self.got[-1] if self.got else None, End)

    def has_likes(self, count: int) -> bool:
        return bool(self.bodies) and self.bodies[-1]["like_count"] == count


@dataclass
class Live:
    """A hub over one reader's parts, with clients."""

    reader: Inside
    hub: Hub
    connections: Connections
    exits: ExitStack
    encoded: list[Message] = field(default_factory=list)
    clients: list[asyncio.Task[None]] = field(default_factory=list)

    def client(self, subject: str = "subject-1", seconds: float = 600) -> Client:
        claims = Claims(subject, frozenset({"read"}), int(time.time() + seconds), 0)
        client = Client(self.exits.enter_context(self.connections.admit(claims, "sse", self.aborted)))
        client.takes.set()
        serving = client.connection.serve(client.send, self.direct(client))
        self.clients.append(asyncio.create_task(serving))
        return client

    def direct(self, client: Client) -> Direct:
        def write(piece: bytes) -> None:
            messages = [self.encoded[int(number)] for number in piece.split()]
            client.got += messages
            client.written.append(messages)

        return Direct(client.takes.is_set, write, self.encode)

    def encode(self, message: Message) -> bytes:
        self.encoded.append(message)
        return b"%d " % (len(self.encoded) - 1)

    def aborted(self) -> None:
        self.reader.metrics.live_ends.add("test", "aborted")


@asynccontextmanager
async def live(stack: Stack) -> AsyncIterator[Live]:
    async with inside(stack) as reader:
        settings = load(ReaderSettings, service_environment(stack))
        made = Hub(reader.following, reader.consistency)
        connections = Connections(made, settings, reader.metrics, time.time)
        tasks = [asyncio.create_task(made.run()), asyncio.create_task(connections.run())]
        with ExitStack() as exits:
            it = Live(reader, made, connections, exits)
            try:
                yield it
            finally:
                for task in (*tasks, *it.clients):
                    task.cancel()
                await asyncio.wait([*tasks, *it.clients])


def like(world: World, seq: int, count: int, as_of: str = "") -> None:
    """The batch that leaves post 5 with so many likes."""
    world.post(5, like_count=count, v=seq)
    world.apply(world.commit(seq, as_of=as_of), counted=["post:5"])


@pytest.fixture
def post(world: World) -> World:
    world.user(1)
    world.post(5)
    return world


def later_moment(second: float) -> str:
    """A time after that of any other batch."""
    return moment(9e6 + second)


async def test_a_batch_that_comes_while_a_feed_is_composed_is_in_a_later_state(
    shared_stack: Stack, post: World
) -> None:
    """Followees are read at one moment, and heads when a later batch has changed the followees."""
    async with live(shared_stack) as it:
        client = it.client()
        await client.watch(FEED)
        await until(lambda: client.got, "the first state")
        post.user(2)
        post.user(3)
        post.post(7, author_id=2)
        post.follow(1, 2, 1)
        with it.reader.fetching.before_level.closed(passes=1):
            post.batch(2, ["user:1:followees", "user:2:posts", "post:7"])
            await asyncio.wait_for(it.reader.fetching.before_level.reached.wait(), 5)
            post.post(9, author_id=3)
            post.follow(1, 3, 2)
            later = post.batch(3, ["user:1:followees", "user:3:posts", "post:9"], as_of=later_moment(1))
            await until(lambda: it.reader.following.tide == post.watermark(), "the later batch")
            await asyncio.sleep(1.2)
            assert all(tide < later.as_of for tide in client.tides)
        await until(lambda: ids(client.bodies[-1]) == ["9", "7", "5"], "the post of who was followed last")
        await until(lambda: client.tides[-1:] == [later.as_of], "the tide", 3)


def ids(body: dict[str, object]) -> list[str]:
    items = body["items"]
    assert isinstance(items, list)
    return [item["id"] for item in items]


async def test_the_tide_waits_for_a_due_state_and_for_nothing_else(shared_stack: Stack, post: World) -> None:
    async with live(shared_stack) as it:
        client = it.client()
        await client.watch(POST_5)
        before = post.batch(2, ["user:9"], as_of=later_moment(2))
        await until(lambda: client.tides[-1:] == [before.as_of], "the tide", 3)
        with it.reader.fetching.before_level.closed():
            like(post, 3, 1, later_moment(3))
            post.batch(4, ["user:9"], as_of=later_moment(4))
            known = len(client.tides)
            await until(lambda: len(client.tides) >= known + 2, "two more seconds", 5)
            assert {*client.tides[known:]} == {before.as_of}
        await until(lambda: client.tides[-1] == later_moment(4), "the tide", 3)
        assert isinstance(client.got[client.got.index(post.watermark()) - 1], Shown)
        assert client.has_likes(1)


async def test_a_tide_before_the_first_state_holds_it_back_no_longer(
    shared_stack: Stack, post: World
) -> None:
    async with live(shared_stack) as it:
        client = it.client()
        await client.watch(POST_5)
        client.connection.hear(post.watermark(), Turn(None, time.monotonic()))
        await until(lambda: client.has_likes(0), "the first state", 2)


async def test_the_tide_goes_on_while_a_read_is_always_due(shared_stack: Stack, post: World) -> None:
    async with live(shared_stack) as it:
        client = it.client()
        await client.watch(POST_5)
        started, seq = time.monotonic(), 1
        while time.monotonic() - started < 3:
            seq += 1
            await asyncio.to_thread(like, post, seq, seq)
        assert len({*client.tides}) >= 2 and sorted(client.tides) == client.tides
        assert len(client.bodies) <= 1 + 3 / hub.LOOK_SECONDS + 2  # ten a second, however many likes
        await until(lambda: client.has_likes(seq), "the last like")


async def test_the_tide_goes_on_while_nothing_is_written(shared_stack: Stack, post: World) -> None:
    """Regression, torture with seed 8: a state had all GTIDs of later tides, so its own moment was told."""
    async with live(shared_stack) as it:
        client = it.client()
        await client.watch(POST_5)
        post.post(5, like_count=1, v=2)
        last = post.commit(2, as_of=later_moment(1))
        post.apply(last, counted=["post:5"])
        await until(lambda: client.has_likes(1), "the like")
        post.apply(replace(last, as_of=later_moment(2)))
        await until(lambda: client.tides[-1:] == [later_moment(2)], "the tide", 3)


async def test_after_a_failover_nothing_older_than_the_last_state_is_sent(
    shared_stack: Stack, post: World
) -> None:
    async with live(shared_stack) as it:
        client = it.client()
        await client.watch(POST_5)
        former = post.commit(2)
        post.apply(former, ["user:9"])
        like(post, 3, 1)
        await until(lambda: client.has_likes(1), "the like")
        shown = len(client.bodies)
        post.post(5, v=2)
        fall_back(post, former)
        await until(lambda: it.reader.following.tide == post.watermark(), "the older tide")
        (watch,) = it.hub.watches.values()
        await until(lambda: watch.state and b'"like_count":0' in watch.state.body, "the older state", 3)
        await asyncio.sleep(1.5)
        assert len(client.bodies) == shown
        post.post(5, like_count=2, v=4)
        post.apply(post.commit(4), counted=["post:5"])
        await until(lambda: client.has_likes(2), "a state that continues")
        await until(lambda: client.got[-1] == post.watermark(), "the tide", 3)
        assert client.tides == sorted(client.tides)


def fall_back(world: World, checkpoint: Checkpoint) -> None:
    """Redis fails over to a replica that missed the latest batches."""
    world.cache.flushall()
    world.set_watermark(checkpoint)
    world.cache.client_kill_filter(_type="pubsub", skipme=True)


async def test_a_stream_ends_if_the_tide_does_not_reach_what_it_has_shown(
    shared_stack: Stack, post: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "BARRED_SECONDS", 0.5)
    async with live(shared_stack) as it:
        client = it.client()
        await client.watch(POST_5)
        former = post.commit(2)
        post.apply(former, ["user:9"])
        like(post, 3, 1)
        await until(lambda: client.has_likes(1), "the like")
        fall_back(post, former)
        await until(lambda: client.ended, "the end", 5)
        assert client.connection.reason == "other-history"
        again = it.client()
        await until(lambda: it.reader.following.bypass is None, "the tide")
        await again.watch(POST_5)
        await until(lambda: again.bodies, "another stream to begin")


async def test_a_slow_client_gets_the_latest_state_alone(shared_stack: Stack, post: World) -> None:
    async with live(shared_stack) as it:
        slow, quick = it.client(), it.client()
        await slow.watch(POST_5)
        await until(lambda: slow.bodies, "the first state")
        await quick.watch(POST_5)
        slow.takes.clear()
        for count in range(1, 6):
            like(post, 1 + count, count)
            await until(partial(quick.has_likes, count), "a state")
        assert len(slow.connection.pending) == 1
        slow.takes.set()
        await until(lambda: slow.has_likes(5), "the latest")
        assert len(slow.bodies) <= 3  # the first, one that was under way, the latest
        assert slow.tides == sorted(slow.tides)


async def test_a_client_that_takes_nothing_is_cut_off(
    shared_stack: Stack, post: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "TAKES_NOTHING_SECONDS", 0.3)
    async with live(shared_stack) as it:
        client = it.client()
        client.takes.clear()
        await client.watch(POST_5)
        await until(lambda: it.reader.metrics.live_ends.counts["test", "aborted"], "the cut", 2)
        assert client.connection.reason == "slow"


async def test_a_connection_ends_with_its_token_unless_it_gets_another(
    shared_stack: Stack, post: World
) -> None:
    async with live(shared_stack) as it:
        one, other = it.client(seconds=1.5), it.client(seconds=1.5)
        for client in (one, other):
            await client.watch(POST_5)
        other.connection.expires(time.time() + 600)
        await until(lambda: one.ended, "the end", 3)
        assert one.connection.reason == "token-expired"
        like(post, 2, 1)
        await until(lambda: other.has_likes(1), "a state")


async def test_a_drain_ends_all_and_admits_none(shared_stack: Stack, post: World) -> None:
    async with live(shared_stack) as it:
        clients = [it.client() for _ in range(5)]
        for client in clients:
            await client.watch(POST_5)
        it.connections.drain()
        await until(lambda: all(one.ended for one in clients), "the ends", 2)
        assert len({str(one.got[-1]) for one in clients}) > 1  # they come back at random moments
        with pytest.raises(Problem):
            it.client("subject-2")


async def test_a_batch_that_is_missed_is_in_the_state_after_the_reset(
    shared_stack: Stack, post: World
) -> None:
    async with live(shared_stack) as it:
        client = it.client()
        await client.watch(POST_5)
        await until(lambda: client.has_likes(0), "the first state")
        post.post(5, like_count=8, v=2)
        post.cache.flushall()
        post.set_watermark(post.commit(2))  # tells nobody
        await until(lambda: client.has_likes(8), "the state", 3)


async def test_a_time_without_replies_makes_nothing_due(shared_stack: Stack, post: World) -> None:
    async with live(shared_stack) as it:
        client = it.client()
        await client.watch(POST_5)
        await until(lambda: client.has_likes(0), "the first state")
        (watch,) = it.hub.watches.values()
        post.cache.execute_command("CLIENT PAUSE 800")  # type: ignore[no-untyped-call]
        await until(lambda: it.reader.following.bypass is not None, "blindness", 3)
        assert watch.before is None
        await until(lambda: it.reader.following.bypass is None, "the tide", 3)
        assert (watch.before, it.reader.resets("connection"), it.reader.resets("broken")) == (None, 0, 0)
        like(post, 2, 1)
        await until(lambda: client.has_likes(1), "the like")


async def test_a_feed_first_made_without_redis_hears_of_later_posts(shared_stack: Stack, post: World) -> None:
    """MongoDB gives its page whole, without the keys of the lists that it is made of."""
    post.user(2)
    post.follow(1, 2, 1)
    async with live(shared_stack) as it:
        post.cache.execute_command("CLIENT PAUSE 1500")  # type: ignore[no-untyped-call]
        await until(lambda: it.reader.following.bypass is not None, "blindness", 3)
        client = it.client()
        await client.watch(FEED)
        await until(lambda: client.bodies and ids(client.bodies[-1]) == ["5"], "the first state")
        await until(lambda: it.reader.following.bypass is None, "the tide", 3)
        assert it.reader.following.position.life == 0
        post.post(7, author_id=2)
        post.batch(2, ["user:2:posts", "post:7"])
        await until(lambda: ids(client.bodies[-1]) == ["7", "5"], "the post", 4)


async def test_counters_of_authors_alone_make_no_read_due_that_does_not_show_them(
    shared_stack: Stack, post: World
) -> None:
    post.like(5, 1)
    async with live(shared_stack) as it:
        client = it.client()
        for query in (FEED, POST_5, ListQuery(POST_LIKES, 5, FIRST_PAGE), EntityQuery(USER, 1)):
            await client.watch(query)
        await until(lambda: len(client.bodies) == 4, "the first states")
        touched = [watch.touched_at for watch in it.hub.watches.values()]
        post.user(1, follower_count=1, v=2)
        post.apply(post.commit(2), counted=["user:1"])
        await until(lambda: len(client.bodies) == 6, "the states that show the counter")
        now = [watch.touched_at for watch in it.hub.watches.values()]
        assert [one == other for one, other in zip(touched, now, strict=True)] == [True, True, False, False]
        post.user(1, display_name="Renamed", follower_count=1, v=3)
        post.batch(3, ["user:1"])
        await until(lambda: len(client.bodies) == 10, "the states that show the name", 3)


async def test_all_who_watch_one_read_cost_one_composition(shared_stack: Stack, post: World) -> None:
    async with live(shared_stack) as it:
        clients = [it.client(f"subject-{number}") for number in range(30)]
        await asyncio.gather(*(client.watch(POST_5) for client in clients))
        await until(lambda: all(client.bodies for client in clients), "the first states")
        commands = it.reader.counted("redis_commands")
        like(post, 2, 1)
        await until(lambda: all(client.has_likes(1) for client in clients), "the like everywhere")
        last = ([one for one in client.got if isinstance(one, Shown)][-1] for client in clients)
        assert len({id(one.state) for one in last}) == 1
        assert it.reader.counted("redis_commands") - commands < 10


async def test_no_task_wakes_for_clients_that_have_taken_all(shared_stack: Stack, post: World) -> None:
    """And the message for all of them is encoded once."""
    async with live(shared_stack) as it:
        clients = [it.client(f"subject-{number}") for number in range(30)]
        for client in clients:
            await client.watch(POST_5)
        await until(lambda: all(client.bodies for client in clients), "the first states")
        slow, *quick = clients
        slow.takes.clear()
        for client in clients:
            client.sent.clear()
        it.encoded.clear()
        like(post, 2, 1)
        await until(lambda: all(client.has_likes(1) for client in quick), "the like")
        await until(lambda: all(post.watermark() in client.got for client in quick), "the tide", 3)
        assert not any(client.sent for client in quick) and not slow.has_likes(1)
        assert sum(isinstance(one, Shown) for one in it.encoded) == 1
        slow.takes.set()
        await until(lambda: slow.has_likes(1), "the like at the slow client")
        assert slow.sent


class Turns:
    """Counts events in each turn of the loop: its task has one step in a turn."""

    def __init__(self) -> None:
        self.now = 0
        self.events = Counter[int]()

    def count(self, *_: object) -> None:
        self.events[self.now] += 1

    @asynccontextmanager
    async def counting(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()

    async def _run(self) -> None:
        while True:
            self.now += 1
            await asyncio.sleep(0)


async def test_a_read_that_many_watch_leaves_turns_to_others(shared_stack: Stack, post: World) -> None:
    turns = Turns()
    async with live(shared_stack) as it:
        clients = [it.client(f"subject-{number % 50}") for number in range(3 * slices.TOGETHER)]
        for client in clients:
            await client.watch(POST_5)
            client.connection._direct = Direct(client.takes.is_set, turns.count, it.encode)
        async with turns.counting():
            like(post, 2, 1)
            await until(lambda: turns.events.total() >= len(clients), "the like")
        assert max(turns.events.values()) == slices.TOGETHER


async def test_a_state_costs_each_of_many_clients_few_calls(
    shared_stack: Stack, post: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients that have been sent the same get the same: it is decided once in a turn of the loop."""
    calls = Counter[str]()

    def count(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and "/reader/" in frame.f_code.co_filename.replace("tests/reader", ""):
            calls[frame.f_code.co_name] += 1

    def tell(it: Hub, subscribers: Sequence[Subscriber]) -> None:
        sys.setprofile(count)
        try:
            tell_all(it, subscribers)
        finally:
            sys.setprofile(None)

    tell_all = Hub._tell
    monkeypatch.setattr(Hub, "_tell", tell)
    async with live(shared_stack) as it:
        clients = [it.client(f"subject-{number % 50}") for number in range(3 * slices.TOGETHER)]
        for client in clients:
            await client.watch(POST_5)
        await until(lambda: all(client.has_likes(0) for client in clients), "the first states", 5)
        states = it.reader.metrics.live_states.counts["sse",]
        like(post, 2, 1)
        await until(lambda: all(client.has_likes(1) for client in clients), "the like")
        assert it.reader.metrics.live_states.counts["sse",] == states + len(clients)
        assert len(clients) < calls.total() < 10 * len(clients), calls


async def test_a_new_state_takes_the_tide_along(shared_stack: Stack, post: World) -> None:
    """For thousands of clients that would be as many writes."""
    async with live(shared_stack) as it:
        client = it.client()
        await client.watch(POST_5)
        await until(lambda: client.tides, "the first tide", 3)
        for count in range(1, 10):
            like(post, 1 + count, count)
            await asyncio.sleep(0.6 * connection.TIDE_SECONDS)  # then it is due soon
        assert any(len(one) == 2 and isinstance(one[0], Shown) for one in client.written)
        assert client.tides == sorted(client.tides) and len(client.tides) <= 9


async def test_slices_take_turns_and_leave_turns_to_others() -> None:
    turns, work = Turns(), Slices()

    def count(clients: Sequence[int]) -> None:
        for _ in clients:
            turns.count()

    async with turns.counting():
        await asyncio.gather(*(work.each(range(250), count) for _ in range(4)))
    assert (turns.events.total(), max(turns.events.values())) == (1000, slices.TOGETHER)
    assert all(later - turn >= slices.TURNS for turn, later in pairwise(sorted(turns.events)))


async def test_a_post_for_many_feeds_leaves_turns_to_others(shared_stack: Stack, post: World) -> None:
    """Each composition is begun in a turn of the loop of its own."""
    with post.many():
        for number in range(2, 102):
            post.user(number)
            post.follow(number, 1, number)
    async with live(shared_stack) as it:
        clients = [it.client(f"subject-{number}") for number in range(2, 102)]
        for number, client in enumerate(clients, 2):
            await client.watch(FeedQuery(f"subject-{number}", FIRST_PAGE))
        await until(lambda: all(client.bodies for client in clients), "the first states")
        post.post(7)
        composed: list[int] = []
        turns = 0
        answer = it.reader.consistency.answer

        async def counting(query: Query, demands: Demands, path: str = "") -> Answer:
            composed.append(turns)
            return await answer(query, demands, path)

        it.reader.consistency.answer = counting  # type: ignore[method-assign]
        post.batch(2, ["post:7", "user:1:posts"])
        while len(composed) < 100:
            await asyncio.sleep(0)
            turns += 1
        assert max(composed.count(turn) for turn in composed) <= 2
        await until(lambda: all(ids(client.bodies[-1])[0] == "7" for client in clients), "the post", 5)


async def test_what_nobody_watches_any_more_leaves_nothing_behind(shared_stack: Stack, post: World) -> None:
    async with live(shared_stack) as it:
        client = it.client()
        for query in (FEED, POST_5):
            await client.watch(query)
        assert it.hub._index
        for query in (FEED, POST_5):
            client.connection.unwatch(str(query))
        assert (it.hub._index, it.hub.watches, client.connection.pending) == ({}, {}, {})


async def test_the_longest_wait_for_a_new_state_is_told(shared_stack: Stack, post: World) -> None:
    async with live(shared_stack) as it:
        client = it.client()
        await client.watch(POST_5)
        await until(lambda: client.has_likes(0), "the first state", 2)
        assert it.hub.due_seconds() == 0
        with it.reader.fetching.before_level.closed():
            like(post, 2, 1)
            await until(lambda: it.hub.due_seconds() > 0.3, "a state that waits", 5)
        await until(lambda: client.has_likes(1), "the state", 2)
        assert it.hub.due_seconds() == 0
