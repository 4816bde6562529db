"""Answers sent in one write are unchanged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.tidemark.raw_http import answer, serving
from tidemark.settings import Address

PIECES = [b"%d" % number * 10_000 for number in range(100)]


async def pieces() -> AsyncIterator[bytes]:
    for piece in PIECES:
        yield piece
        await asyncio.sleep(0)


async def streamed(request: Request) -> Response:
    return StreamingResponse(pieces())


async def short(request: Request) -> Response:
    return PlainTextResponse(request.path_params["text"])


@pytest.fixture
def address() -> Iterator[Address]:
    app = Starlette(routes=[Route("/short/{text}", short), Route("/streamed", streamed)])
    with serving(app) as address:
        yield address


def answers(address: Address, *paths: str) -> bytes:
    """The answers to requests that are sent at once; the last one closes the connection."""
    *others, last = [f"GET {path} HTTP/1.1\r\nHost: x\r\n" for path in paths]
    requests = "".join([*(f"{head}\r\n" for head in others), f"{last}Connection: close\r\n\r\n"])
    return answer(address, requests.encode())


def test_pipelined_answers_come_whole_and_in_order_before_the_connection_closes(address: Address) -> None:
    received = answers(address, "/short/one", "/short/two", "/short/three")
    bodies = [one.partition(b"\r\n\r\n")[2] for one in received.split(b"HTTP/1.1 200 OK\r\n")[1:]]
    assert bodies == [b"one", b"two", b"three"]


def test_a_long_answer_in_many_pieces_arrives_as_it_was(address: Address) -> None:
    chunks = answers(address, "/streamed").partition(b"\r\n\r\n")[2]
    assert chunks == b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in PIECES) + b"0\r\n\r\n"
