"""The whole system as processes against a stack: writer, projector, reader, with clients for any subject."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import httpx2

from authorizer_lambda.settings import AuthSettings
from authorizer_lambda.tokens import mint
from ops.stack import Stack
from ops.stack.servers.ports import free_port
from tests.conftest import AUTH, service_environment
from tests.support.harness import Process, process, projector, wait_until

Headers = Mapping[str, str] | Sequence[tuple[str, str]] | None


@dataclass
class Services:
    """The addresses of writer and reader, and one client per subject and side."""

    writer_url: str
    reader_url: str
    projector: Process
    clients: dict[tuple[str, str], httpx2.Client] = field(default_factory=dict)
    processes: dict[str, Process] = field(default_factory=dict)

    def write(self, subject: str, method: str, path: str, json: object = None) -> httpx2.Response:
        return self.client("writer", subject).request(method, path, json=json)

    def read(self, path: str, subject: str = "s0", headers: Headers = None) -> httpx2.Response:
        return self.client("reader", subject).get(path, headers=headers)

    def close(self) -> None:
        for client in self.clients.values():
            client.close()

    def client(self, side: str, subject: str) -> httpx2.Client:
        url = {"writer": self.writer_url, "reader": self.reader_url}[side]
        if (url, subject) not in self.clients:
            token = mint(AuthSettings.from_environ(AUTH), subject, ["read", "write"], 3600)
            headers = {"authorization": f"Bearer {token}"}
            self.clients[url, subject] = httpx2.Client(
                base_url=url, headers=headers, timeout=20, verify=False
            )
        return self.clients[url, subject]


@contextlib.contextmanager
def running_services(stack: Stack, given: Mapping[str, str] | None = None) -> Iterator[Services]:
    """Writer, projector and reader over migrated tables. At the end all of them stop with status 0.

    `given`: their environment, if not the stack's.
    """
    environment, ports = dict(given or service_environment(stack)), [free_port() for _ in range(4)]
    names = ("WRITER_BIND", "WRITER_ADMIN_BIND", "READER_BIND", "READER_ADMIN_BIND")
    environment |= {f"TIDEMARK_{name}": f"127.0.0.1:{port}" for name, port in zip(names, ports, strict=True)}
    with process(environment, "-m", "writer", "migrate") as migrating:
        migrating.popen.wait(timeout=30)
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    with (
        projector(environment) as projecting,
        process(environment, "-m", "writer") as writing,
        process(environment, "-m", "reader") as reading,
        contextlib.closing(Services(urls[0], urls[2], projecting)) as services,
    ):
        services.processes |= {"projector": projecting, "writer": writing, "reader": reading}
        wait_until(
            lambda: all(is_ready(port) for port in (ports[1], ports[3])), "the services to be ready", 30
        )
        yield services


def is_ready(port: int) -> bool:
    with contextlib.suppress(httpx2.TransportError), httpx2.Client(verify=False) as client:
        return client.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
    return False
