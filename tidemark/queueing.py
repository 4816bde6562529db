"""Requests are refused at once, cheaply, while those before them would make them wait too long.

An event loop has no queue that could be full: under too much load, all requests wait ever longer, and clients
give up on answers that are still computed.
"""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter
from starlette.types import ASGIApp, Receive, Scope, Send

from tidemark.problem import Problem, problem_response
from tidemark.strict_protocol import StrictProtocol

LONGEST_SECONDS = 0.1
WEIGHT = 0.05  # of the latest time in the mean
BUSY = Problem(503, "overloaded", "The service is busy; repeat the request.", headers={"Retry-After": "1"})
WITHOUT_BODY = (b"GET", b"HEAD")
BODY_FIELDS = (b"content-length", b"transfer-encoding")


class Queue:
    """`waiting`: requests that are read and not begun. `refused` is called for each that is refused."""

    def __init__(self) -> None:
        self.waiting = 0
        self.refused: Callable[[], None] = lambda: None
        self._begun, self._seconds_each = 0.0, 0.0

    @property
    def is_too_long(self) -> bool:
        return self.waiting * self._seconds_each > LONGEST_SECONDS

    def began(self) -> None:
        """While others wait, one begins when the work of the one before is done."""
        now = time.perf_counter()
        self.waiting -= 1
        if self._begun:
            self._seconds_each += WEIGHT * (now - self._begun - self._seconds_each)
        self._begun = now if self.waiting else 0.0


QUEUE = Queue()  # of the process's public port


def refusals(registry: CollectorRegistry) -> Counter:
    """Counts what is refused on the public port."""
    said = "Requests refused with 503 because those before them would have made them wait too long"
    counter = Counter("tidemark_http_refused_total", said, registry=registry)
    QUEUE.refused = counter.inc
    return counter


class Queued:
    """ASGI: tells the queue when a request begins."""

    def __init__(self, app: ASGIApp, queue: Queue) -> None:
        self.app = app
        self.queue = queue

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.queue.began()
        await self.app(scope, receive, send)


class QueueingProtocol(StrictProtocol):
    """A value for `http` in uvicorn's configuration, whose `app` is a Queued."""

    _ids = (f"{uuid.uuid4().hex}-{number}" for number in itertools.count(1))
    _answered = False

    def on_headers_complete(self) -> None:
        queued: Any = self.config.app
        queue: Queue = queued.queue
        if not queue.is_too_long or self.parser.should_upgrade():
            super().on_headers_complete()
            return
        queue.refused()
        idle = self.cycle is None or self.cycle.response_complete  # type: ignore[redundant-expr]
        method = self.parser.get_method()
        if idle and method in WITHOUT_BODY and not any(name in BODY_FIELDS for name, _ in self.headers):
            self._answer(with_body=method == b"GET")
            return
        served, self.app = self.app, self._refusing
        super().on_headers_complete()
        self.app = served

    def on_message_complete(self) -> None:
        if self._answered:
            self._answered = False
        else:
            super().on_message_complete()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if isinstance(app, Queued):
            app.queue.waiting += 1
        super()._start_asgi_task(cycle, app)

    def _answer(self, *, with_body: bool) -> None:
        """Without a task, which costs as much as a read of the replica."""
        self._answered, self._incomplete_bytes = True, 0
        response = problem_response(BUSY)
        response.headers["x-request-id"] = next(self._ids)
        fields = b"".join(b"%s: %s\r\n" % field for field in response.raw_headers)
        body = bytes(response.body) if with_body else b""
        self.transport.write(b"HTTP/1.1 503 Service Unavailable\r\n%s\r\n%s" % (fields, body))
        self.on_response_complete()

    async def _refusing(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = problem_response(BUSY)
        response.headers["x-request-id"] = next(self._ids)
        await response(scope, receive, send)
