"""A TCP proxy: changes its target, falls silent, half-closes connections, delays answers, breaks a COMMIT."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

PIECE_BYTES = 65_536
COMMIT = b"\x07\x00\x00\x00\x03COMMIT"  # MySQL: length, sequence number, COM_QUERY


class Proxy:
    """Listens on `port` and leads to `target`. A change of the target cuts every connection.

    `break_commit`: "before" or "after" breaks the connection at the next COMMIT, before the server receives
    it or after its answer; then None again. `answer_delay()`: seconds that a piece of an answer waits.
    """

    def __init__(self, target: int, answer_delay: Callable[[], float] | None = None) -> None:
        self.target = target
        self.answer_delay = answer_delay
        self.break_commit: str | None = None
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.sockets: set[socket.socket] = set()
        self.clients: set[socket.socket] = set()  # those to clients
        self.unheard: set[socket.socket] = set()  # the next answer is lost and ends the connection
        self.flowing = threading.Event()
        self.flowing.set()
        self.threads = [_start(self._accept)]

    def __enter__(self) -> Proxy:
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
        """During the block nothing passes, in either direction."""
        self.flowing.clear()
        try:
            yield
        finally:
            self.flowing.set()

    def half_close(self, to_clients: bool) -> None:
        """Ends every connection in one direction: one side is told, falsely, that the other has closed."""
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
        self.threads += [
            _start(lambda: self._carry(client, server, partial(self._passes_request, server))),
            _start(lambda: self._carry(server, client, partial(self._passes_answer, server))),
        ]

    def _carry(self, source: socket.socket, sink: socket.socket, passes: Callable[[bytes], bool]) -> None:
        with contextlib.suppress(OSError), source:
            while (piece := source.recv(PIECE_BYTES)) and passes(piece):
                self.flowing.wait()
                sink.sendall(piece)
        self.sockets.discard(source)
        self.clients.discard(source)
        _shut(sink)

    def _passes_request(self, server: socket.socket, piece: bytes) -> bool:
        if piece != COMMIT or self.break_commit is None:
            return True
        when, self.break_commit = self.break_commit, None
        if when == "after":
            self.unheard.add(server)
        return when == "after"

    def _passes_answer(self, server: socket.socket, piece: bytes) -> bool:
        if self.answer_delay is not None:
            time.sleep(self.answer_delay())
        return server not in self.unheard


def _start(run: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=run, name="proxy", daemon=True)
    thread.start()
    return thread


def _shut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other side may have closed it
        one.shutdown(socket.SHUT_RDWR)
