"""A small service with workers: `python -m tests.tidemark.service_of_workers HOST:PORT HOST:PORT`.

`/` answers with the worker's process id, `/slow` a second later. With `--uneven-in FOLDER` only the first
worker, which finds the folder empty, is ready. `--pause SECONDS` is the first pause before a restart.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

import uvloop
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tidemark import logs, workers
from tidemark.admin import Readiness, admin_app
from tidemark.settings import address

WORKERS = 2


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("public", type=address)
    parser.add_argument("admin", type=address)
    parser.add_argument("--uneven-in", type=Path)
    parser.add_argument("--pause", type=float, default=workers.PAUSE_SECONDS)
    parser.add_argument("--worker", nargs=2)
    options = parser.parse_args()
    logs.configure("service")
    registry = CollectorRegistry()
    if options.worker is None:
        workers.PAUSE_SECONDS = options.pause
        restarts = Counter("restarts_total", "restarts", ["worker"], registry=registry)
        return workers.serve_workers(WORKERS, options.public, options.admin, registry, restarts)
    public, ready = public_app(registry), options.uneven_in is None or is_first(options.uneven_in)

    async def parts() -> Readiness:
        return Readiness.of({"store": "ok"} if ready else {"store": "away", "other": "away"})

    uvloop.run(workers.serve_as_worker(public, admin_app(registry, parts), *options.worker))
    return 0


def public_app(registry: CollectorRegistry) -> Starlette:
    requests = Counter("requests_total", "requests", registry=registry)
    seconds = Histogram("seconds", "seconds", registry=registry)
    Gauge("places", "places", registry=registry).set(10)

    async def at_once(request: Request) -> Response:
        requests.inc()
        seconds.observe(0.5)
        return PlainTextResponse(str(os.getpid()))

    async def slow(request: Request) -> Response:
        await asyncio.sleep(1)
        return PlainTextResponse(str(os.getpid()))

    return Starlette(routes=[Route("/", at_once), Route("/slow", slow)])


def is_first(folder: Path) -> bool:
    try:
        (folder / "first").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
