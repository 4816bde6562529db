"""The page's own server: its files, development tokens, figures, and the buttons that act on this run."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from mimetypes import guess_type
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ops.shore.controls import ACTS, Controls
from ops.shore.figures import figures
from ops.stack import StackError
from ops.system import System
from tidemark.admin import AdminThread
from tidemark.http import EXCEPTION_HANDLERS
from tidemark.problem import Problem

PAGE = Path(__file__).with_name("page")
PEOPLE = ("jane", "joe")
TOKEN_SECONDS = 600
PEOPLE_WHO_LIKE = 10_000
MARK = "x-shore"  # a page of another origin cannot send it without asking first, and is not answered


@contextmanager
def shore(
    system: System, *, token_seconds: int = TOKEN_SECONDS, people: int = PEOPLE_WHO_LIKE
) -> Iterator[Controls]:
    """Serve the page in a thread; the caller has to carry out what the page's buttons ask for."""
    with closing(Controls(system, people)) as controls:
        address = system.addresses["TIDEMARK_SHORE_BIND"]
        with AdminThread(create_app(system, controls, token_seconds), address):
            yield controls


def create_app(system: System, controls: Controls, token_seconds: int) -> Starlette:
    """The app for one run. Its admin token is new, and is given to the page alone."""
    origin, admin = system.url("shore"), secrets.token_urlsafe(24)

    async def page(request: Request) -> Response:
        path = PAGE / request.path_params.get("name", "index.html")
        if not path.is_file():
            raise Problem(404, "not-found", "There is no such file.")
        return Response(path.read_bytes(), media_type=guess_type(path)[0])  # small: a thread costs more

    async def session(request: Request) -> Response:
        ends = int(time.time()) + token_seconds
        people = {name: {"token": system.token(name, token_seconds), "expires_at": ends} for name in PEOPLE}
        services = {name: system.url(name) for name in ("writer", "reader")}
        console = system.admin_url("projector")
        docs = system.environment().get("TIDEMARK_API_PAGES", "none") != "none"
        addresses = {**services, "console": console, "docs": docs}
        return JSONResponse({**addresses, "admin": admin, "people": people})

    def seen(request: Request) -> Response:
        _admit(request, admin)
        return JSONResponse(figures(system, controls))

    def act(request: Request) -> Response:
        _admit(request, admin)
        name: str = request.path_params["name"]
        if name not in ACTS:
            raise Problem(404, "not-found", f"There is no act {name}.")
        try:
            controls.ask(name)
        except (StackError, OSError) as error:
            raise Problem(409, "not-done", str(error)) from error
        return JSONResponse({})

    return Starlette(
        routes=[
            Route("/", page),
            Route("/page/{name}", page),
            Route("/session", session, methods=["POST"]),
            Route("/figures", seen),
            Route("/act/{name}", act, methods=["POST"]),
        ],
        middleware=[Middleware(OwnPage, origin=origin, headers=_headers(system))],
        exception_handlers=EXCEPTION_HANDLERS,
    )


class OwnPage:
    """ASGI middleware: answers this address's own page alone, and adds the page's headers.

    The host of a request is checked, because a name of a stranger may lead to the loopback (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, origin: str, headers: Mapping[str, str]) -> None:
        self.app = app
        self.origin = origin
        self.headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self.headers]
            await send(message)

        answer: ASGIApp = self.app
        if not self._is_own(Request(scope)):
            answer = JSONResponse({"title": "Only the page of this address is answered."}, 403)
        await answer(scope, receive, send_with_headers)

    def _is_own(self, request: Request) -> bool:
        given, path = request.headers, request.url.path
        if f"http://{given.get('host')}" != self.origin or given.get("origin", self.origin) != self.origin:
            return False
        return path == "/" or path.startswith("/page/") or MARK in given


def _admit(request: Request, admin: str) -> None:
    """Raises Problem 401 unless the request has the admin token of this run."""
    given = request.headers.get("authorization", "")
    if not secrets.compare_digest(given.encode(), f"Bearer {admin}".encode()):
        raise Problem(401, "unauthorized", "This is another run: load the page again.")


def _headers(system: System) -> dict[str, str]:
    reader, writer = system.url("reader"), system.url("writer")
    live = reader.replace("http", "ws", 1)
    policy = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self'",
        "connect-src": f"'self' {writer} {reader} {live}",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
    }
    return {
        "content-security-policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "cache-control": "no-cache",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        "cross-origin-resource-policy": "same-origin",
    }
