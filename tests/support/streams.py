"""A client of server-sent events on a bare socket: it sees each event as it came, and how long none came."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Event:
    """One event; `data` is its JSON."""

    name: str
    id: str
    data: Any
    retry: str = ""


class Ended(Exception):
    """The server ended the stream."""


class Stream:
    """An open stream, or the refusal of one: then `body` is the answer's."""

    def __init__(self, url: str, path: str, headers: Mapping[str, str], receive_bytes: int = 0) -> None:
        address = urlsplit(url)
        self.socket = socket.socket()
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.connect((address.hostname, address.port))
        fields = {"Host": address.netloc, "Accept": "text/event-stream", **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self.socket.sendall(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
        self._bytes, self._text = b"", ""
        self.events: list[Event] = []
        head = self._until(b"\r\n\r\n").decode("latin-1")
        status, *lines = head.split("\r\n")
        self.status = int(status.split()[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        self.body = self._exactly(int(self.headers.get("content-length", 0)))

    def next(self, *names: str, seconds: float = 10) -> Event:
        """The next event of one of these names; others are left out. Raises Ended."""
        deadline = time.monotonic() + seconds
        while True:
            event = self._event(deadline)
            self.events.append(event)
            if event.name in names:
                return event

    def state(self, seconds: float = 10) -> Any:
        return self.next("state", seconds=seconds).data

    def silent_for(self, seconds: float, *names: str) -> bool:
        """Whether no event of these names comes for so long."""
        with contextlib.suppress(TimeoutError):
            self.next(*names, seconds=seconds)
            return False
        return True

    def close(self) -> None:
        self.socket.close()

    def _event(self, deadline: float) -> Event:
        while "\n\n" not in self._text:
            self._text += self._chunk(deadline).decode()
        text, _, self._text = self._text.partition("\n\n")
        fields = dict(line.split(": ", 1) for line in text.split("\n"))
        data = json.loads(fields["data"]) if "data" in fields else None
        return Event(fields.get("event", ""), fields.get("id", ""), data, fields.get("retry", ""))

    def _chunk(self, deadline: float) -> bytes:
        """The next chunk, taken once all of it is there: after a TimeoutError, a later call goes on."""
        while True:
            head, mark, rest = self._bytes.partition(b"\r\n")
            if mark and len(rest) >= (size := int(head, 16)) + 2:
                self._bytes = rest[size + 2 :]
                if not size:
                    raise Ended
                return rest[:size]
            self._receive(deadline)

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._bytes:
            self._receive(None)
        found, _, self._bytes = self._bytes.partition(mark)
        return found

    def _exactly(self, size: int) -> bytes:
        while len(self._bytes) < size:
            self._receive(None)
        found, self._bytes = self._bytes[:size], self._bytes[size:]
        return found

    def _receive(self, deadline: float | None) -> None:
        left = 10.0 if deadline is None else deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.socket.settimeout(left)
        piece = self.socket.recv(65536)
        if not piece:
            raise Ended
        self._bytes += piece


@contextlib.contextmanager
def watching(url: str, path: str, headers: Mapping[str, str], **more: int) -> Iterator[Stream]:
    stream = Stream(url, path, headers, **more)
    try:
        yield stream
    finally:
        stream.close()
