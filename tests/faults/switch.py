"""A TCP address that leads to one port and, once switched, to another: what a failover looks like to clients.

It may also fall silent (connections stay open, nothing arrives, and nobody is told), or end connections by half.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

PIECE_BYTES = 65_536


class Switch:
    """Listens on `port` and leads to `target`; changing the target cuts every connection."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.sockets: set[socket.socket] = set()
        self.clients: set[socket.socket] = set()  # those of them that clients are at
        self.flowing = threading.Event()
        self.flowing.set()
        self.threads = [_start(self._accept)]

    def __enter__(self) -> Switch:
        return self

    def __exit__(self, *exc_info: object) -> None:
        _shut(self.listener)
        self.flowing.set()
        self.switch(0)
        for thread in self.threads:
            thread.join(timeout=10)
        self.listener.close()

    def switch(self, target: int) -> None:
        self.target = target
        for one in list(self.sockets):
            _shut(one)

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """For the length of the block nothing passes, in either direction."""
        self.flowing.clear()
        try:
            yield
        finally:
            self.flowing.set()

    def half_close(self, to_clients: bool) -> None:
        """End every connection in one direction: one side is told that the other has ended, which is not true."""
        for one in list(self.clients if to_clients else self.sockets - self.clients):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_WR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener is shut at the end
            while True:
                client, _ = self.listener.accept()
                self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            client.close()
            return
        self.sockets |= {client, server}
        self.clients.add(client)
        self.threads += [_start(lambda: self._carry(client, server)), _start(lambda: self._carry(server, client))]

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError), source:
            while piece := source.recv(PIECE_BYTES):
                self.flowing.wait()
                sink.sendall(piece)
        self.sockets.discard(source)
        self.clients.discard(source)
        _shut(sink)


def _start(run: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=run, name="switch", daemon=True)
    thread.start()
    return thread


def _shut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other side may have closed it
        one.shutdown(socket.SHUT_RDWR)
