"""`perf push` reads both transports, judges what clients saw, and prints its figures."""

from __future__ import annotations

import json

import pytest

from perf.__main__ import main
from perf.live import feeds
from perf.live.clients import Seen
from perf.live.judging import Judged, judge, states_per_s
from perf.live.streams import TIDE, Message, Refused, ServerSentEvents, Stream, WebSocket

STATE = b'{"status":200,"as_of":"1970-01-01T00:00:07.500Z","etag":"x","body":{"id":"5","like_count":3}}'
HEAD = b"\r\ncontent-type: text/event-stream\r\n\r\n"
AT_7_5 = 7.5


def chunk(event: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(event), event)


def frame(kind: int, payload: bytes) -> bytes:
    size = len(payload)
    return bytes((0x80 | kind, size) if size < 126 else (0x80 | kind, 126, *size.to_bytes(2))) + payload


EVENTS = (
    b"HTTP/1.1 200 OK"
    + HEAD
    + chunk(b"retry: 2000\n\n")
    + chunk(b'event: state\nid: "x"\ndata: %s\n\n' % STATE)
    + chunk(b'event: tide\ndata: {"as_of":"1970-01-01T00:00:07.500Z"}\n\n')
)
FRAMES = (
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n"
    + frame(1, b'{"tide":"1970-01-01T00:00:07.400Z"}')  # before the reader knows of the watch
    + frame(1, b'{"path":"/post/5",' + STATE[1:])
    + frame(9, b"ping")
    + frame(1, b'{"tide":"1970-01-01T00:00:07.500Z"}')
)


@pytest.mark.parametrize(("kind", "received"), [(ServerSentEvents, EVENTS), (WebSocket, FRAMES)])
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_messages_are_read_however_their_bytes_come(kind: type[Stream], received: bytes, size: int) -> None:
    stream = kind(5, "token")
    parts = [received[at : at + size] for at in range(0, len(received), size)]
    found = [message for part in parts for message in stream.feed(part)]
    assert found == [Message(AT_7_5, 3), Message(AT_7_5, TIDE)]
    assert stream.is_between


def test_a_ping_is_answered() -> None:
    stream = WebSocket(5, "token")
    stream.feed(FRAMES)
    assert stream.replies == stream.watching() + b"\x8a\x84\0\0\0\0ping"


@pytest.mark.parametrize(
    ("kind", "received"),
    [
        (ServerSentEvents, b"HTTP/1.1 503 Service Unavailable\r\n\r\n"),
        (ServerSentEvents, EVENTS + chunk(b'event: end\nretry: 2000\ndata: {"reason":"slow"}\n\n')),
        (WebSocket, FRAMES + frame(1, b'{"path":"/post/5","problem":{"status":429}}')),
        (WebSocket, FRAMES + frame(8, b"\x03\xf0")),
    ],
)
def test_a_stream_that_is_refused_or_ends_says_so(kind: type[Stream], received: bytes) -> None:
    with pytest.raises(Refused):
        kind(5, "token").feed(received)


def seen(*messages: tuple[float, float, int]) -> Seen:
    one = Seen(5)
    for message in messages:
        one.messages.extend(message)
    return one


@pytest.mark.parametrize(
    ("messages", "judged"),
    [
        ([(0, 0, 0), (11.5, 11, 1), (13, 12, 2), (14, 13, TIDE)], Judged([500.0, 1000.0])),
        ([(0, 0, 0), (12.5, 12, 2)], Judged([1500.0, 500.0])),
        ([(0, 0, 0), (11.5, 11, 1)], Judged([500.0], missed=1)),
        ([(12, 12, 2), (13, 13, 1), (14, 14, TIDE)], Judged(missed=1, backwards=1, older_than_said=2)),
        ([(12, 12, 2), (13, 11.9, TIDE)], Judged(backwards=1)),
        ([(0, 0, 0), (11.5, 11, TIDE), (12.5, 12, 2)], Judged([1500.0, 500.0], older_than_said=1)),
        ([(11.5, 11, TIDE), (12.5, 12, 2)], Judged(older_than_said=1)),
    ],
)
def test_each_fault_is_found(messages: list[tuple[float, float, int]], judged: Judged) -> None:
    """MySQL had the two likes of the post at 11 and at 12."""
    assert judge({5: [11.0, 12.0]}, [seen(*messages)]) == judged


def test_states_count_between_two_times() -> None:
    messages = [(10.0, 0.0, 0), (11.0, 0.0, 1), (12.0, 0.0, TIDE), (13.0, 0.0, 2)]
    assert states_per_s([seen(*messages)] * 3, 10.5, 13.5) == 2


@pytest.mark.server
def test_clients_that_watch_stand_next_to_polling_and_a_bare_loop(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "AUTHORS", 100)
    monkeypatch.setattr(feeds, "FOLLOWEES", 50)
    sizes = {"--connections": "40", "--watched": "8", "--writes-per-s": "80", "--seconds": "1"}
    options = [text for option in sizes.items() for text in option]
    assert main(["push", "--json", "--transport", "sse", *options]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert 0 < found["latency_p50_ms"] <= found["latency_p99_ms"]
    assert found["latency_p99_to_polled_p99"] == round(found["latency_p99_ms"] / found["polled_p99_ms"], 3)
    assert found["states_per_s"] > 0 and found["kib_per_connection"] > 0
    hot = found["one_hot"]
    assert hot["to_floor"] == round(hot["messages_per_s"] / hot["floor_messages_per_s"], 3) > 0
    assert hot["reader_beside_p99_ms"] > 0
    assert found["missed"] == found["ended"] == hot["missed"] == hot["ended"] == 0
    assert found["reconnect_all"]["seconds"] > 0
    assert found["kib_per_watched_feed"] > 0
