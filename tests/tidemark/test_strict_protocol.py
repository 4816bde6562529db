"""Heads that are too large or forbidden by RFC 9112 are refused before an application sees them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.tidemark.raw_http import answer, serving
from tidemark.settings import Address
from tidemark.strict_protocol import MAX_HEAD_BYTES

GET = b"GET / HTTP/1.1\r\nHost: x\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
MUCH = b"x" * 500_000  # more than uvloop reads at once
FILLING = MAX_HEAD_BYTES - len(b"/host: x\r\nconnection: close\r\na: \r\n")  # the value of field a


async def mirror(request: Request) -> Response:
    body = (await request.body()).decode()
    return JSONResponse({"headers": dict(request.headers), "query": request.url.query, "body": body})


@pytest.fixture(scope="module")
def address() -> Iterator[Address]:
    """A service that answers with the request that it received."""
    with serving(Starlette(routes=[Route("/", mirror, methods=["GET", "POST"])])) as address:
        yield address


def refused(received: bytes, status: int) -> None:
    head, _, body = received.rpartition(b"HTTP/1.1 ")[2].partition(b"\r\n\r\n")
    assert head.startswith(b"%d " % status), received[:200]
    assert b"content-type: application/problem+json" in head and b"connection: close" in head
    assert json.loads(body)["status"] == status
    assert re.search(rb"\bx-request-id: [0-9a-f]{32}\b", head)


@pytest.mark.parametrize(
    "head",
    [
        GET + b"A: " + MUCH,
        GET + MUCH,
        GET + b"a: b\r\n" * 80_000,
        GET + b"A: " + MUCH + b"\r\n\r\n",
        GET + b"a: b\r\n" * 80_000 + b"\r\n",
        b"GET /?" + MUCH,
        b"GET /?" + MUCH + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\r\n" * 250_000,
        GET + b"\r\n" + GET + b"A: " + MUCH,
        GET + b"\r\n" + GET + b"A: " + MUCH + b"\r\n\r\n",
        CHUNKED + b"1;" + MUCH,
        CHUNKED + b"1\r\nx\r\n0\r\nA: " + MUCH,
    ],
    ids=[
        *(
            "value",
            "name",
            "fields",
            "complete value",
            "complete fields",
            "URL",
            "complete URL",
            "empty lines",
        ),
        *("the second", "the complete second", "extension of a chunk", "trailer"),
    ],
)
@pytest.mark.parametrize("piece", [1_000, 1_000_000])
def test_a_head_over_64_kib_is_431(address: Address, head: bytes, piece: int) -> None:
    refused(answer(address, *(head[at : at + piece] for at in range(0, len(head), piece))), 431)


def test_the_limit_is_64_kib_to_the_byte(address: Address) -> None:
    def of(length: int) -> bytes:
        return answer(address, GET + b"Connection: close\r\nA: " + b"x" * length + b"\r\n\r\n")

    assert of(FILLING).startswith(b"HTTP/1.1 200 ")
    refused(of(FILLING + 1), 431)


@pytest.mark.parametrize(
    ("request_", "body"),
    [
        (POST + b"Content-Length: 300000\r\n\r\n" + b"x" * 300_000, b"x" * 300_000),
        (CHUNKED + b"1\r\nx\r\n" * 30_000 + b"0\r\n\r\n", b"x" * 30_000),
    ],
    ids=["one piece", "many chunks"],
)
def test_the_limit_of_heads_does_not_count_bodies(address: Address, request_: bytes, body: bytes) -> None:
    got = answer(address, request_)
    assert got.startswith(b"HTTP/1.1 200 ") and b'"body":"%s"' % body in got


def test_many_small_requests_at_once_are_no_large_head(address: Address) -> None:
    got = answer(address, (GET + b"\r\n") * 4_000 + GET + b"Connection: close\r\n\r\n")
    assert got.count(b"HTTP/1.1 200 ") == 4_001


@pytest.mark.parametrize(
    "head",
    [
        *(
            b"GET / HTTP/1.1\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n",
            b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n",
        ),
        *(
            b"GET / HTTP/1.1\r\nHost: a b\r\n",
            b"GET / HTTP/1.1\r\nHost: a/b\r\n",
            b"GET / HTTP/1.1\r\nHost: u@a\r\n",
        ),
        *(
            b"GET / HTTP/1.1\r\nHost: a, b:80\r\n",
            b"GET / HTTP/1.1\r\nHost: a:b\r\n",
            b"GET http://a/ HTTP/1.1\r\n",
        ),
    ],
)
def test_not_one_host_is_400(address: Address, head: bytes) -> None:
    refused(answer(address, head + b"\r\n"), 400)


@pytest.mark.parametrize("host", [b"a.example:8443", b"[::1]:80", b"", b"127.0.0.1", b"a_b", b"%C3%BC"])
def test_one_host_in_any_form_is_taken(address: Address, host: bytes) -> None:
    head = b"GET / HTTP/1.1\r\nConnection: close\r\nHost: %s\r\n\r\n" % host
    assert answer(address, head).startswith(b"HTTP/1.1 200 ")


def test_http_1_0_needs_no_host(address: Address) -> None:
    assert answer(address, b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "codings", [b"gzip, chunked", b"gzip\r\nTransfer-Encoding: Chunked", b"x;a=1,chunked"]
)
def test_a_transfer_coding_other_than_chunked_is_501(address: Address, codings: bytes) -> None:
    refused(answer(address, POST + b"Transfer-Encoding: " + codings + b"\r\n\r\n0\r\n\r\n"), 501)


@pytest.mark.parametrize(
    "request_",
    [
        *(
            b"GET\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01",
            b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
            GET + b"A: \x00\r\n\r\n",
        ),
        POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        *(
            POST + b"Content-Length: -1\r\n\r\n",
            POST + b"Transfer-Encoding: gzip\r\n\r\n",
            CHUNKED + b"x\r\n",
        ),
    ],
)
def test_a_message_that_is_no_http_is_400(address: Address, request_: bytes) -> None:
    refused(answer(address, request_), 400)


def test_trailers_are_no_headers(address: Address) -> None:
    got = answer(address, CHUNKED + b"1\r\nx\r\n0\r\nAuthorization: Bearer x\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 200 ") and b"authorization" not in got


def test_an_upgrade_is_declined(address: Address) -> None:
    upgrade = b"Upgrade: websocket\r\nConnection: upgrade, close\r\nSec-WebSocket-Version: 13\r\n"
    got = answer(address, GET + upgrade + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 200 ")
