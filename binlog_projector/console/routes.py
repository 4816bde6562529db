"""The console: a read-only page on the admin port; server-sent events show the way of a write now."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from binlog_projector.console.vital_signs import VitalSigns

ASSETS = Path(__file__).with_name("assets")
LOOK_SECONDS = 0.2
HEADERS = {
    "content-security-policy": "default-src 'self'; frame-ancestors 'none'",
    "cache-control": "no-cache",
    "x-content-type-options": "nosniff",
}


def console_routes(signs: VitalSigns) -> Sequence[BaseRoute]:
    """`/` is the page. Its events: one `history` (the points of the charts), then a `sample` each second."""

    async def page(request: Request) -> Response:
        return FileResponse(ASSETS / "index.html", headers=HEADERS)

    async def events(request: Request) -> Response:
        return StreamingResponse(
            _events(signs), media_type="text/event-stream", headers={"cache-control": "no-store"}
        )

    return [
        Route("/", page),
        Route("/console/events", events),
        Mount("/console", StaticFiles(directory=ASSETS)),
    ]


async def _events(signs: VitalSigns) -> AsyncIterator[str]:
    yield _event("history", [asdict(point) for point in list(signs.points)])
    shown: object = None
    while not signs.stopping.is_set():
        if signs.latest and signs.latest is not shown:
            shown = signs.latest
            yield _event("sample", signs.latest)
        await asyncio.sleep(LOOK_SECONDS)


def _event(name: str, content: object) -> str:
    return f"event: {name}\ndata: {json.dumps(content)}\n\n"
