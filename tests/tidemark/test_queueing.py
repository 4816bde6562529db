"""Under more load than a process can carry, requests are refused at once, and the others soon answered."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ops.stack.servers.ports import LOOPBACK, free_port
from tidemark.admin import Server, listen
from tidemark.queueing import Queue
from tidemark.settings import Address

WORK_SECONDS = 0.008
AT_ONCE = 60


async def work(request: Request) -> Response:
    body = await request.body()
    time.sleep(WORK_SECONDS)  # noqa: ASYNC251 - as a processor that is busy
    return PlainTextResponse(body or b"done")


APP = Starlette(routes=[Route("/", work, methods=["GET", "POST"])])


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
def address(queue: Queue) -> Iterator[Address]:
    address = Address(LOOPBACK, free_port())
    server = Server(APP, queue=queue)
    thread = threading.Thread(target=server.run, args=([listen(address)],))
    thread.start()
    try:
        yield address
    finally:
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_would_wait_too_long_is_refused_at_once(address: Address, queue: Queue, method: str) -> None:
    body = b"said" if method == "POST" else None
    refusals: list[None] = []
    queue.refused = lambda: refusals.append(None)
    every = [http.client.HTTPConnection(address.host, address.port, timeout=30) for _ in range(AT_ONCE)]
    with contextlib.ExitStack() as undo:
        for one in every:
            undo.callback(one.close)
        for _ in ("connects", "learns how long one takes"):
            for one in every:
                one.request(method, "/", body)
            for one in every:
                assert one.getresponse().read()
        refusals.clear()
        for one in every:
            one.request(method, "/", body)
        refused = 0
        for one in every:
            answer = one.getresponse()
            said = answer.read()
            if answer.status == 503:
                refused += 1
                assert answer.headers["retry-after"] == "1" and answer.headers["x-request-id"]
                assert answer.headers["content-type"] == "application/problem+json" and said
            else:
                assert (answer.status, said) == (200, body or b"done")
        assert 0 < refused == len(refusals) < AT_ONCE
        for one in every:  # all connections go on
            one.request(method, "/", body)
            assert one.getresponse().read()
    assert queue.waiting == 0


def test_a_burst_that_is_soon_done_is_not_refused(address: Address, queue: Queue) -> None:
    refusals: list[None] = []
    queue.refused = lambda: refusals.append(None)
    few = [http.client.HTTPConnection(address.host, address.port, timeout=30) for _ in range(4)]
    for _ in range(5):
        for one in few:
            one.request("GET", "/")
        assert [one.getresponse().read() for one in few] == [b"done"] * 4
    for one in few:
        one.close()
    assert not refusals
