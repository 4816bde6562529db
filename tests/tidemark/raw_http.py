"""An application on a port of its own, and HTTP written byte by byte."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterable, Iterator

from starlette.applications import Starlette

from ops.stack.servers.ports import free_port
from tidemark.admin import AdminThread
from tidemark.settings import Address


@contextlib.contextmanager
def serving(app: Starlette) -> Iterator[Address]:
    address = Address("127.0.0.1", free_port())
    with AdminThread(app, address):
        yield address


def answer(address: Address, *pieces: bytes, pause_seconds: float = 0) -> bytes:
    """Send `pieces` one by one; return every byte until the server closes or resets the connection."""
    with socket.create_connection((address.host, address.port), timeout=10) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                client.sendall(piece)
                time.sleep(pause_seconds)
        return b"".join(_received(client))


def _received(client: socket.socket) -> Iterable[bytes]:
    with contextlib.suppress(ConnectionError):
        yield from iter(lambda: client.recv(65_536), b"")
