"""uvicorn's HTTP protocol that also refuses endless heads, bad Host headers and unknown transfer codings."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus

from tidemark.one_write import OneWriteProtocol
from tidemark.problem import Problem, problem_response

MAX_HEAD_BYTES = 64 * 1024
# RFC 3986, 3.2.2 and 3.2.3
HOST = re.compile(rb"(?:[\w.~!$&'()*+,;=%-]*|\[[\w.~!$&'()*+,;=:-]+\])(?::[0-9]*)?")


def _answer(status: int, name: str, detail: str) -> bytes:
    response = problem_response(Problem(status, name, detail, headers={"connection": "close"}))
    fields = b"".join(b"%s: %s\r\n" % field for field in response.raw_headers)
    return b"HTTP/1.1 %d %s\r\n%s\r\n%s" % (status, HTTPStatus(status).phrase.encode(), fields, response.body)


MALFORMED = _answer(400, "malformed-request", "This is not an HTTP request.")
BAD_HOST = _answer(400, "bad-host", "A request names one host, in one Host header.")
TOO_LARGE = _answer(431, "head-too-large", f"The head of a request may have at most {MAX_HEAD_BYTES} bytes.")
UNKNOWN_CODING = _answer(501, "unknown-transfer-coding", "The only transfer coding here is chunked.")


class StrictProtocol(OneWriteProtocol):
    """A value for `http` in uvicorn's configuration.

    The parser keeps incomplete input (fields, extensions of a chunk, trailers). So at most MAX_HEAD_BYTES and
    one read of the socket may arrive before a head, a piece of a body or a message is complete.
    """

    _refusal = MALFORMED
    _incomplete_bytes = 0
    _upgrades = False

    def on_message_begin(self) -> None:
        """An application may end the connection of a client that takes nothing: `scope["state"]["abort"]`."""
        super().on_message_begin()
        self.scope["state"]["abort"] = self.transport.abort

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

    def _refuse(self, answer: bytes) -> None:
        self.transport.write(answer)
        self.transport.close()


def _refusal_of(url: bytes, headers: Iterable[tuple[bytes, bytes]], version: str) -> bytes | None:
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
