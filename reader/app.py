"""The reader's ASGI app: routes, middleware, error answers, and the clients that the lifespan opens."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from datetime import datetime

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route, WebSocketRoute

from authorizer_lambda.middleware import BearerAuthMiddleware
from authorizer_lambda.settings import AuthSettings
from authorizer_lambda.tokens import Claims
from reader import openapi
from reader.answering import Services
from reader.cache import Cache
from reader.consistency import Consistency
from reader.document_store import DocumentStore
from reader.endpoints import (
    Read,
    caller,
    entity,
    everybody,
    feed,
    hashtag,
    listing,
    notifications,
    user_by_handle,
)
from reader.errors import DocumentsUnavailable, MomentGone, ReadModelMissing, stores_unavailable
from reader.fetching import Fetching
from reader.following import Following
from reader.live.connections import Connections
from reader.live.hub import Hub
from reader.live.watch import Watched
from reader.live.websocket import Live, request_for
from reader.metrics import ReaderMetrics
from reader.moments import Moments
from reader.parts import Origin
from reader.read_model.declarations import LISTINGS, POST, USER
from reader.refreshing import Refreshing
from reader.replica import Replica
from reader.settings import ReaderSettings
from tidemark import api_pages, problems
from tidemark.admin import OK, Readiness
from tidemark.http import EXCEPTION_HANDLERS, RequestContext, cross_origin, unknown_path
from tidemark.problem import problem_response

REDIS_STATES = {
    Origin.UNAVAILABLE: "away: reads come from MongoDB",
    Origin.NO_WATERMARK: "empty: reads come from MongoDB until a projector fills it",
    Origin.OTHER_MODEL: "filled by another release: reads come from MongoDB",
}
ROUTES: list[Route] = [
    Route("/post/{id}", entity(POST), methods=["GET"]),
    Route("/user/me", caller(), methods=["GET"]),
    Route("/user/by-handle/{handle}", user_by_handle(), methods=["GET"]),
    Route("/user/{id}", entity(USER), methods=["GET"]),
    *(Route(kind.path, listing(kind), methods=["GET"]) for kind in LISTINGS),
    Route("/posts", everybody(), methods=["GET"]),
    Route("/feed", feed(), methods=["GET"]),
    Route("/user/me/notifications", notifications(), methods=["GET"]),
    Route("/hashtag/{tag}", hashtag(), methods=["GET"]),
    Route("/openapi.json", openapi.serve),
]


def resolve(path: str, claims: Claims) -> Watched:
    """The read of a path with its query string, as its caller may watch it. Raises Problem."""
    scope = request_for(path, claims)
    for route in ROUTES:
        match, found = route.matches(scope)
        if match is Match.FULL and isinstance(route.endpoint, Read):
            return route.endpoint.watched({**scope, **found})
    raise unknown_path()


class Reader:
    """The service: `app` is public; the admin port has `ready` and `metrics`. `clock` gives Unix seconds."""

    def __init__(
        self, settings: ReaderSettings, auth: AuthSettings, clock: Callable[[], float] = time.time
    ) -> None:
        self.metrics = ReaderMetrics()
        self._settings = settings
        self._clock = clock
        self._stores: tuple[Following, DocumentStore] | None = None
        self._connections: Connections | None = None
        decisions = self.metrics.decisions.add
        pages = api_pages.routes(settings.api_pages)
        self.app = Starlette(
            routes=[*ROUTES, problems.ROUTE, *pages, WebSocketRoute("/live", Live(resolve))],
            middleware=[
                *cross_origin(settings.allowed_origins, ("GET", "HEAD")),
                Middleware(RequestContext, observe=self.metrics.observe_request),
                Middleware(
                    BearerAuthMiddleware,
                    auth,
                    public_paths=problems.PUBLIC_PATHS | api_pages.paths(pages),
                    websockets=True,
                    clock=clock,
                    on_decision=decisions,
                ),
            ],
            exception_handlers={**EXCEPTION_HANDLERS, DocumentsUnavailable: on_documents_unavailable},
            lifespan=self._lifespan,
        )
        # Behind a TLS proxy, a redirect would send the client and its token to http://.
        self.app.router.redirect_slashes = False

    async def ready(self) -> Readiness:
        """`reads` is ok while one store can answer. Each store is "ok" or its trouble, as in `status`."""
        if self._stores is None:
            return Readiness.of({"reads": "the service is starting or has ended"})
        following, documents = self._stores
        stores = {"redis": _redis_state(following), "mongodb": await _documents_state(documents)}
        ready = following.bypass is None or stores["mongodb"] == OK
        return Readiness({"reads": OK if ready else "no store can answer", **stores}, ready)

    def end_streams(self) -> None:
        """Before a stop: clients that watch are told to come back, later and not all at once."""
        if self._connections is not None:
            self._connections.drain()

    def _show(self, documents: DocumentStore, following: Following) -> None:
        """Gauges ask when they are scraped."""
        size, replica = self.metrics.replica_size, following.replica
        size.labels("bytes").set_function(lambda: replica.bytes)
        size.labels("entries").set_function(lambda: len(replica))
        self.metrics.blind_seconds.set_function(lambda: following.blind_seconds)
        self.metrics.shards_away.set_function(lambda: len(following.away))
        self.metrics.tide_age.set_function(lambda: _age(following, self._clock()))
        places = self.metrics.mongodb_places
        places.labels("in_use").set_function(lambda: documents.in_use)
        places.labels("free").set_function(lambda: self._settings.mongodb_reads - documents.in_use)
        places.labels("waiting").set_function(lambda: documents.waiting)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[dict[str, Services]]:
        settings = self._settings
        documents = DocumentStore.connect(
            settings.mongodb_url, settings.mongodb_reads, self.metrics.mongodb_reads.add
        )
        replica = Replica(settings.local_mib * 2**20, self.metrics)
        following = Following(settings.redis_url, replica, self.metrics)
        self._show(documents, following)
        moments = Moments(documents)
        cache = Cache(following)
        replica.dropped = Refreshing(cache, replica).refresh
        fetching = Fetching(following, cache, documents, moments, self.metrics)
        consistency = Consistency(following, fetching, moments, self.metrics, settings.max_waiters)
        self._stores = following, documents
        hub = Hub(following, consistency)
        connections = self._connections = Connections(hub, settings, self.metrics, self._clock)
        self.metrics.live_connections.set_function(connections.count)
        self.metrics.live_limit.set(settings.live_connections)
        self.metrics.live_due.set_function(hub.due_seconds)
        self.metrics.live_watches.set_function(lambda: len(hub.watches))
        tasks = [asyncio.create_task(one.run()) for one in (hub, connections, following)]
        try:
            yield {"services": Services(consistency, connections, settings, self.metrics, self._clock)}
        finally:
            self._stores = None
            await fetching.aclose()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await documents.aclose()


async def on_documents_unavailable(request: Request, error: Exception) -> Response:
    return problem_response(stores_unavailable())


def _redis_state(following: Following) -> str:
    if following.bypass is not None:
        return REDIS_STATES.get(following.bypass, OK)
    away = following.away
    shards = f"shard{'s' if len(away) > 1 else ''} {', '.join(map(str, away))}"
    return f"away: reads of {shards} come from MongoDB" if away else OK


async def _documents_state(documents: DocumentStore) -> str:
    try:
        await documents.present()
    except (ReadModelMissing, MomentGone) as error:
        return str(error)
    except DocumentsUnavailable as error:
        return f"away: {error}" if error.__cause__ else str(error)  # else all places are taken
    return OK


def _age(following: Following, now: float) -> float:
    """In seconds; NaN without a tide."""
    if following.tide is None:
        return float("nan")
    return max(0.0, now - datetime.fromisoformat(following.tide.as_of).timestamp())
