"""Frames and handshakes that hypothesis makes up: each ends at most its own connection."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from itertools import chain, pairwise

import httpx2
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from websockets.sync.client import ClientConnection

from tests.reader.conftest import RunningReader
from tests.reader.test_live_websocket import hear, mine, say
from tests.reader.world import World
from tests.support.frames import CLOSE, CONTINUATION, PING, PONG, TEXT, RawWebSocket, frame
from tests.support.harness import wait_until
from tests.support.tokens import bearer, token

OTHER = bearer("subject-2", "read")
CODES = {1000, 1002, 1003, 1005, 1006, 1007, 1008, 1009}  # not 1011: the server failed
PATHS = st.sampled_from(["/post/5", "/feed", "/user/1", "/post/x", "/", "", "/feed?limit=1", "/post/%ff"])
REQUESTS = st.fixed_dictionaries(
    {}, optional={"etag": st.text(), "minimal": st.booleans() | st.none(), "unwatch": PATHS}
)
MESSAGES = st.one_of(
    st.builds(lambda path, more: {"watch": path, **more}, PATHS, st.just({}) | REQUESTS),
    st.builds(lambda path: {"unwatch": path}, PATHS),
    st.builds(lambda text: {"token": text}, st.sampled_from([token("subject-2", "read"), "x.y.z", ""])),
    REQUESTS,
    st.recursive(st.none() | st.integers() | st.text(), st.lists),
).map(lambda message: json.dumps(message).encode())


def fragments(message: bytes, cuts: list[int], between: bytes) -> bytes:
    """A text in fragments, with other frames between them."""
    pieces = [message[start:end] for start, end in pairwise([0, *sorted(cuts), len(message)])]
    frames = [frame(CONTINUATION if at else TEXT, piece, final=False) for at, piece in enumerate(pieces)]
    return between.join([*frames, frame(CONTINUATION)])


FAIR = st.one_of(
    st.builds(frame, st.just(TEXT), MESSAGES),
    st.builds(frame, st.just(TEXT), MESSAGES),
    st.builds(frame, st.sampled_from([PING, PONG]), st.binary(max_size=125)),
    st.builds(
        fragments,
        MESSAGES,
        st.lists(st.integers(0, 40), max_size=70),
        st.sampled_from([b"", frame(PING, b"x")]),
    ),
)
FOUL = st.builds(
    frame,
    st.sampled_from([TEXT, CONTINUATION, CLOSE, PING, PONG]) | st.integers(0, 15),
    MESSAGES | st.binary(max_size=130) | st.integers(0, 20_000).map(bytes),
    final=st.booleans(),
    reserved=st.just(0) | st.integers(0, 7),
    mask=st.just(b"mask") | st.sampled_from([b"", b"\0\0\0\0"]),
    announced=st.none() | st.sampled_from([0, 125, 126, 65_535, 65_536, 2**31, 2**63, 2**64 - 1]),
)
CONVERSATIONS = st.builds(
    lambda *parts: b"".join(chain(*parts)),
    st.lists(FAIR, max_size=6),
    st.lists(FOUL | st.binary(max_size=40), max_size=3),
    st.lists(FAIR, max_size=2),
)
TEXTS = st.text(st.characters(max_codepoint=255, blacklist_characters="\r\n"), max_size=60)
FIELDS = st.fixed_dictionaries(
    {"Authorization": st.sampled_from([OTHER["Authorization"], "", "Bearer x.y.z"])},
    optional={
        "Upgrade": TEXTS | st.just("WebSocket"),
        "Connection": TEXTS | st.just("keep-alive, Upgrade"),
        "Sec-WebSocket-Key": TEXTS,
        "Sec-WebSocket-Version": TEXTS | st.sampled_from(["8", "13"]),
        "Sec-WebSocket-Protocol": TEXTS | st.sampled_from(["bearer.", "bearer.x.y.z, tidemark.live", ",,"]),
        "Sec-WebSocket-Extensions": TEXTS | st.just("permessage-deflate; client_max_window_bits=15"),
        "Origin": TEXTS,
        "Content-Length": st.sampled_from(["0", "5"]),
    },
)
MANY = settings(max_examples=500, suppress_health_check=[*HealthCheck])


@pytest.fixture(scope="module")
def started(running_reader: RunningReader) -> int:
    """How many lines the reader's log has before."""
    return len(running_reader.process.events())


@pytest.fixture
def other(
    api: httpx2.Client, running_reader: RunningReader, world: World, started: int
) -> Iterator[ClientConnection]:
    """Somebody who watches post 5 meanwhile, and sees its next like at the end; nothing was a failure."""
    world.user(1)
    world.user(2)
    world.post(5)
    with mine(running_reader.url) as socket:
        say(socket, watch="/post/5")
        assert hear(socket, "status")["status"] == 200
        yield socket
        world.post(5, like_count=1, v=2)
        world.apply(world.commit(2), counted=["post:5"])
        assert hear(socket, "status")["body"]["like_count"] == 1
        wait_until(
            lambda: running_reader.metrics("tidemark_live_connections") == [1], "the others to be gone"
        )
    events = running_reader.process.events()[started:]
    errors = [event for event in events if event["level"] in ("error", "critical")]
    assert not errors, errors


@MANY
@example(sent=frame(TEXT, b"\xff\xfe"), cuts=[])
@example(sent=frame(CLOSE), cuts=[])  # without a code, and so is the answer
@given(sent=CONVERSATIONS, cuts=st.lists(st.integers(1, 4000), max_size=5))
def test_no_frames_harm_more_than_their_connection(
    other: ClientConnection, running_reader: RunningReader, sent: bytes, cuts: list[int]
) -> None:
    with closing(RawWebSocket(running_reader.url, OTHER)) as raw:
        assert raw.status == 101
        for cut in cuts:
            piece, sent = sent[:cut], sent[cut:]
            raw.send(piece)
        raw.send(sent)
        raw.send(frame(CLOSE, b"\x03\xe8"))
        raw.hang_up()
        assert raw.close_code(30) in CODES


@MANY
@given(fields=FIELDS, path=st.sampled_from(["/live", "/live?", "/live?x=1", "/feed", "/live/", "/%6cive"]))
def test_no_handshake_is_answered_with_a_failure(
    other: ClientConnection, running_reader: RunningReader, fields: dict[str, str], path: str
) -> None:
    with closing(RawWebSocket(running_reader.url, fields, path)) as raw:
        assert raw.status in {101, 200, 400, 401, 403, 404, 405, 413, 426}, raw.head
