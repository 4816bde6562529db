"""The ASGI app of a lane: middleware, token checks, commands and errors of the services, other reads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from typing import TypedDict

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from authorizer_lambda.middleware import CLAIMS, BearerAuthMiddleware
from authorizer_lambda.settings import AuthSettings
from perf.baseline.lanes import Keep, Lane, Sources, sources
from tidemark.http import EXCEPTION_HANDLERS, BodyLimit, RequestContext
from tidemark.problem import Problem
from writer.commands import Answer, LikePost, UnlikePost, WritePost
from writer.database import Database, Session
from writer.handlers import like_post, unlike_post, write_post

WRITE_CONNECTIONS = 8
Handle = Callable[[Session], Answer]


@dataclass(frozen=True)
class Stores:
    """URLs of the stores of a lane."""

    mysql_url: str
    redis_url: str


class State(TypedDict):
    """The content of `request.state`."""

    lane: Lane
    sources: Sources
    database: Database


def create_app(lane: Lane, stores: Stores, auth: AuthSettings) -> Starlette:
    """One lane's public application; its lifespan opens the pools."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[State]:
        async with sources(lane, stores.mysql_url, stores.redis_url) as opened:
            with closing(Database(stores.mysql_url, WRITE_CONNECTIONS)) as database:
                yield {"lane": lane, "sources": opened, "database": database}

    return Starlette(
        routes=[
            Route("/post/{id:int}", read),
            Route("/feed", feed),
            Route("/post", write, methods=["POST"]),
            Route("/post/{id:int}/like", like, methods=["PUT"]),
            Route("/post/{id:int}/like", unlike, methods=["DELETE"]),
        ],
        middleware=[
            Middleware(RequestContext, observe=_unmeasured),
            Middleware(BodyLimit),
            Middleware(BearerAuthMiddleware, auth, public_paths=frozenset()),
        ],
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=lifespan,
    )


async def read(request: Request) -> Response:
    its: Sources = request.state.sources
    body = await its.read(request.path_params["id"])
    if body is None:
        raise Problem(404, "not-found", "There is no such post.")
    return Response(body, media_type="application/json")


async def feed(request: Request) -> Response:
    its: Sources = request.state.sources
    return Response(await its.feed(_subject(request)), media_type="application/json")


async def write(request: Request) -> Response:
    fields = msgspec.json.decode(await request.body(), type=dict[str, str])
    command = msgspec.convert({"subject": _subject(request), **fields}, WritePost)
    keep = request.state.lane.post_written

    def work(db: Session) -> Answer:
        answer = write_post(db, command)
        if keep is not None:
            keep(db, int((answer.location or "").removeprefix("/post/")))
        return answer

    done = await request.state.database.run(work, repeatable=False)
    answer: Answer = done.result
    return Response(answer.body, answer.status, {"Location": answer.location or ""}, "application/json")


async def like(request: Request) -> Response:
    command = LikePost(subject=_subject(request), post_id=request.path_params["id"])
    return await _counted(request, lambda db: like_post(db, command), request.state.lane.liked)


async def unlike(request: Request) -> Response:
    command = UnlikePost(subject=_subject(request), post_id=request.path_params["id"])
    return await _counted(request, lambda db: unlike_post(db, command), request.state.lane.unliked)


async def _counted(request: Request, handle: Handle, keep: Keep | None) -> Response:
    """Carry out a command on a post and keep its counters. The cached post goes between commit and 204."""
    post_id: int = request.path_params["id"]

    def work(db: Session) -> Answer:
        answer = handle(db)
        if keep is not None:
            keep(db, post_id)
        return answer

    await request.state.database.run(work, repeatable=True)
    await request.state.sources.forget(post_id)
    return Response(status_code=204)


def _subject(request: Request) -> str:
    subject: str = request.scope[CLAIMS].subject
    return subject


def _unmeasured(method: str, route: str, status: int, seconds: float) -> None:
    pass
