"""The bytes of one connection that watches a post, over each transport: the least that a client needs."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

TIDE = -1  # stands for the count in a message without a state
SHOWN = re.compile(rb'"(?:as_of|tide)":"([^"]+)"(?:.*"like_count":(\d+))?')
END = re.compile(rb'"(?:reason|end|problem)":.*')
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


class Message(NamedTuple):
    """`as_of`: seconds since 1970. `likes`: of a state, or TIDE."""

    as_of: float
    likes: int


class Refused(Exception):
    """The server refused the stream, or ended it."""


class Stream(ABC):
    """`opening` is sent first, `watching` after the head of the answer. `replies`: what to send now."""

    accepted = b""

    def __init__(self, post: int, token: str) -> None:
        self.path = f"/post/{post}"
        self.token = token
        self.replies = b""
        self._is_open = False
        self._rest = b""

    def feed(self, received: bytes) -> list[Message]:
        """The messages that are complete now. Raises Refused."""
        received, at = self._rest + received, 0
        if not self._is_open:
            at = received.find(b"\r\n\r\n") + 4
            if at < 4:
                self._rest = received
                return []
            if not received.startswith(b"HTTP/1.1 " + self.accepted):
                raise Refused(received.decode("latin-1"))
            self._is_open, self.replies = True, self.watching()
        found: list[Message] = []
        while (frame := self.frame(received, at)) is not None:
            payload, at = frame
            if message := _message(payload):
                found.append(message)
            elif end := END.search(payload):
                raise Refused(end[0].decode())
        self._rest = received[at:]
        return found

    @property
    def is_between(self) -> bool:
        """Whether nothing of a message has come that is not complete."""
        return self._is_open and not self._rest

    @abstractmethod
    def opening(self, netloc: str) -> bytes: ...

    def watching(self) -> bytes:
        return b""

    @abstractmethod
    def frame(self, received: bytes, at: int) -> tuple[bytes, int] | None:
        """The payload that begins at `at`, and the place behind it; None while incomplete."""


class ServerSentEvents(Stream):
    """Each event is a chunk of its own (RFC 9112, 7.1)."""

    accepted = b"200 "

    def opening(self, netloc: str) -> bytes:
        return _get(self.path, netloc, self.token, "Accept: text/event-stream")

    def frame(self, received: bytes, at: int) -> tuple[bytes, int] | None:
        start = received.find(b"\r\n", at) + 2
        if start < 2:
            return None
        end = start + int(received[at : start - 2], 16)
        return (received[start:end], end + 2) if len(received) >= end + 2 else None


class WebSocket(Stream):
    """One read on each connection (RFC 6455). Nobody listens in, so that the mask is zero."""

    accepted = b"101 "
    _is_watching = False

    def opening(self, netloc: str) -> bytes:
        fields = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
        return _get("/live", netloc, self.token, *fields, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")

    def watching(self) -> bytes:
        return _masked(TEXT, b'{"watch":"%s"}' % self.path.encode())

    def frame(self, received: bytes, at: int) -> tuple[bytes, int] | None:
        start = at + 2
        if len(received) < start:
            return None
        kind, size = received[at] & 15, received[at + 1]
        if size >= 126:
            start += 2 if size == 126 else 8
            size = int.from_bytes(received[at + 2 : start])
        if len(received) < start + size:
            return None
        payload = received[start : start + size]
        if kind == CLOSE:
            raise Refused(repr(payload))
        if kind == PING:
            self.replies += _masked(PONG, payload)
        self._is_watching |= payload.startswith(b'{"path"')
        if kind != TEXT or (payload.startswith(b'{"tide"') and not self._is_watching):
            payload = b""  # a tide may come before the reader has read of the watch
        return payload, start + size


TRANSPORTS: dict[str, type[Stream]] = {"sse": ServerSentEvents, "websocket": WebSocket}


def _get(path: str, netloc: str, token: str, *fields: str) -> bytes:
    lines = (f"GET {path} HTTP/1.1", f"Host: {netloc}", f"Authorization: Bearer {token}", *fields)
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


def _masked(kind: int, payload: bytes) -> bytes:
    assert len(payload) < 126
    return bytes((0x80 | kind, 0x80 | len(payload), 0, 0, 0, 0)) + payload


@lru_cache(maxsize=1024)
def _message(payload: bytes) -> Message | None:
    """Cached, because thousands get the same: the less clients take of a processor, the more is left."""
    shown = SHOWN.search(payload)
    if shown is None:
        return None
    as_of = datetime.fromisoformat(shown[1].decode()).timestamp()
    return Message(as_of, int(shown[2]) if shown[2] else TIDE)
