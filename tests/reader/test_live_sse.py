"""Every read without a cursor can be watched as a stream of events: each state is what GET answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import httpx2
import pytest
import uvicorn
from uvicorn import Config
from websockets.sync.client import connect

from authorizer_lambda.settings import AuthSettings
from ops.stack import Stack
from reader.app import Reader
from reader.live import connection
from reader.settings import ReaderSettings
from tests.conftest import AUTH, service_environment
from tests.reader.conftest import RunningReader, follows, starting_reader
from tests.reader.inside import until
from tests.reader.world import SOURCE, World
from tests.support.harness import wait_until
from tests.support.services import running_services
from tests.support.streams import Ended, Stream, watching
from tests.support.tokens import bearer, short_token
from tidemark.admin import Server, listen
from tidemark.consistency_token import ConsistencyKeys, sign
from tidemark.gtid import GtidSet
from tidemark.one_write import Gathering
from tidemark.settings import Address, load

ME = bearer("subject-1", "read")
READS = (
    "/post/5",
    "/user/1",
    "/post/5/comments",
    "/post/5/likes",
    "/user/1/posts",
    "/user/1/followers",
    "/user/1/following",
    "/hashtag/sea",
    "/feed",
)


@pytest.fixture
def url(api: httpx2.Client, running_reader: RunningReader, world: World) -> str:
    """The reader of `world`, which has two users and a post."""
    world.user(1)
    world.user(2)
    world.post(5, author_id=1, body="#sea")
    return running_reader.url


def like(world: World, seq: int, count: int) -> None:
    """The batch that leaves post 5 with so many likes."""
    world.post(5, author_id=1, body="#sea", like_count=count, v=seq)
    world.apply(world.commit(seq), counted=["post:5"])


def test_a_like_arrives_at_who_watches_the_post(stack: Stack) -> None:
    """Through the whole system: MySQL, projector, Redis, reader."""
    with running_services(stack) as services:
        services.write("s1", "PUT", "/user/me", {"handle": "one", "display_name": "One", "bio": ""})
        post = services.write("s1", "POST", "/post", {"body": "hello"}).json()["id"]
        path = f"/post/{post}"
        wait_until(lambda: services.read(path).status_code == 200, "the post")
        with watching(services.reader_url, path, bearer("s1", "read")) as stream:
            assert stream.state()["body"]["like_count"] == 0
            assert services.write("s1", "PUT", f"{path}/like").is_success
            state = stream.state()
            assert state["body"]["like_count"] == 1
            assert stream.next("tide").data["as_of"] >= state["as_of"]


@pytest.mark.parametrize("path", READS)
def test_the_first_state_is_the_answer_of_get(path: str, url: str, api: httpx2.Client) -> None:
    answer = api.get(path)
    with watching(url, path, ME) as stream:
        assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream")
        assert (stream.headers["cache-control"], stream.headers["x-accel-buffering"]) == ("no-store", "no")
        event = stream.next("state")
    assert (event.data["status"], event.data["body"]) == (200, answer.json())
    assert event.id == event.data["etag"] == answer.headers["etag"]


def test_a_change_brings_one_state_and_no_change_none(url: str, world: World) -> None:
    with watching(url, "/post/5", ME) as stream:
        stream.state()
        like(world, 2, 1)
        assert stream.state()["body"]["like_count"] == 1
        world.batch(3, ["post:5", "user:1"])  # nothing that is shown
        assert stream.silent_for(0.5, "state")


def test_a_missing_read_is_watched_until_it_is_there_and_gone_again(url: str, world: World) -> None:
    with watching(url, "/post/6", ME) as stream:
        event = stream.next("state")
        assert (event.data["status"], event.data["etag"], event.id) == (404, None, "")
        assert event.data["body"]["type"] == "/problems/not-found"
        world.post(6)
        world.batch(2, ["post:6"])
        assert stream.state()["body"]["id"] == "6"
        world.remove("posts", 6)
        world.batch(3, ["post:6"])
        assert stream.state()["status"] == 404


def test_a_text_that_can_be_no_id_is_refused_at_once(url: str) -> None:
    with watching(url, "/post/x", ME) as stream:
        assert (stream.status, stream.headers["content-type"]) == (404, "application/problem+json")


@pytest.mark.parametrize("query", ["limit=5", "cursor=WzVd"])
def test_other_pages_than_the_first_are_not_watched(query: str, url: str) -> None:
    with watching(url, f"/feed?{query}", ME) as stream:
        assert stream.status == 400
        assert query.partition("=")[0] in stream.body.decode()


@pytest.mark.parametrize("header", ["Last-Event-ID", "If-None-Match"])
def test_a_client_that_has_the_state_is_spared_the_first(
    header: str, url: str, api: httpx2.Client, world: World
) -> None:
    known = api.get("/post/5").headers["etag"]
    with watching(url, "/post/5", {**ME, header: known}) as stream:
        assert stream.silent_for(1.5, "state")
        assert "tide" in {event.name for event in stream.events}
        like(world, 2, 1)
        assert stream.state()["body"]["like_count"] == 1
    with watching(url, "/post/5", {**ME, header: known}) as stream:
        assert stream.state()["body"]["like_count"] == 1


def test_minimal_states_have_no_body(url: str, world: World) -> None:
    with watching(url, "/post/5", {**ME, "Prefer": "return=minimal"}) as stream:
        assert stream.headers["preference-applied"] == "return=minimal"
        first = stream.next("changed", "state")
        like(world, 2, 1)
        second = stream.next("changed", "state")
    assert (first.name, second.name, set(second.data)) == ("changed", "changed", {"as_of", "etag"})
    assert first.id != second.id == second.data["etag"]


def test_a_feed_is_that_of_its_caller(url: str, world: World) -> None:
    """Two watch the same path, and each gets what their token may read."""
    with watching(url, "/feed", ME) as mine, watching(url, "/feed", bearer("subject-2", "read")) as theirs:
        assert [item["id"] for item in mine.state()["body"]["items"]] == ["5"]
        assert theirs.state()["body"]["items"] == []
        world.post(7, author_id=2)
        world.batch(2, ["post:7", "user:2:posts"])
        assert [item["id"] for item in theirs.state()["body"]["items"]] == ["7"]
        assert mine.silent_for(1.5, "state")


def test_a_feed_gets_the_post_of_who_is_newly_followed(url: str, world: World) -> None:
    with watching(url, "/feed", ME) as stream:
        stream.state()
        world.follow(1, 2)
        world.post(7, author_id=2)
        world.batch(2, ["user:1:followees", "user:2:posts", "post:7"])
        assert [item["id"] for item in stream.state()["body"]["items"]] == ["7", "5"]


def test_a_stream_without_the_right_to_read_is_refused(url: str) -> None:
    for headers, status in (({}, 401), (bearer("subject-1", "write"), 403)):
        with watching(url, "/post/5", headers) as stream:
            assert stream.status == status


def test_a_token_in_the_url_is_none(url: str) -> None:
    token = ME["Authorization"].removeprefix("Bearer ")
    with watching(url, f"/post/5?access_token={token}&token={token}", {}) as stream:
        assert stream.status == 401


def test_a_stream_ends_with_its_token(url: str) -> None:
    with watching(url, "/post/5", {"Authorization": f"Bearer {short_token('subject-1', 2)}"}) as stream:
        stream.state()
        assert stream.next("end", seconds=4).data == {"reason": "token-expired"}
        with pytest.raises(Ended):
            stream.next("state")


def test_a_stream_that_asks_for_a_write_waits_for_it(url: str, world: World) -> None:
    keys = ConsistencyKeys.parse(AUTH["TIDEMARK_CONSISTENCY_SECRET"])
    token = {"Consistency-Token": sign(GtidSet.parse(f"{SOURCE}:1-2"), keys, int(time.time()))}
    with watching(url, "/post/5", {**ME, **token}) as stream:
        assert stream.status == 503
    like(world, 2, 1)
    with watching(url, "/post/5", {**ME, **token}) as stream:
        assert stream.state()["body"]["like_count"] == 1


def test_a_stopped_redis_stops_the_tide_and_its_return_brings_the_present(
    url: str, shared_stack: Stack, world: World
) -> None:
    with watching(url, "/post/5", ME) as stream:
        stream.state()
        stream.next("tide")
        shared_stack.redis.stop()
        try:
            time.sleep(1)
            stream.silent_for(0.2, "nothing")
            stream.events.clear()
            assert stream.silent_for(2, "tide", "state")
        finally:
            shared_stack.redis.start()
        world.cache.flushall()  # it comes back without its data
        world.post(5, body="#sea", like_count=3, v=2)
        world.set_watermark(world.commit(2))
        assert stream.state()["body"]["like_count"] == 3
        stream.next("tide", seconds=3)
        like(world, 3, 4)
        assert stream.state()["body"]["like_count"] == 4


@pytest.fixture
def small_reader(shared_stack: Stack, url: str) -> Iterator[RunningReader]:
    """A reader that admits three connections, two of a subject."""
    limits = {"TIDEMARK_READER_LIVE_CONNECTIONS": "3", "TIDEMARK_READER_LIVE_PER_SUBJECT": "2"}
    with starting_reader({**service_environment(shared_stack), **limits}) as reader:
        wait_until(reader.answers, "the reader to answer")
        with reader.client() as client:
            wait_until(lambda: follows(client), "the tide")
        yield reader


@pytest.mark.anyio
async def test_a_client_that_reads_nothing_loses_its_connection(
    shared_stack: Stack, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end stays open, and what nobody reads would stay in memory."""
    monkeypatch.setattr(connection, "TAKES_NOTHING_SECONDS", 0.5)
    world.user(1)
    for id in range(1, 21):
        world.post(id, body="x" * 200_000)
    settings = load(ReaderSettings, service_environment(shared_stack))
    reader = Reader(settings, AuthSettings.from_environ(AUTH))
    listener = listen(Address("127.0.0.1", 0))
    server, url = Server(reader.app, websockets=True), f"http://127.0.0.1:{listener.getsockname()[1]}"
    serving = asyncio.create_task(server.serve([listener]))
    stream = await asyncio.to_thread(Stream, url, "/user/1/posts", ME, receive_bytes=4096)
    await until(lambda: reader.metrics.live_ends.counts["sse", "slow"], "the end of the stream")
    await until(lambda: not server.server_state.connections, "the connection to be cut", 2)
    stream.close()
    server.should_exit = True
    await serving


