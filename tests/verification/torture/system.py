"""The system of a torture: its own servers, two projectors, a TCP link from each service to each store."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from authorizer_lambda.settings import AuthSettings
from authorizer_lambda.tokens import mint
from ops.stack import Stack
from ops.stack.servers.ports import free_port
from tests.conftest import AUTH, service_environment
from tests.support.clusters import Cluster
from tests.support.harness import Process, process, wait_until
from tests.support.proxy import Proxy
from tests.support.services import Services, is_ready
from tests.verification.torture.effects import Effect

PROJECTORS, READER_WORKERS = 2, 2
LINKS = {  # name -> service's variable and store
    "projector-mysql": ("TIDEMARK_PROJECTOR_MYSQL_URL", "mysql"),
    "projector-mongodb": ("TIDEMARK_PROJECTOR_MONGODB_URL", "mongodb"),
    "projector-redis": ("TIDEMARK_PROJECTOR_REDIS_URL", "redis"),
    "writer-mysql": ("TIDEMARK_WRITER_MYSQL_URL", "mysql"),
    "reader-mongodb": ("TIDEMARK_READER_MONGODB_URL", "mongodb"),
    "reader-redis": ("TIDEMARK_READER_REDIS_URL", "redis"),
}


@dataclass
class System:
    """The targets of faults. `opened` undoes their remains at the end. `links`: none to a cluster's nodes.

    `lasting`: through a reader that no fault kills; it shows whether one grows.
    """

    stack: Stack
    folder: Path
    opened: contextlib.ExitStack
    environment: dict[str, str]
    links: dict[str, Proxy]
    services: Services
    lasting: Services
    reading: Process
    auditing: Process = field(init=False)
    projectors: list[Process] = field(default_factory=list)
    effects: dict[str, Effect] = field(default_factory=dict)  # of statements, executed or not
    kills_of_workers: list[float] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def cluster(self) -> Cluster:
        """In place of one Redis."""
        assert self.stack.cluster is not None
        return Cluster(self.stack.cluster, self.stack.state.passwords["redis"])

    def start_projector(self, at: int) -> None:
        bind = {"TIDEMARK_PROJECTOR_ADMIN_BIND": f"127.0.0.1:{free_port()}"}
        server_id = {"TIDEMARK_PROJECTOR_SERVER_ID": str(7_331 + at)}
        started = Process(("-m", "binlog_projector", "run"), {**self.environment, **bind, **server_id})
        self.projectors[at : at + 1] = [started]

    def reader_workers(self) -> list[int]:
        """The live worker processes of the reader."""
        pid = self.reading.popen.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def new_folder(self) -> Path:
        """An unused name below the system's own folder."""
        return self.folder / str(next(self.numbers))

    def move(self, store: str, port: int) -> None:
        """Moves the store to another port for all services, and cuts their connections."""
        for name, (_, of) in LINKS.items():
            if of == store:
                self.links[name].switch(port)

    def port(self, store: str) -> int:
        return self.stack.servers[store].port

    def assert_projectors_run(self) -> None:
        for projecting in self.projectors:
            assert projecting.popen.poll() is None, projecting.tail()


@contextlib.contextmanager
def running_system(cluster: tuple[str, int] | None = None) -> Iterator[System]:
    """On its own stack, as faults may take long to heal. All processes stop at the end.

    `cluster`: as for `Stack`.
    """
    with contextlib.ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="tidemark-torture-")))
        stack = opened.enter_context(Stack(cluster=cluster))
        links = {
            name: opened.enter_context(Proxy(stack.servers[store].port))
            for name, (_, store) in LINKS.items()
            if store in stack.servers
        }
        environment = _environment(stack, links)
        with process(service_environment(stack), "-m", "writer", "migrate") as migrating:
            migrating.popen.wait(timeout=30)
        writer_url, _ = opened.enter_context(_service(environment, "writer"))
        workers = ("serve", "--workers", str(READER_WORKERS))
        reader_url, reading = opened.enter_context(_service(environment, "reader", *workers))
        services = Services(writer_url, reader_url, migrating)
        opened.callback(services.close)
        lasting_url, _ = opened.enter_context(_service(environment, "reader", "serve"))
        lasting = Services(writer_url, lasting_url, migrating)
        opened.callback(lasting.close)
        system = System(stack, folder, opened, environment, links, services, lasting, reading)
        opened.callback(_stop, system)
        system.auditing = opened.enter_context(_audit(environment, reader_url))
        for at in range(PROJECTORS):
            system.start_projector(at)
        yield system


@contextlib.contextmanager
def _audit(environment: dict[str, str], reader_url: str) -> Iterator[Process]:
    """Audits pass after pass: MongoDB, cache entries and the reader's answers."""
    token = mint(AuthSettings.from_environ(AUTH), "auditor", ["read"], 24 * 3600)
    settings = {
        "TIDEMARK_AUDIT_ADMIN_BIND": f"127.0.0.1:{free_port()}",
        "TIDEMARK_AUDIT_READER_URL": reader_url,
        "TIDEMARK_AUDIT_READER_TOKEN": token,
    }
    with process(
        {**environment, **settings}, "-m", "binlog_projector", "audit", "--continuous", "--after", "1,5"
    ) as it:
        yield it


@contextlib.contextmanager
def _service(environment: dict[str, str], name: str, *options: str) -> Iterator[tuple[str, Process]]:
    port, admin_port = free_port(), free_port()
    binds = {f"TIDEMARK_{name}_BIND".upper(): f"127.0.0.1:{port}"}
    binds[f"TIDEMARK_{name}_ADMIN_BIND".upper()] = f"127.0.0.1:{admin_port}"
    with process({**environment, **binds}, "-m", name, *options) as started:
        wait_until(lambda: is_ready(admin_port) or name == "reader", f"the {name} to be ready", 30)
        yield f"http://127.0.0.1:{port}", started


def _environment(stack: Stack, links: dict[str, Proxy]) -> dict[str, str]:
    """Every service reaches every store through a link. A replica set would tell clients the direct way."""
    environment = service_environment(stack)
    for name in links:
        variable, store = LINKS[name]
        url = environment[variable].replace(f":{stack.servers[store].port}/", f":{links[name].port}/")
        environment[variable] = url.replace("replicaSet=tidemark", "directConnection=true")
    return environment


def _stop(system: System) -> None:
    for projecting in system.projectors:
        projecting.kill()
    for projecting in system.projectors:
        projecting.assert_no_secrets_in_log()
        projecting.log.unlink()
