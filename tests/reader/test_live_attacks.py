"""Clients of live reads that mean harm, or whose machine is gone: others go on, and they keep nothing."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, closing

import pytest
from websockets.sync.client import connect

from authorizer_lambda.settings import AuthSettings
from ops.stack import Stack
from reader.app import Reader
from reader.settings import ReaderSettings
from tests.conftest import AUTH, service_environment
from tests.reader.inside import until
from tests.reader.test_live_websocket import hear, mine, open_socket, say
from tests.reader.world import World
from tests.support.frames import CLOSE, TEXT, RawWebSocket, frame, handshake, vanish
from tests.support.streams import Stream, watching
from tests.support.tokens import bearer, token
from tidemark import admin
from tidemark.admin import Server, listen
from tidemark.settings import Address, load

ME, OTHER = bearer("subject-1", "read"), bearer("subject-2", "read")
WATCH = frame(TEXT, b'{"watch":"/post/5"}')


def like(world: World, seq: int) -> None:
    world.post(5, author_id=1, like_count=seq, v=seq)
    world.apply(world.commit(seq), counted=["post:5"])


def test_nobody_watches_the_notifications_of_somebody_else(url: str, world: World) -> None:
    path = "/user/me/notifications"
    with (
        watching(url, path, ME) as stream,
        watching(url, path, OTHER) as other,
        mine(url) as socket,
        open_socket(url, of=token("subject-2", "read")) as other_socket,
    ):
        say(socket, watch=path)
        say(other_socket, watch=path)
        firsts = [stream.state(), other.state(), hear(socket, "body"), hear(other_socket, "body")]
        assert all(first["body"]["items"] == [] for first in firsts)
        world.follow(2, 1)
        world.batch(2, ["user:1:notifications"])
        for mine_now in (stream.state(), hear(socket, "body")):
            assert [item["kind"] for item in mine_now["body"]["items"]] == ["follow"]
        assert other.silent_for(1, "state")
        with pytest.raises(TimeoutError):
            hear(other_socket, "body", seconds=0.5)


def test_compression_is_never_agreed_on(url: str) -> None:
    with connect(
        f"ws{url.removeprefix('http')}/live", additional_headers=ME, compression="deflate", proxy=None
    ) as socket:
        assert socket.protocol.extensions == []
        say(socket, watch="/post/5")
        assert hear(socket, "status")["status"] == 200
    with closing(RawWebSocket(url, {**ME, "Sec-WebSocket-Extensions": "permessage-deflate"})) as raw:
        assert (raw.status, "permessage-deflate" in raw.head) == (101, False)
        raw.send(frame(TEXT, b"\xaa\x56\x2a", reserved=4))  # the bit that says: compressed
        assert raw.close_code() == 1002


def test_ten_thousand_watches_leave_others_their_turn(url: str, world: World) -> None:
    with closing(RawWebSocket(url, ME)) as greedy, open_socket(url, of=token("subject-2", "read")) as other:
        say(other, watch="/post/5")
        hear(other, "status")
        problems, answers = 0, messages(greedy)
        for first in range(0, 10_000, 1000):
            paths = (f"/post/{9_000_000 + first + more}" for more in range(1000))
            greedy.send(b"".join(frame(TEXT, json.dumps({"watch": path}).encode()) for path in paths))
            like(world, 2 + first // 1000)
            assert hear(other, "status")["body"]["like_count"] == 2 + first // 1000
            found = list(itertools.islice(answers, 1000))
            problems += sum("problem" in answer for answer in found)
        assert problems == 9_900


def messages(socket: RawWebSocket) -> Iterator[dict[str, object]]:
    """The answers to what it asked."""
    for opcode, payload in socket.frames():
        message = json.loads(payload) if opcode == TEXT else {}
        if "path" in message:
            yield message


def test_handshakes_that_never_end_keep_nobody_out(url: str) -> None:
    host = url.removeprefix("http://")
    half = handshake(host, ME)[:-2]
    with ExitStack() as connections:
        for _ in range(200):
            stalled = socket_to(url)
            connections.enter_context(stalled).sendall(half)
        with mine(url) as socket:
            say(socket, watch="/post/5")
            assert hear(socket, "status")["status"] == 200


def test_a_first_message_of_a_byte_a_second_is_given_up(url: str) -> None:
    first = frame(TEXT, json.dumps({"token": token("subject-1", "read")}).encode())
    with closing(RawWebSocket(url, {})) as raw:
        started = time.monotonic()
        dribble = threading.Thread(target=send_slowly, args=(raw, first))
        dribble.start()
        assert next(payload for opcode, payload in raw.frames() if opcode == CLOSE)[:2] == b"\x03\xf0"
        assert time.monotonic() - started < 8
    dribble.join()


def send_slowly(raw: RawWebSocket, data: bytes) -> None:
    """Until it is closed."""
    with contextlib.suppress(OSError):
        for byte in data:
            raw.socket.send(bytes([byte]))
            time.sleep(0.2)


def socket_to(url: str) -> socket.socket:
    host, _, port = url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=5)


@asynccontextmanager
async def serving(
    stack: Stack, *, ping_seconds: float = 0.3, send_bytes: int = 0
) -> AsyncIterator[tuple[Reader, Server, str]]:
    """A reader in this process. How often it pings a WebSocket, and how long it waits for the answer: 20 s
    in a process of its own. `send_bytes`: that the kernel keeps of what a client does not take.
    """
    reader = Reader(load(ReaderSettings, service_environment(stack)), AuthSettings.from_environ(AUTH))
    listener = listen(Address("127.0.0.1", 0))
    if send_bytes:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_bytes)
    server, address = Server(reader.app, websockets=True), listener.getsockname()
    server.config.ws_ping_interval = server.config.ws_ping_timeout = ping_seconds
    task = asyncio.create_task(server.serve([listener]))
    try:
        await until(lambda: server.started, "the reader to start")
        yield reader, server, f"http://{address[0]}:{address[1]}"
    finally:
        server.should_exit = True
        await task


@pytest.mark.anyio
async def test_a_message_of_a_byte_a_second_ends_its_connection(shared_stack: Stack, world: World) -> None:
    """No sign of life fits between the bytes of a frame."""
    world.user(1)
    async with serving(shared_stack) as (reader, server, url):
        raw = await asyncio.to_thread(RawWebSocket, url, ME)
        with closing(raw):
            for byte in frame(TEXT, b"x" * 1000)[:50]:
                raw.send(bytes([byte]))
                await asyncio.sleep(0.05)
            assert reader.metrics.live_ends.counts["websocket", "client"] == 1
            assert not server.server_state.connections


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["sse", "websocket"])
async def test_a_machine_that_vanished_keeps_no_place(
    kind: str, shared_stack: Stack, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends no connection, and acknowledges nothing: TCP alone would try for a quarter of an hour."""
    monkeypatch.setattr(admin, "SILENT_PEER_MS", 500)
    world.user(1)
    async with serving(shared_stack) as (reader, server, url):
        if kind == "sse":
            client: Stream | RawWebSocket = await asyncio.to_thread(Stream, url, "/user/1", ME)
        else:
            client = await asyncio.to_thread(RawWebSocket, url, ME)
        with closing(client):
            vanish(client.socket)
            await until(lambda: reader.metrics.live_ends.counts[kind, "client"], "the end", 8)
            assert not server.server_state.connections


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["sse", "websocket"])
@pytest.mark.parametrize("characters", [1_000, 10_000])
async def test_a_stop_waits_for_nobody_who_takes_nothing(
    kind: str, characters: int, shared_stack: Stack, world: World
) -> None:
    """Neither if the last message is written behind what it did not take, nor if it cannot be written."""
    world.user(1)
    for id in range(1, 21):
        world.post(id, body="x" * characters)
    async with serving(shared_stack, ping_seconds=20, send_bytes=8192) as (reader, server, url):
        if kind == "sse":
            client: Stream | RawWebSocket = await asyncio.to_thread(Stream, url, "/user/1/posts", ME)
        else:
            client = await asyncio.to_thread(RawWebSocket, url, ME)
            client.send(frame(TEXT, b'{"watch":"/user/1/posts"}'))
        with closing(client):
            [served] = server.server_state.connections
            await until(lambda: reader.metrics.live_states.counts[kind,], "the first state")
            vanish(client.socket)
            seq = 1
            while not served.transport.get_write_buffer_size():
                seq += 1
                world.post(1, body="x" * characters, like_count=seq, v=seq)
                await asyncio.to_thread(world.batch, seq, ["post:1"])
                await asyncio.sleep(0.1)
            reader.end_streams()
            server.should_exit = True
            await until(lambda: not server.server_state.connections, "the stop", 8)