@pytest.mark.anyio
@pytest.mark.parametrize("ours", [True, False])
async def test_any_asgi_server_serves_streams_and_ours_without_a_task(
    shared_stack: Stack, world: World, monkeypatch: pytest.MonkeyPatch, ours: bool
) -> None:
    written: list[bytes] = []
    write = Gathering.write_now

    def write_now(self: Gathering, piece: bytes) -> None:
        written.append(piece)
        write(self, piece)

    monkeypatch.setattr(Gathering, "write_now", write_now)
    world.user(1)
    world.post(5, author_id=1)
    settings = load(ReaderSettings, service_environment(shared_stack))
    app = Reader(settings, AuthSettings.from_environ(AUTH)).app
    other = Config(app, http="h11", ws="websockets-sansio", log_config=None)
    server = Server(app, websockets=True) if ours else uvicorn.Server(other)
    listener = listen(Address("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    serving = asyncio.create_task(server.serve([listener]))
    await asyncio.to_thread(watch_a_like, url, world)
    assert sum(b'"like_count":1' in piece for piece in written) == (2 if ours else 0)
    server.should_exit = True
    await serving


def watch_a_like(url: str, world: World) -> None:
    """Over both transports. A WebSocket says the size of the second state in eight bytes."""
    live = connect(f"ws{url.removeprefix('http')}/live", additional_headers=ME, compression=None, proxy=None)
    with watching(url, "/post/5", ME) as stream, live as socket:
        socket.send('{"watch":"/post/5"}')
        assert stream.state()["body"]["like_count"] == 0
        while '"like_count":0' not in socket.recv(timeout=10):
            pass
        world.post(5, author_id=1, body="x" * 70_000, like_count=1, v=2)
        world.apply(world.commit(2), counted=["post:5"])
        assert stream.state()["body"]["like_count"] == 1
        while '"like_count":1' not in socket.recv(timeout=10):
            pass


def test_connections_are_limited_for_each_subject_and_for_all(small_reader: RunningReader) -> None:
    url, one, two = small_reader.url, ME, bearer("subject-2", "read")
    streams = [Stream(url, "/post/5", headers) for headers in (one, one, one, two, two)]
    assert [stream.status for stream in streams] == [200, 200, 429, 200, 503]
    assert all("retry-after" in stream.headers for stream in streams if stream.status != 200)
    assert small_reader.metrics("tidemark_live_limit") == [3]
    streams[0].close()
    wait_until(lambda: small_reader.metrics("tidemark_live_connections") == [2], "the place to be free")
    with watching(url, "/post/5", one) as stream:
        assert stream.status == 200
    for stream in streams:
        stream.close()
    wait_until(lambda: small_reader.metrics("tidemark_live_watches") == [0], "no watch to be left")


def test_a_stop_ends_streams_and_tells_clients_when_to_come_back(small_reader: RunningReader) -> None:
    streams = [Stream(small_reader.url, "/post/5", ME) for _ in range(2)]
    for stream in streams:
        stream.state()
    started = time.monotonic()
    assert small_reader.process.stop() == 0
    assert time.monotonic() - started < 5
    ends = [stream.next("end") for stream in streams]
    assert [end.data for end in ends] == [{"reason": "drain"}] * 2
    assert ends[0].retry != ends[1].retry
    for stream in streams:
        stream.close()
