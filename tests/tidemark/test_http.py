"""A body too large or too slow: the client gets its status, and the connection ends."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tests.tidemark.raw_http import answer, serving
from tidemark.http import EXCEPTION_HANDLERS, BodyLimit
from tidemark.settings import Address

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"


async def length(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


@pytest.fixture
def address() -> Iterator[Address]:
    """A service that counts the bytes of a body: at most ten, within 0.3 s."""
    limit = Middleware(BodyLimit, limit=10, seconds=0.3)
    app = Starlette(
        routes=[Route("/", length, methods=["POST"])],
        middleware=[limit],
        exception_handlers=EXCEPTION_HANDLERS,
    )
    with serving(app) as address:
        yield address


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 11\r\n\r\n" + b"x" * 11,
        b"Transfer-Encoding: chunked\r\n\r\n6\r\nxxxxxx\r\n5\r\nxxxxx\r\n",
    ],
    ids=["announced", "not announced"],
)
def test_a_large_body_is_413_before_its_end(address: Address, body: bytes) -> None:
    assert answer(address, HEAD + body).startswith(b"HTTP/1.1 413 ")


def test_a_slow_body_is_408_however_it_dribbles_in(address: Address) -> None:
    started = time.monotonic()
    assert answer(address, HEAD + b"Content-Length: 10\r\n\r\nx").startswith(b"HTTP/1.1 408 ")
    assert answer(address, HEAD + b"Content-Length: 10\r\n\r\n", b"x", pause_seconds=0.2).startswith(
        b"HTTP/1.1 408 "
    )
    assert time.monotonic() - started < 4


def test_a_slow_body_in_time_is_taken(address: Address) -> None:
    body = b"Connection: close\r\nContent-Length: 2\r\n\r\n"
    assert answer(address, HEAD + body, b"x", b"y", pause_seconds=0.05).endswith(b"\r\n\r\n2")
