"""The admin port (metrics, health, readiness; not public), and servers that stop together on one signal."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import NamedTuple

import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from tidemark.queueing import QUEUE, Queue, Queued, QueueingProtocol
from tidemark.settings import Address
from tidemark.small_messages import MAX_MESSAGE_BYTES, SmallMessages
from tidemark.strict_protocol import StrictProtocol

DRAIN_SECONDS = 20
SILENT_PEER_MS = 60_000
OK = "ok"


class Readiness(NamedTuple):
    """Part -> "ok" or its trouble. A service may be `ready` although a part is not: it works without it."""

    parts: Mapping[str, str]
    ready: bool

    @classmethod
    def of(cls, parts: Mapping[str, str]) -> Readiness:
        """All parts are needed."""
        return cls(parts, all(state == OK for state in parts.values()))


Health = Callable[[], Awaitable[Readiness]]


def admin_app(registry: CollectorRegistry, ready: Health, others: Sequence[BaseRoute] = ()) -> Starlette:
    """`/metrics`, `/healthz` (the process answers), `/readyz` (503 if not ready), `others`."""

    async def metrics(request: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    async def healthz(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(request: Request) -> Response:
        found = await ready()
        return JSONResponse(found.parts, 200 if found.ready else 503)

    own = [Route("/metrics", metrics), Route("/healthz", healthz), Route("/readyz", readyz)]
    return Starlette(routes=[*own, *others])


class AddressUnavailable(Exception):
    """A service cannot listen on its address; the message names the address and the reason."""


def listen(address: Address) -> socket.socket:
    """A listening socket. Its connections end when a peer takes nothing for a minute (tcp(7)).

    TCP alone would try for a quarter of an hour. Raises AddressUnavailable.
    """
    try:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        listener = socket.create_server((address.host, address.port), family=family, backlog=2048)
    except OSError as error:
        raise AddressUnavailable(f"cannot listen on {address}: {error.strerror or error}") from error
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT_PEER_MS)
    return listener


class Server(uvicorn.Server):
    """A uvicorn server that leaves the signals to `serve`. With a queue, it refuses what would wait long."""

    def __init__(self, app: ASGIApp, *, websockets: bool = False, queue: Queue | None = None) -> None:
        super().__init__(
            uvicorn.Config(
                Queued(app, queue) if queue else app,
                http=QueueingProtocol if queue else StrictProtocol,
                ws=SmallMessages if websockets else "none",
                ws_max_size=MAX_MESSAGE_BYTES,
                ws_per_message_deflate=False,  # 50 KiB a connection, and secrets beside chosen text (CRIME)
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # nothing here needs the client's address
                timeout_graceful_shutdown=DRAIN_SECONDS,
                timeout_keep_alive=65,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    apps: Sequence[tuple[ASGIApp, Address]], end_streams: Callable[[], None] | None = None
) -> None:
    """Serve all apps until SIGTERM or SIGINT. Raises AddressUnavailable before anything is served."""
    await serve_on([(app, listen(address)) for app, address in apps], end_streams=end_streams)


async def serve_on(
    apps: Sequence[tuple[ASGIApp, socket.socket]],
    until: Coroutine[None, None, None] | None = None,
    end_streams: Callable[[], None] | None = None,
) -> None:
    """Serve until SIGTERM, SIGINT or the end of `until`; then finish open requests, the first app first.

    `end_streams` ends what would not end by itself; then the first app may have WebSockets, too. Raises the
    error of `until`, at the end.
    """
    servers = [
        Server(app, websockets=end_streams is not None and not at, queue=None if at else QUEUE)
        for at, (app, _) in enumerate(apps)
    ]
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    tasks = [
        asyncio.create_task(server.serve([listener]))
        for server, (_, listener) in zip(servers, apps, strict=True)
    ]
    ends = [asyncio.create_task(stopping.wait()), *([asyncio.create_task(until)] if until else [])]
    await asyncio.wait([*tasks, *ends], return_when=asyncio.FIRST_COMPLETED)
    for end in ends:
        end.cancel()
    if end_streams is not None:
        end_streams()
    for server, task in zip(servers, tasks, strict=True):
        server.should_exit = True
        await task
    for end in ends:
        with contextlib.suppress(asyncio.CancelledError):
            await end


class AdminThread:
    """The admin port of a service that has no event loop of its own. Raises AddressUnavailable."""

    def __init__(self, app: ASGIApp, address: Address) -> None:
        self.server = Server(app)
        sockets = [listen(address)]
        self.thread = threading.Thread(target=self.server.run, args=(sockets,), name="admin", daemon=True)

    def __enter__(self) -> AdminThread:
        self.thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.server.should_exit = True
        self.thread.join(timeout=5)
