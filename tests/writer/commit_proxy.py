"""A TCP proxy before MySQL that breaks a connection at COMMIT: before the server gets it, or after it has answered."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

COMMIT = b"\x07\x00\x00\x00\x03COMMIT"  # length, sequence number, COM_QUERY


class CommitProxy:
    """`break_next` is "before" or "after" to break the next COMMIT; it is None again when that has happened."""

    def __init__(self, server: tuple[str, int], listener: socket.socket) -> None:
        self.server = server
        self.listener = listener
        self.port: int = listener.getsockname()[1]
        self.break_next: str | None = None

    def accept(self) -> None:
        """Serve connections until the listener is shut down."""
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self.server) as server:
            answers = Answers(server, client)
            answers.start()
            while request := received(client):
                if request == COMMIT and self.break_next:
                    self._break(server, answers)
                    break
                server.sendall(request)
            end(client)
            end(server)
            answers.join()

    def _break(self, server: socket.socket, answers: Answers) -> None:
        when, self.break_next = self.break_next, None
        if when == "after":
            answers.swallow = True
            server.sendall(COMMIT)
            assert answers.swallowed.wait(timeout=10)


class Answers(threading.Thread):
    """What the server says goes to the client, or nowhere."""

    def __init__(self, server: socket.socket, client: socket.socket) -> None:
        super().__init__(daemon=True)
        self.server = server
        self.client = client
        self.swallow = False
        self.swallowed = threading.Event()

    def run(self) -> None:
        while data := received(self.server):
            if self.swallow:
                self.swallowed.set()
            else:
                with contextlib.suppress(OSError):
                    self.client.sendall(data)
        end(self.client)


def received(source: socket.socket) -> bytes:
    """What arrives next; nothing when the connection has ended, in whatever way."""
    try:
        return source.recv(65536)
    except OSError:
        return b""


def end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def commit_proxy(host: str, port: int) -> Iterator[CommitProxy]:
    """A running proxy before `host`:`port`, on a free port of the loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = CommitProxy((host, port), listener)
        accepting = threading.Thread(target=proxy.accept, daemon=True)
        accepting.start()
        yield proxy
        end(listener)
        accepting.join()
