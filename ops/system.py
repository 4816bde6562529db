"""All of Tidemark on this machine: the local stack, the schema, and the services as child processes."""

from __future__ import annotations

import fcntl
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx2

from authorizer_lambda.settings import AuthSettings
from authorizer_lambda.tokens import mint
from ops.child import Child, rotate
from ops.remembered import AUTH, Remembered
from ops.services import SERVICES, given_addresses, with_steady_ports
from ops.stack import ServerFailed, Stack, StackError
from ops.stack.errors import last_lines
from ops.stack.progress import say
from ops.stack.servers.process import POLL_SECONDS, stop_processes
from tidemark.settings import Address

READY_WITHIN_SECONDS = 45.0
MIGRATED_WITHIN_SECONDS = 45.0
ALLOWED_ORIGINS = ("TIDEMARK_WRITER_ALLOWED_ORIGINS", "TIDEMARK_READER_ALLOWED_ORIGINS")
STOPPED_WITHIN_SECONDS = 25.0  # services give open requests 20 s


class FolderInUse(StackError):
    """Another system uses the folder."""


class System:
    """All servers and services, from `start` until `stop`; a context manager does both.

    `directory` None: a temporary folder, which `stop` removes; any other keeps data, secrets and ports for
    the next start. Services listen on TIDEMARK_*_BIND of `environ`, else on free loopback ports. `external`
    and `cluster` are for `Stack`.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        directory: Path | None = None,
        external: Mapping[str, str] | None = None,
        cluster: tuple[str, int] | None = None,
    ) -> None:
        self.children: dict[str, Child] = {}
        self.addresses: dict[str, Address] = {}
        self.resting: set[str] = set()  # servers and services that were stopped on purpose
        self._environ = {name: value for name, value in environ.items() if not name.startswith(AUTH)}
        self._remembered = Remembered()
        self._directory = directory
        self._external = external
        self._cluster = cluster
        self._undo = ExitStack()

    def start(self) -> None:
        """Start all and wait until every service is ready; on a failure stop the started processes.

        Raises StackError: the message names the process or the address and the reason, and shows the log.
        """
        started = time.monotonic()
        with ExitStack() as undo:
            given = given_addresses(self._environ)
            if self._directory is not None:
                undo.enter_context(_only_user_of(self._directory))
                self._remembered = Remembered.read(self._directory)
            say("starting MySQL, MongoDB and Redis")
            self.stack = undo.enter_context(
                Stack(self._directory, external=self._external, cluster=self._cluster)
            )
            undo.callback(self._stop_services)
            self.addresses = with_steady_ports(given, self._remembered.ports)
            self._remembered.write(self.stack.directory)
            self._migrate()
            self._start_services()
            self._undo = undo.pop_all()
        say(f"all of it is ready after {time.monotonic() - started:.1f} s")

    def stop(self) -> None:
        """Stop the services, then MySQL, MongoDB and Redis."""
        say("stopping all of it")
        self._undo.close()
        say("stopped")

    def check(self) -> None:
        """Raises ServerFailed if a started process has ended."""
        for failure in self.failures():
            raise failure

    def failures(self) -> Iterator[ServerFailed]:
        """The failure of each started process that has ended, and not on purpose."""
        for name, child in self.children.items():
            if name not in self.resting and not child.is_running():
                yield child.failure(child.end())
        for name, server in self.stack.servers.items():
            if name not in self.resting and not server.is_running():
                yield ServerFailed(server.name, f"(port {server.port}) has ended", server.log_path)

    def start_again(self, name: str) -> None:
        """Start an ended server or service again, without waiting for it. Raises StackError."""
        if name in self.stack.servers:
            self.stack.launch(name)
        for service in SERVICES:
            if service.name == name:
                self._launch(name, service.module)

    def rotate_logs(self) -> None:
        """Begin each log anew that has grown long."""
        for log_path in (*self.stack.directory.glob("*.log"), *self.stack.directory.glob("*/*.log")):
            rotate(log_path)

    def tails(self) -> dict[str, str]:
        """The last lines of each service's log."""
        return {child.name: last_lines(child.log_path) for child in self.children.values()}

    def url(self, service: str) -> str:
        """The base URL of the writer or the reader for clients."""
        return f"http://{self.addresses[f'TIDEMARK_{service.upper()}_BIND']}"

    def admin_url(self, service: str) -> str:
        """The base URL of a service's /metrics, /healthz and /readyz."""
        return f"http://{self.addresses[f'TIDEMARK_{service.upper()}_ADMIN_BIND']}"

    def token(self, subject: str, lifetime_seconds: int = 3600) -> str:
        """A bearer token to read and write as `subject`."""
        return mint(
            AuthSettings.from_environ(self._remembered.secrets), subject, ("read", "write"), lifetime_seconds
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def environment(self) -> dict[str, str]:
        """The environment of the services: addresses, accounts, secrets."""
        binds = {name: str(where) for name, where in self.addresses.items()}
        consoles = ",".join(self.admin_url(name) for name in ("writer", "reader"))
        given = {name: self._environ.get(name) for name in ALLOWED_ORIGINS}
        origins = {name: ",".join(filter(None, (its, self.url("shore")))) for name, its in given.items()}
        return {
            "TIDEMARK_CONSOLE_ADMIN_URLS": consoles,
            **self._environ,
            **origins,
            **self._remembered.secrets,
            **self.stack.environment(),
            **binds,
        }

    def _launch(self, name: str, module: Sequence[str]) -> Child:
        child = Child(name, module, self.environment(), self.stack.directory / f"{name}.log")
        self.children[name] = child
        return child

    def _migrate(self) -> None:
        say("bringing the schema up to date")
        self._launch("migrate", ("writer", "migrate")).finish(MIGRATED_WITHIN_SECONDS)
        del self.children["migrate"]

    def _start_services(self) -> None:
        say("starting projector, writer and reader")
        for service in SERVICES:
            self._launch(service.name, service.module)
        with httpx2.Client(timeout=5, trust_env=False) as http:
            for service in SERVICES:
                self._wait_until_ready(service.name, http)

    def _wait_until_ready(self, name: str, http: httpx2.Client) -> None:
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        while problem := _not_ready(http, self.admin_url(name)):
            self.check()
            if time.monotonic() > deadline:
                raise self.children[name].failure(
                    f"was not ready after {READY_WITHIN_SECONDS:g} s: {problem}"
                )
            time.sleep(POLL_SECONDS)

    def _stop_services(self) -> None:
        stop_processes([child.identity for child in self.children.values()], STOPPED_WITHIN_SECONDS)
        for child in self.children.values():
            child.is_running()  # reaps it


def interrupt_on_signals() -> None:
    """Let SIGTERM and Ctrl-C raise KeyboardInterrupt; a shell's background jobs would ignore Ctrl-C."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def _not_ready(http: httpx2.Client, admin_url: str) -> str:
    """The text of the service's `/readyz`; empty if the service is ready."""
    try:
        answer = http.get(f"{admin_url}/readyz")
    except httpx2.TransportError as error:
        return f"nothing answers at {admin_url} ({error})"
    return "" if answer.status_code == 200 else answer.text


@contextmanager
def _only_user_of(directory: Path) -> Iterator[None]:
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (directory / "run.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderInUse(
                f"another run uses {directory.absolute()}; stop it, or choose another folder"
            ) from None
        yield
