"""The ASGI applications of the writer: the public one and the one of the admin port."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

import anyio
import anyio.to_thread
import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from authorizer_lambda.middleware import BearerAuthMiddleware
from authorizer_lambda.settings import AuthSettings
from tidemark.admin import admin_app
from tidemark.consistency_token import ConsistencyKeys
from tidemark.http import EXCEPTION_HANDLERS, BodyLimit, RequestContext
from writer import endpoints, metrics, openapi
from writer.database import Database, readiness
from writer.deletion import finish_a_deletion
from writer.idempotency import purge_expired
from writer.settings import WriterSettings
from writer.upkeep import keep_doing

OPENAPI_PATH = "/openapi.json"


class State(TypedDict):
    """The contents of `request.state`."""

    database: Database
    consistency_keys: ConsistencyKeys


def create_app(settings: WriterSettings, auth: AuthSettings) -> Starlette:
    """The public application; its lifespan owns the connection pool. It starts without MySQL, not ready."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[State]:
        database = Database(settings.mysql_url, settings.pool_size)
        try:
            async with anyio.create_task_group() as background:
                background.start_soon(keep_doing, database, purge_expired, finish_a_deletion)
                yield {"database": database, "consistency_keys": settings.consistency_keys}
                background.cancel_scope.cancel()
        finally:
            database.close()

    description = msgspec.json.encode(openapi.document())

    async def describe(request: Request) -> Response:
        return Response(description, media_type="application/json")

    app = Starlette(
        routes=[*endpoints.routes(), Route(OPENAPI_PATH, describe)],
        middleware=[
            Middleware(RequestContext, observe=metrics.observe_request),
            Middleware(BodyLimit),
            Middleware(
                BearerAuthMiddleware,
                settings=auth,
                public_paths=frozenset({OPENAPI_PATH}),
                on_decision=metrics.DECISIONS.add,
            ),
        ],
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=lifespan,
    )
    # Behind a TLS proxy, a redirect would send the client and its token to http://.
    app.router.redirect_slashes = False
    return app


def create_admin_app(settings: WriterSettings) -> Starlette:
    """Metrics, health and readiness; not for the public."""

    async def ready() -> dict[str, str]:
        return {"mysql": await anyio.to_thread.run_sync(readiness, settings.mysql_url)}

    return admin_app(metrics.REGISTRY, ready)
