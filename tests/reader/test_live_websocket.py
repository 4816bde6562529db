"""Many watched reads on one WebSocket: the same states, the same rights, and no message that does harm."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from ops.stack import Stack
from tests.conftest import service_environment
from tests.reader.conftest import RunningReader, follows, starting_reader
from tests.reader.world import World
from tests.support.harness import wait_until
from tests.support.services import running_services
from tests.support.tokens import bearer, short_token, token

LIVE = Subprotocol("tidemark.live")


def open_socket(url: str, *, of: str = "", query: str = "", headers: Mapping[str, str] | None = None) -> Any:
    """A WebSocket; `of` is the token that it offers as a subprotocol."""
    offered = [LIVE, Subprotocol(f"bearer.{of}")] if of else None
    address = f"ws{url.removeprefix('http')}/live{query}"
    return connect(address, subprotocols=offered, additional_headers=headers, compression=None, proxy=None)


def mine(url: str) -> Any:
    return open_socket(url, of=token("subject-1", "read"))


def say(socket: ClientConnection, **message: object) -> None:
    socket.send(json.dumps(message))


def hear(socket: ClientConnection, *members: str, seconds: float = 10) -> Any:
    """The next message that has one of these members."""
    deadline = time.monotonic() + seconds
    while True:
        message = json.loads(socket.recv(timeout=max(0.01, deadline - time.monotonic())))
        if not {*members}.isdisjoint(message):
            return message


def closed(socket: ClientConnection) -> tuple[int, str]:
    """The code and the reason of the close, after any messages; 1006: there was no close frame."""
    try:
        while True:
            socket.recv(timeout=10)
    except ConnectionClosed as end:
        return (end.rcvd.code, end.rcvd.reason) if end.rcvd else (1006, "")


def test_a_like_arrives_at_a_websocket(stack: Stack) -> None:
    """Through the whole system."""
    with running_services(stack) as services:
        services.write("s1", "PUT", "/user/me", {"handle": "one", "display_name": "One", "bio": ""})
        path = f"/post/{services.write('s1', 'POST', '/post', {'body': 'hello'}).json()['id']}"
        wait_until(lambda: services.read(path).status_code == 200, "the post")
        with mine(services.reader_url) as socket:
            say(socket, watch=path)
            assert hear(socket, "body")["body"]["like_count"] == 0
            assert services.write("s1", "PUT", f"{path}/like").is_success
            assert hear(socket, "body")["body"]["like_count"] == 1
        assert services.processes["reader"].stop() == 0


def test_one_connection_watches_many_reads(url: str, api: httpx2.Client, world: World) -> None:
    with mine(url) as socket:
        assert socket.subprotocol == LIVE
        answers = {path: api.get(path) for path in ("/post/5", "/feed", "/user/2", "/post/6")}
        for path in answers:
            say(socket, watch=path)
        states = {state["path"]: state for state in (hear(socket, "status") for _ in answers)}
        for path, answer in answers.items():
            state = states[path]
            assert (state["status"], state["body"]) == (answer.status_code, answer.json())
            assert state["etag"] == answer.headers.get("etag")
        assert hear(socket, "tide")["tide"] >= states["/feed"]["as_of"]
        say(socket, unwatch="/post/5")
        assert hear(socket, "unwatched") == {"path": "/post/5", "unwatched": True}
        world.post(5, author_id=1, like_count=1, v=2)
        world.user(2, bio="new", v=2)
        world.apply(world.commit(2), ["user:2"], ["post:5"])
        assert {hear(socket, "status")["path"] for _ in range(2)} == {"/user/2", "/feed"}


def test_a_known_state_is_spared_and_a_minimal_one_has_no_body(
    url: str, api: httpx2.Client, world: World
) -> None:
    with mine(url) as socket:
        say(socket, watch="/post/5", etag=api.get("/post/5").headers["etag"], minimal=True)
        assert set(hear(socket, "tide", "etag")) == {"tide"}
        world.post(5, author_id=1, like_count=1, v=2)
        world.apply(world.commit(2), counted=["post:5"])
        assert set(hear(socket, "etag")) == {"path", "as_of", "etag"}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/post/x", 404),
        ("/nowhere", 404),
        ("/live", 404),
        ("/openapi.json", 404),
        ("/feed?cursor=WzVd", 400),
        ("feed", 400),
        ("http://[", 400),
    ],
)
def test_what_get_refuses_is_not_watched(path: str, status: int, url: str) -> None:
    with mine(url) as socket:
        say(socket, watch=path)
        answer = hear(socket, "problem")
        assert (answer["path"], answer["problem"]["status"]) == (path, status)
        say(socket, watch="/post/5")
        assert hear(socket, "status")["status"] == 200


def test_nobody_watches_the_feed_of_somebody_else(url: str) -> None:
    with mine(url) as socket, open_socket(url, of=token("subject-2", "read")) as other:
        for each in (socket, other):
            say(each, watch="/feed")
        assert [item["id"] for item in hear(socket, "body")["body"]["items"]] == ["5"]
        assert hear(other, "body")["body"]["items"] == []
        say(other, token=token("subject-1", "read"))  # the feed would go on as another's
        assert closed(other) == (1008, "refused")


@pytest.mark.parametrize("headers", [{}, bearer("subject-1", "write"), {"Authorization": "Bearer x.y.z"}])
def test_a_websocket_without_the_right_to_read_is_refused(headers: Mapping[str, str], url: str) -> None:
    if not headers:
        with open_socket(url) as socket:
            say(socket, watch="/post/5")
            assert hear(socket, "problem")["problem"]["status"] == 401
            assert closed(socket)[0] == 1008
        return
    with pytest.raises(InvalidStatus) as refusal:
        open_socket(url, headers=headers)
    assert refusal.value.response.status_code in (401, 403)


def test_the_token_may_come_as_a_header_or_in_the_first_message(url: str) -> None:
    with open_socket(url, headers=bearer("subject-1", "read")) as socket:
        say(socket, watch="/post/5")
        assert hear(socket, "status")["status"] == 200
    with open_socket(url) as socket:
        say(socket, token=token("subject-1", "read"))
        assert hear(socket, "token") == {"token": "accepted"}
        say(socket, watch="/post/5")
        assert hear(socket, "status")["status"] == 200


def test_a_token_in_the_url_opens_no_websocket(url: str) -> None:
    own = token("subject-1", "read")
    for of in ("", own):
        with pytest.raises(InvalidStatus) as refusal:
            open_socket(url, of=of, query=f"?access_token={own}")
        assert refusal.value.response.status_code == 400


def test_no_other_path_is_a_websocket(url: str) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        connect(
            f"ws{url.removeprefix('http')}/feed",
            additional_headers=bearer("subject-1"),
            compression=None,
            proxy=None,
        )
    assert refusal.value.response.status_code == 403


def test_a_websocket_ends_with_its_token_unless_it_gets_a_new_one(url: str) -> None:
    with open_socket(url, of=short_token("subject-1", 2)) as socket:
        assert hear(socket, "end", seconds=4)["end"] == "token-expired"
        assert closed(socket) == (1008, "token-expired")
    with open_socket(url, of=short_token("subject-1", 2)) as socket:
        say(socket, token="no token")
        assert hear(socket, "problem")["problem"]["status"] == 401
        say(socket, token=token("subject-1", "read"))
        assert hear(socket, "token") == {"token": "accepted"}
        time.sleep(2.5)
        say(socket, watch="/post/5")
        assert hear(socket, "status")["status"] == 200


def test_a_message_may_come_in_fragments(url: str) -> None:
    with mine(url) as socket:
        socket.send(['{"watch":', "", ' "/post/5"}'])
        assert hear(socket, "status")["path"] == "/post/5"


HARMFUL = {
    "no JSON": ("watch /feed", 1008),
    "another shape": ('{"watch": 5}', 1008),
    "no object": ("[]", 1008),
    "an unknown member": ('{"watch": "/feed", "other": 1}', 1008),
    "nothing to do": ("{}", 1008),
    "two things to do": ('{"watch": "/feed", "unwatch": "/feed"}', 1008),
    "deep JSON": ("[" * 10_000, 1008),
    "bytes": (b'{"watch": "/feed"}', 1008),
    "a huge message": ("x" * 17_000, 1009),
    "a huge message in fragments": (["x" * 1_000] * 17, 1009),
    "endless empty fragments": ([""] * 100, 1009),
}


@pytest.mark.parametrize("name", HARMFUL)
def test_a_harmful_message_ends_its_connection_alone(name: str, url: str) -> None:
    message, code = HARMFUL[name]
    with mine(url) as other, mine(url) as socket:
        say(other, watch="/post/5")
        hear(other, "status")
        with contextlib.suppress(ConnectionClosed):  # already while it is sent
            socket.send(message)
        assert closed(socket)[0] in (code, 1006)  # what is sent after the close may reset the connection
        hear(other, "tide")


def test_text_that_is_not_utf_8_ends_its_connection_alone(url: str) -> None:
    with mine(url) as socket:
        socket.send(b"\xff\xfe", text=True)
        assert closed(socket)[0] == 1007


@settings(max_examples=40)
@given(
    st.text() | st.binary() | st.recursive(st.none() | st.booleans() | st.text(), st.lists).map(json.dumps)
)
def test_no_message_brings_the_reader_down(running_reader: RunningReader, message: str | bytes) -> None:
    with mine(running_reader.url) as socket, contextlib.suppress(ConnectionClosed):
        socket.send(message)
        say(socket, token=token("subject-1", "read"))
        hear(socket, "token", "end")
    assert running_reader.answers()


@pytest.fixture
def small_reader(shared_stack: Stack, url: str) -> Iterator[RunningReader]:
    limits = {"TIDEMARK_READER_LIVE_WATCHES": "2", "TIDEMARK_READER_LIVE_PER_SUBJECT": "1"}
    with starting_reader({**service_environment(shared_stack), **limits}) as reader:
        wait_until(reader.answers, "the reader to answer")
        with reader.client() as client:
            wait_until(lambda: follows(client), "the tide")
        yield reader


def test_watches_and_connections_are_limited(small_reader: RunningReader) -> None:
    with mine(small_reader.url) as socket:
        for path in ("/post/5", "/user/1", "/user/2", "/post/5"):
            say(socket, watch=path)
        answers = [hear(socket, "status", "problem") for _ in range(4)]
        refused = [answer["path"] for answer in answers if "problem" in answer]
        assert refused == ["/user/2"]
        with pytest.raises(InvalidStatus) as refusal:
            mine(small_reader.url)
        assert refusal.value.response.status_code == 429
        assert small_reader.metrics("tidemark_live_connections", "tidemark_live_watches") == [1, 2]
    wait_until(lambda: small_reader.metrics("tidemark_live_watches") == [0], "no watch to be left")


def test_a_stop_closes_websockets_with_a_time_to_come_back(small_reader: RunningReader) -> None:
    with mine(small_reader.url) as socket:
        say(socket, watch="/post/5")
        hear(socket, "status")
        started = time.monotonic()
        small_reader.process.popen.terminate()
        end = hear(socket, "end")
        assert (end["end"], 1000 <= end["retry_ms"] < 6000) == ("drain", True)
        assert closed(socket) == (1012, "drain")
        assert small_reader.process.popen.wait(timeout=10) == 0
        assert time.monotonic() - started < 5
