"""A TCP proxy that delays what servers answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress


@asynccontextmanager
async def delaying_proxy(port: int, seconds: Callable[[], float]) -> AsyncIterator[int]:
    """A port that leads to `port`; each piece of an answer waits for `seconds()` first."""
    connections: set[asyncio.Task[None]] = set()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: Callable[[], float]) -> None:
        with suppress(ConnectionError):
            while piece := await reader.read(65_536):
                await asyncio.sleep(delay())
                writer.write(piece)
                await writer.drain()
        writer.close()

    async def connected(client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_connection("127.0.0.1", port)
        for reader, writer, delay in ((client, to_server, lambda: 0.0), (server, to_client, seconds)):
            task = asyncio.create_task(pipe(reader, writer, delay))
            connections.add(task)
            task.add_done_callback(connections.discard)

    listener = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with listener:
        yield listener.sockets[0].getsockname()[1]
    for task in list(connections):
        task.cancel()
    if connections:
        await asyncio.wait(connections)
