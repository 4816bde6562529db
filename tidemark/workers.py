"""Several processes behind one address: each serves on the same listening socket, one admin port speaks for all."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import tempfile
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path

import httpx2
import structlog
import uvloop
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from tidemark.admin import listen, serve_on
from tidemark.settings import Address

LOOK_SECONDS = 0.1
EARLIEST = ("process_start_time_seconds",)  # of these the workers' earliest counts; all others add up
log = structlog.get_logger()


def serve_workers(count: int, public: Address, admin: Address, make: Callable[[], tuple[ASGIApp, ASGIApp]]) -> int:
    """Serve with `count` processes until SIGTERM or SIGINT; `make` builds a worker's public and admin app.

    Returns the exit status: 1 if a worker ended by itself, after all others were stopped. Raises AddressUnavailable.
    """
    shared, own = listen(public), listen(admin)
    with tempfile.TemporaryDirectory(prefix="tidemark-workers-") as folder:
        paths = [Path(folder) / f"{number}.sock" for number in range(count)]
        pids = [_fork(shared, path, make) for path in paths]
        return uvloop.run(_supervise(pids, own, combined_admin_app(paths)))


def _fork(shared: socket.socket, path: Path, make: Callable[[], tuple[ASGIApp, ASGIApp]]) -> int:
    parent = os.getpid()
    if pid := os.fork():
        return pid
    status = 1
    try:
        app, admin = make()
        own = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        own.bind(str(path))
        own.listen()
        uvloop.run(serve_on([(app, shared), (admin, own)], until=_orphaned(parent)))
        status = 0
    finally:
        os._exit(status)  # never back into the parent's code


async def _orphaned(parent: int) -> None:
    while os.getppid() == parent:  # noqa: ASYNC110 - nothing tells us but a look
        await asyncio.sleep(LOOK_SECONDS)


async def _supervise(pids: Sequence[int], own: socket.socket, app: ASGIApp) -> int:
    ended: list[int] = []

    async def first_end() -> None:
        while not ended:
            ended.extend(pid for pid in pids if os.waitpid(pid, os.WNOHANG)[0])  # noqa: ASYNC222 - WNOHANG
            await asyncio.sleep(LOOK_SECONDS)

    await serve_on([(app, own)], until=first_end())
    if ended:
        log.error("a worker ended by itself; stopping the others", pids=ended)
    await _stop([pid for pid in pids if pid not in ended])
    return 1 if ended else 0


async def _stop(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    for pid in pids:
        await asyncio.to_thread(os.waitpid, pid, 0)


def combined_admin_app(paths: Sequence[Path]) -> Starlette:
    """`/metrics` adds up what the workers say, `/readyz` needs all of them; they listen on UNIX sockets at `paths`."""

    async def metrics(request: Request) -> Response:
        answers = await _ask(paths, "/metrics")
        return PlainTextResponse(combined(answer.text for answer in answers))

    async def healthz(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(request: Request) -> Response:
        answers = await _ask(paths, "/readyz")
        return JSONResponse(answers[0].json(), max(answer.status_code for answer in answers))

    return Starlette(routes=[Route("/metrics", metrics), Route("/healthz", healthz), Route("/readyz", readyz)])


async def _ask(paths: Sequence[Path], path: str) -> list[httpx2.Response]:
    async def one(uds: Path) -> httpx2.Response:
        async with httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(uds=str(uds)), timeout=5) as http:
            return await http.get(f"http://worker{path}")

    questions: list[Awaitable[httpx2.Response]] = [one(uds) for uds in paths]
    return list(await asyncio.gather(*questions))


def combined(texts: Iterable[str]) -> str:
    """Prometheus' text format of several processes as if they were one."""
    values: dict[str, dict[str, float]] = defaultdict(dict)
    heads: dict[str, str] = {}
    for text in texts:
        for family in text_string_to_metric_families(text):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            heads[name] = f"# HELP {name} {_escaped(family.documentation)}\n# TYPE {name} {family.type}\n"
            for sample in family.samples:
                _add(values[name], sample.name, f"{sample.name}{_labels(sample.labels)}", sample.value)
    return "".join(
        head + "".join(f"{sample} {value}\n" for sample, value in values[name].items()) for name, head in heads.items()
    )


def _add(samples: dict[str, float], name: str, sample: str, value: float) -> None:
    if name in EARLIEST or name.endswith("_created"):
        samples[sample] = min(samples.get(sample, value), value)
    else:
        samples[sample] = samples.get(sample, 0.0) + value


def _labels(labels: Mapping[str, str]) -> str:
    pairs = ",".join(f'{name}="{_escaped(value, quote=True)}"' for name, value in labels.items())
    return f"{{{pairs}}}" if pairs else ""


def _escaped(text: str, *, quote: bool = False) -> str:
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    return text.replace('"', r"\"") if quote else text
