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
from tidemark import api_pages, problems
from tidemark.admin import Readiness, admin_app
from tidemark.consistency_token import ConsistencyKeys
from tidemark.http import EXCEPTION_HANDLERS, BodyLimit, RequestContext, cross_origin
from writer import endpoints, metrics, openapi
from writer.database import Database, readiness
from writer.deletion import finish_a_deletion
from writer.idempotency import purge_expired
from writer.limits import Limits
from writer.settings import WriterSettings
from writer.upkeep import keep_doing


class State(TypedDict):
    """The contents of `request.state`."""

    database: Database
    consistency_keys: ConsistencyKeys
    limits: Limits


def create_app(settings: WriterSettings, auth: AuthSettings) -> Starlette:
    """The public application; its lifespan owns the connection pool. It starts without MySQL, not ready."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[State]:
        database = Database(settings.mysql_url, settings.pool_size)
        try:
            async with anyio.create_task_group() as background:
                background.start_soon(keep_doing, database, purge_expired, finish_a_deletion)
                yield {
                    "database": database,
                    "consistency_keys": settings.consistency_keys,
                    "limits": Limits(settings.commands_per_minute),
                }
                background.cancel_scope.cancel()
        finally:
            database.close()

    description = msgspec.json.encode(openapi.document())

    async def describe(request: Request) -> Response:
        return Response(description, media_type="application/json")

    pages = api_pages.routes(settings.api_pages)
    app = Starlette(
        routes=[*endpoints.routes(), Route("/openapi.json", describe), problems.ROUTE, *pages],
        middleware=[
            *cross_origin(settings.allowed_origins, ("DELETE", "GET", "PATCH", "POST", "PUT")),
            Middleware(RequestContext, observe=metrics.observe_request),
            Middleware(BodyLimit),
            Middleware(
                BearerAuthMiddleware,
                settings=auth,
                public_paths=problems.PUBLIC_PATHS | api_pages.paths(pages),
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

    async def ready() -> Readiness:
        return Readiness.of({"mysql": await anyio.to_thread.run_sync(readiness, settings.mysql_url)})

    return admin_app(metrics.REGISTRY, ready)
