"""A JWKS server on this machine: a test sets its answer, its delay and its faults, and reads its counters."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt

from tests.authorizer.keys import PrivateKey, private_key


def jwk(algorithm: str, kid: str, key: PrivateKey | None = None, **members: Any) -> dict[str, Any]:
    """The public half of a key as an identity provider publishes it."""
    public = (key or private_key(algorithm)).public_key()
    made: dict[str, Any] = jwt.get_algorithm_by_name(algorithm).to_jwk(public, as_dict=True)
    made.pop("key_ops", None)
    return made | {"kid": kid, "alg": algorithm, "use": "sig"} | members


def jwks(*keys: object) -> bytes:
    return json.dumps({"keys": keys}).encode()


class JwksServer(ThreadingHTTPServer):
    """`status`, `headers` and `body` make the answer; `fetches` counts requests.

    While the event `hold` is cleared, requests wait. `drips` names the part ("head" or "body") that is sent
    byte by byte; the event `cut_off` is set when the client closes such an answer.
    """

    daemon_threads = True

    def __init__(self, *keys: dict[str, Any], tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.server_port}/keys?tenant=1"
        self.body = jwks(*keys)
        self.status = 200
        self.headers: Sequence[tuple[str, str]] = (("Content-Type", "application/json"),)
        self.fetches = 0
        self.paths: list[str] = []
        self.hold = threading.Event()
        self.hold.set()
        self.drips = ""
        self.cut_off = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: some tests close their connection early."""


class _Handler(BaseHTTPRequestHandler):
    server: JwksServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.fetches += 1
        self.server.paths.append(self.path)
        self.server.hold.wait(30)
        fields = [*self.server.headers, ("Content-Length", str(len(self.server.body)))]
        head = f"HTTP/1.1 {self.server.status} So\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in fields
        )
        self._send("head", head.encode() + b"\r\n")
        self._send("body", self.server.body)

    def _send(self, part: str, octets: bytes) -> None:
        if self.server.drips != part:
            self.wfile.write(octets)
            return
        try:
            for octet in octets:
                self.wfile.write(bytes([octet]))
                time.sleep(0.1)
        except OSError:
            self.server.cut_off.set()

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing to the terminal."""


@contextlib.contextmanager
def serving(*keys: dict[str, Any], tls: ssl.SSLContext | None = None) -> Iterator[JwksServer]:
    with JwksServer(*keys, tls=tls) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.hold.set()
            server.shutdown()
            thread.join()


def nobody_listens() -> str:
    """A URL that refuses connections."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return f"http://127.0.0.1:{port}/keys"
