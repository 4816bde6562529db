"""The nginx of docker/nginx on the loopback, before services that only record their requests."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from ops.stack.fetch import programs
from ops.stack.servers.ports import free_port, is_free
from ops.stack.servers.process import launch_tethered
from tests.conftest import AUTH
from tests.docker.compose import FOLDER
from tests.support.harness import wait_until
from tests.support.secrecy import leaks

CONFIGURATION = FOLDER / "nginx/nginx.conf"


def write_configuration(folder: Path, port: int, outside: Callable[[str], str]) -> None:
    """Write nginx.conf to `folder`: it listens on `port`, and `outside` translates addresses."""
    text = outside(CONFIGURATION.read_text()).replace("listen 8080;", f"listen 127.0.0.1:{port};")
    (folder / "nginx.conf").write_text(text.replace("/tmp/", f"{folder}/"))


@dataclass
class Seen:
    """One request as received; header names are in lower case."""

    service: str
    line: str
    headers: list[tuple[str, str]]
    body: bytes


@dataclass
class Witness:
    """Services that answer 200 to every request and record it in `seen`."""

    seen: list[Seen] = field(default_factory=list)

    @contextlib.contextmanager
    def serving(self, name: str) -> Iterator[int]:
        """Start the service `name`; yield its port."""
        witness = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = [(key.lower(), value) for key, value in self.headers.items()]
                witness.seen.append(Seen(name, self.requestline, headers, body))
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Request-Id: seen\r\n\r\nok")

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            server.daemon_threads = True
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield server.server_address[1]
            finally:
                server.shutdown()
                thread.join()


@dataclass(frozen=True)
class Gateway:
    """A running nginx; `log` holds both its logs."""

    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def running_nginx(folder: Path, outside: Callable[[str], str]) -> Iterator[Gateway]:
    port, program = free_port(), programs.nginx()
    write_configuration(folder, port, outside)
    command = [*program.command, "-p", str(folder), "-c", "nginx.conf", "-g", "daemon off;"]
    process: subprocess.Popen[bytes] = launch_tethered(command, folder, folder / "nginx.log")
    try:
        wait_until(lambda: not is_free(port), "nginx to listen")
        yield Gateway(port, folder / "nginx.log")
    finally:
        process.terminate()
        process.wait(10)
    assert not (found := leaks((folder / "nginx.log").read_text(), AUTH)), found
