"""uvicorn's HTTP protocol that also refuses endless heads, bad Host headers and unknown transfer codings."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from http import HTTPStatus

import structlog

from tidemark.one_write import OneWriteProtocol
from tidemark.problem import Problem, problem_response

MAX_HEAD_BYTES = 64 * 1024
# RFC 3986, 3.2.2 and 3.2.3
HOST = re.compile(rb"(?:[\w.~!$&'()*+,;=%-]*|\[[\w.~!$&'()*+,;=:-]+\])(?::[0-9]*)?")


log = structlog.get_logger()


def _problem(status: int, name: str, detail: str) -> Problem:
    return Problem(status, name, detail, headers={"connection": "close"})


MALFORMED = _problem(400, "malformed-request", "This is not an HTTP request.")
BAD_HOST = _problem(400, "bad-host", "A request names one host, in one Host header.")
TOO_LARGE = _problem(431, "head-too-large", f"The head of a request may have at most {MAX_HEAD_BYTES} bytes.")
UNKNOWN_CODING = _problem(501, "unknown-transfer-coding", "The only transfer coding here is chunked.")


class StrictProtocol(OneWriteProtocol):
    """A value for `http` in uvicorn's configuration.

    The parser keeps incomplete input (fields, extensions of a chunk, trailers). So at most MAX_HEAD_BYTES and
    one read of the socket may arrive before a head, a piece of a body or a message is complete.
    """

    _refusal = MALFORMED
    _incomplete_bytes = 0
    _upgrades = False

    def on_message_begin(self) -> None:
        """The application gets the `Gathering`: to write a piece of a stream at once, or to end it."""
        super().on_message_begin()
        self.scope["state"]["transport"] = self.transport

    def data_received(self, data: bytes) -> None:
        self._incomplete_bytes += len(data)
        super().data_received(data)
        if self._incomplete_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(TOO_LARGE)

    def on_headers_complete(self) -> None:
        self._incomplete_bytes = 0
        if refusal := _refusal_of(self.url, self.headers, self.parser.get_http_version()):
            self._refusal = refusal
            raise ValueError("the head is refused")  # uvicorn calls send_400_response
        self._upgrades = super()._should_upgrade() and self._may_upgrade()
        super().on_headers_complete()
        self.headers = []  # trailers come next, and are no headers (RFC 9110, 6.5.1): nobody reads them

    def _may_upgrade(self) -> bool:
        """A WebSocket begins with a GET without a body (RFC 6455, 4.1), when all answers before are sent."""
        body = any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers)
        idle = self.cycle is None or self.cycle.response_complete  # type: ignore[redundant-expr]
        return idle and not body and self.parser.get_method() == b"GET"

    def _should_upgrade(self) -> bool:
        return self._upgrades

    def on_body(self, body: bytes) -> None:
        self._incomplete_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._incomplete_bytes = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._refusal)

    def _refuse(self, problem: Problem) -> None:
        request_id = uuid.uuid4().hex
        log.info("request refused", problem=problem.name, request_id=request_id)
        response = problem_response(problem)
        response.headers["x-request-id"] = request_id
        fields = b"".join(b"%s: %s\r\n" % field for field in response.raw_headers)
        line = b"%d %s" % (problem.status, HTTPStatus(problem.status).phrase.encode())
        self.transport.write(b"HTTP/1.1 %s\r\n%s\r\n%s" % (line, fields, response.body))
        self.transport.close()


def _refusal_of(url: bytes, headers: Iterable[tuple[bytes, bytes]], version: str) -> Problem | None:
    size, hosts, codings = len(url), [], []
    for name, value in headers:
        size += len(name) + len(value) + 4
        if name == b"host":
            hosts.append(value)
        elif name == b"transfer-encoding":
            codings.append(value.lower())
    if size > MAX_HEAD_BYTES:
        return TOO_LARGE
    wrong_number = len(hosts) != 1 and (hosts or version != "1.0")  # RFC 9112, 3.2
    if wrong_number or not all(map(HOST.fullmatch, hosts)):
        return BAD_HOST
    if codings in ([], [b"chunked"]):
        return None
    ends_somewhere = codings[-1].rpartition(b",")[2].strip() == b"chunked"
    return UNKNOWN_CODING if ends_somewhere else MALFORMED  # RFC 9112, 6.1 and 6.3
