"""A bare loop that sends the same bytes to as many connections, as often as the reader may."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from multiprocessing.connection import Connection as Pipe
from typing import cast
from urllib.parse import urlsplit

from perf.live.streams import TRANSPORTS

BACKLOG = 1024
TURN = 200  # connections between two turns of others
PER_S = 10.0  # states of a read, as the reader


def capture(transport: str, url: str, post: int, token: str) -> tuple[bytes, bytes]:
    """All that comes before the first state, and the bytes of this state."""
    address, stream = urlsplit(url), TRANSPORTS[transport](post, token)
    received, boundary = b"", 0
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(stream.opening(address.netloc))
        while byte := connection.recv(1):
            received += byte
            found = stream.feed(byte)
            if stream.replies:
                connection.sendall(stream.replies)
                stream.replies = b""
            if found:
                return received[:boundary], received[boundary:]
            if stream.is_between:
                boundary = len(received)
    raise RuntimeError(f"{address.netloc} sent no state")


async def serve_floor(pipe: Pipe, head: bytes, message: bytes, connections: int) -> None:
    """Tell the port; once all have come, send in rounds until the pipe ends."""
    watchers: list[asyncio.Transport] = []

    class Watcher(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
            self.asked = b""

        def data_received(self, received: bytes) -> None:
            if b"\r\n\r\n" not in self.asked:
                self.asked += received
                if b"\r\n\r\n" in self.asked:
                    self.transport.write(head + message)
                    watchers.append(self.transport)

    loop = asyncio.get_running_loop()
    server = await loop.create_server(Watcher, "127.0.0.1", 0, backlog=BACKLOG)
    pipe.send(server.sockets[0].getsockname()[1])
    ended = loop.run_in_executor(None, _wait_for_end, pipe)
    due = time.monotonic()
    while not ended.done():
        if len(watchers) == connections:
            for at, watcher in enumerate(watchers, 1):
                if (
                    not watcher.is_closing() and not watcher.get_write_buffer_size()
                ):  # who is slow gets the next
                    watcher.write(message)
                if at % TURN == 0:
                    await asyncio.sleep(0)
        due = max(due + 1 / PER_S, time.monotonic())
        await asyncio.sleep(due - time.monotonic())


def _wait_for_end(pipe: Pipe) -> None:
    with contextlib.suppress(EOFError):
        pipe.recv()
