"""For every HTTP service: request ids, a limit on bodies, measured requests, errors as problem details."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from typing import Any

import structlog
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, ExceptionHandler, Message, Receive, Scope, Send

from tidemark.logs import REQUEST_ID
from tidemark.problem import Problem, problem_response

GIVEN_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
MAX_BODY_BYTES = 32 * 1024  # the longest text takes 24 KiB if every character is escaped
MAX_BODY_SECONDS = 10.0
CLOSE = {"connection": "close"}
EVENT_STREAM = b"text/event-stream"
STREAMS = (b"content-type", EVENT_STREAM)
# Of requests and of answers: the headers that a page of another origin may send and see.
ASKED_HEADERS = (
    "Authorization",
    "Cache-Control",
    "Consistency-Token",
    "Idempotency-Key",
    "If-None-Match",
    "Last-Event-ID",
    "Prefer",
    "X-Request-Id",
)
ANSWERED_HEADERS = (
    "Allow",
    "Cache-Status",
    "Consistency-Token",
    "ETag",
    "Freshness",
    "Link",
    "Location",
    "Preference-Applied",
    "Retry-After",
    "WWW-Authenticate",
    "X-Request-Id",
)
Observe = Callable[[str, str, int, float], None]  # method, route template, status, seconds
log = structlog.get_logger()


class RequestContext:
    """Outermost ASGI middleware: gives a request its id, measures it, answers uncaught errors with 500.

    A stream of events is measured up to its beginning.
    """

    def __init__(self, app: ASGIApp, observe: Observe) -> None:
        self.app = app
        self.observe = observe
        process = uuid.uuid4().hex
        self._new_ids = (f"{process}-{number}".encode() for number in itertools.count(1))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        request_id = _given_id(scope) or next(self._new_ids)
        if scope["type"] == "websocket":
            REQUEST_ID.set(request_id)
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        status, seconds = 0, 0.0

        async def send_with_id(message: Message) -> None:
            nonlocal status, seconds
            if message["type"] == "http.response.start":
                status = message["status"]
                if STREAMS in message["headers"]:
                    seconds = time.perf_counter() - started
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
            await send(message)

        # Each request has a task of its own, and so a context of its own.
        REQUEST_ID.set(request_id)
        try:
            await self.app(scope, receive, send_with_id)
        except Exception:
            log.exception("request failed", method=scope["method"], route=_route(scope))
            if status:
                raise
            problem = Problem(
                500, "internal-error", "The service failed; the request id finds the reason in its log."
            )
            await problem_response(problem)(scope, receive, send_with_id)
        finally:
            seconds = seconds or time.perf_counter() - started
            self.observe(scope["method"], _route(scope), status or 499, seconds)


class BodyLimit:
    """ASGI middleware: refuses bodies over `limit` bytes (413), and bodies that take over `seconds` (408).

    The limit counts received bytes, not Content-Length. A refusal closes the connection: nobody reads on.
    """

    def __init__(self, app: ASGIApp, limit: int = MAX_BODY_BYTES, seconds: float = MAX_BODY_SECONDS) -> None:
        self.app = app
        self.limit = limit
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        received, complete = 0, False
        deadline = asyncio.get_running_loop().time() + self.seconds

        async def limited_receive() -> Message:
            nonlocal received, complete
            if complete:
                return await receive()  # the next message is the disconnect, without a deadline
            message = await self._before(deadline, receive)
            received += len(message.get("body", b""))
            if received > self.limit:
                raise Problem(
                    413, "body-too-large", f"The body may have at most {self.limit} bytes.", headers=CLOSE
                )
            complete = not message.get("more_body", False)
            return message

        await self.app(scope, limited_receive, send)

    async def _before(self, deadline: float, receive: Receive) -> Message:
        try:
            async with asyncio.timeout_at(deadline):
                return await receive()
        except TimeoutError:
            detail = f"The body must arrive within {self.seconds:g} s."
            raise Problem(408, "body-too-slow", detail, headers=CLOSE) from None


def cross_origin(origins: Collection[str], methods: Collection[str]) -> list[Middleware]:
    """The outermost middleware for pages of these origins, so that any answer names the page's. None: none.

    Tokens come in a header, never in a cookie, so no credentials are allowed.
    """
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=methods,
            allow_headers=ASKED_HEADERS,
            expose_headers=ANSWERED_HEADERS,
        )
    ]


def check_origin(scope: Scope, allowed: Collection[str]) -> None:
    """For a WebSocket, where CORS does not hold. Clients that are no browsers name no origin.

    Raises Problem 403.
    """
    origins = {value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"}
    if allowed and not origins <= {*allowed}:
        raise Problem(403, "origin-not-allowed", "Pages of this origin may not read here.")


async def on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return problem_response(error)


async def on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        detail = f"{request.method} is not possible here."
        return problem_response(Problem(405, "method-not-allowed", detail, headers=error.headers))
    return problem_response(unknown_path())


def unknown_path() -> Problem:
    return Problem(404, "unknown-path", "There is no such path; see /openapi.json.")


EXCEPTION_HANDLERS: Mapping[Any, ExceptionHandler] = {Problem: on_problem, HTTPException: on_http_exception}


def _given_id(scope: Scope) -> bytes | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            return value if GIVEN_ID.fullmatch(value) else None
    return None


def _route(scope: Scope) -> str:
    route = scope.get("route")
    return getattr(route, "path", "unmatched")
