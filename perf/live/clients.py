"""Clients that watch, in a few processes of their own: they note each message, and judge nothing."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import signal
import time
from array import array
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from typing import Any, cast
from urllib.parse import urlsplit

import uvloop

from perf.live.streams import TIDE, TRANSPORTS, Refused, Stream

PROCESSES = 2
OPENED_TOGETHER = 100  # by each process
OPENED_WITHIN_SECONDS = 60.0
SPAWN = multiprocessing.get_context("spawn")


@dataclass
class Seen:
    """A client's share of a post. `messages`: time of receipt, as-of and count, one after the other."""

    post: int
    messages: array[float] = field(default_factory=lambda: array("d"))
    shown: int = TIDE
    ended: str = ""

    @property
    def first_at(self) -> float:
        """When its first message came, in seconds since 1970."""
        return self.messages[0]

    def rows(self) -> Iterator[tuple[float, float, float]]:
        return zip(*(self.messages[part::3] for part in range(3)), strict=True)


class Clients:
    """Connections, dealt out to the processes."""

    def __init__(self, pipes: Sequence[Pipe]) -> None:
        self._pipes = pipes

    def open(self, transport: str, url: str, watches: Sequence[tuple[int, str]]) -> None:
        """Watch each post with its token; returns once all have a state. Raises RuntimeError if refused."""
        count = len(self._pipes)
        self._ask("open", [(transport, url, watches[part::count]) for part in range(count)])

    def wait_until_shown(self, counts: Mapping[int, int], seconds: float) -> None:
        """Until each post is shown with its count, at most for so long."""
        self._ask("wait_until_shown", [(counts, seconds)] * len(self._pipes))

    def close(self) -> list[Seen]:
        """Drop all connections; returns what they got."""
        return [seen for part in self._ask("close") for seen in part]

    def _ask(self, command: str, arguments: Sequence[tuple[Any, ...]] = ()) -> list[Any]:
        for pipe, given in zip(self._pipes, arguments or [()] * len(self._pipes), strict=True):
            pipe.send((command, given))
        answers = [pipe.recv() for pipe in self._pipes]
        if failed := [error for error, _ in answers if error]:
            raise RuntimeError(failed[0])
        return [answer for _, answer in answers]


@contextmanager
def starting_clients() -> Iterator[Clients]:
    with ExitStack() as stack:
        yield Clients([stack.enter_context(running(_serve)) for _ in range(PROCESSES)])


@contextmanager
def running(serve: Callable[..., Awaitable[None]], *arguments: Any) -> Iterator[Pipe]:
    """`serve` in a process of its own, with the other end of the pipe; the end of the pipe ends it."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=_run, args=(serve, theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.join(10)
        process.kill()
        process.join()


def _run(serve: Callable[..., Any], *arguments: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    uvloop.run(serve(*arguments))


async def _serve(pipe: Pipe) -> None:
    """Answer each command until the pipe ends."""
    watching = Watching()
    while True:
        try:
            command, arguments = await asyncio.to_thread(pipe.recv)
        except EOFError:
            return
        try:
            pipe.send(("", await getattr(watching, command)(*arguments)))
        except (OSError, Refused, TimeoutError) as error:
            pipe.send((f"{type(error).__name__}: {error}", None))


class Watching:
    """The connections of one process."""

    def __init__(self) -> None:
        self._clients: list[Client] = []

    async def open(self, transport: str, url: str, watches: Sequence[tuple[int, str]]) -> None:
        address, few = urlsplit(url), asyncio.Semaphore(OPENED_TOGETHER)
        kind, loop = TRANSPORTS[transport], asyncio.get_running_loop()

        async def connect(post: int, token: str) -> None:
            client = Client(kind(post, token), address.netloc, Seen(post))
            self._clients.append(client)
            async with few:
                await loop.create_connection(lambda: client, str(address.hostname), address.port or 80)
                await client.until(0)
            if client.seen.ended:
                raise Refused(client.seen.ended)

        try:
            async with asyncio.timeout(OPENED_WITHIN_SECONDS):
                await asyncio.gather(*(connect(*watch) for watch in watches))
        except TimeoutError:
            without = [client.seen for client in self._clients if client.seen.shown == TIDE]
            got = [(seen.post, len(seen.messages) // 3) for seen in without]
            raise Refused(
                f"{len(without)} have no state after {OPENED_WITHIN_SECONDS:g} s; post, messages: {got[:10]}"
            ) from None

    async def wait_until_shown(self, counts: Mapping[int, int], seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                for client in self._clients:
                    await client.until(counts[client.seen.post])

    async def close(self) -> list[Seen]:
        clients, self._clients = self._clients, []
        return [client.close() for client in clients]


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, stream: Stream, netloc: str, seen: Seen) -> None:
        self.seen = seen
        self._stream = stream
        self._news = asyncio.Event()
        self._opening = stream.opening(netloc)
        self._transport: asyncio.Transport | None = None

    async def until(self, count: int) -> None:
        """Until so many likes are shown, or the connection has ended."""
        while self.seen.shown < count and not self.seen.ended:
            self._news.clear()
            await self._news.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._transport.write(self._opening)

    def data_received(self, received: bytes) -> None:
        now, seen = time.time(), self.seen
        try:
            messages = self._stream.feed(received)
        except Refused as refused:
            self._end(refused)
            return
        for as_of, count in messages:
            seen.messages.extend((now, as_of, count))
            if count != TIDE:
                seen.shown = count
                self._news.set()
        if self._stream.replies and self._transport is not None:
            self._transport.write(self._stream.replies)
            self._stream.replies = b""

    def connection_lost(self, error: Exception | None) -> None:
        self._end(error or Refused("the connection was closed"))

    def close(self) -> Seen:
        seen, self.seen = self.seen, Seen(self.seen.post)  # its end is no fault
        if self._transport is not None:
            self._transport.abort()
        return seen

    def _end(self, error: Exception) -> None:
        self.seen.ended = self.seen.ended or str(error)
        self._news.set()
