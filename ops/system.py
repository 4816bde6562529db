"""All of Tidemark on this machine: the local stack, the schema, and the services as child processes."""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx2

from authorizer_lambda.settings import AuthSettings
from authorizer_lambda.tokens import mint
from ops.services import SERVICES, given_addresses, with_free_ports
from ops.stack import ServerFailed, Stack, StackError
from ops.stack.progress import say
from ops.stack.servers import tether
from ops.stack.servers.process import POLL_SECONDS, ProcessIdentity, stop_processes
from tidemark.settings import Address

ROOT = Path(__file__).parents[1]
READY_WITHIN_SECONDS = 45.0
MIGRATED_WITHIN_SECONDS = 45.0
STOPPED_WITHIN_SECONDS = 25.0  # services give open requests 20 s
TAIL_LINES = 20
AUTH = "TIDEMARK_AUTH_"


class FolderInUse(StackError):
    """Another system uses the folder."""


class Child:
    """A child process. The kernel kills it when the thread that started it ends: keep that thread."""

    def __init__(
        self, name: str, module: Sequence[str], environment: Mapping[str, str], log_path: Path
    ) -> None:
        self.name = name
        self.log_path = log_path
        tethered = [sys.executable, "-I", "-S", str(Path(tether.__file__)), str(os.getpid())]
        with log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [*tethered, sys.executable, "-m", *module],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.identity = ProcessIdentity.of(self._process.pid)

    def is_running(self) -> bool:
        """Whether the process has not ended yet."""
        return self._process.poll() is None

    def finish(self, seconds: float) -> None:
        """Wait for the end. Raises ServerFailed unless that comes within `seconds`, with status 0."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise self.failure(f"had not ended after {seconds:g} s") from None
        if self._process.returncode != 0:
            raise self.failure(self.end())

    def end(self) -> str:
        """The way it ended, in words."""
        status = self._process.returncode
        return (
            f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        )

    def failure(self, reason: str) -> ServerFailed:
        """An error that names the process and shows its log."""
        return ServerFailed(self.name, f"(pid {self._process.pid}) {reason}", self.log_path)

    def tail(self) -> str:
        """The last lines of the log."""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-TAIL_LINES:])


class System:
    """All servers and services, from `start` until `stop`; a context manager does both.

    `directory` None: a temporary folder, which `stop` removes; any other keeps the data for the next start.
    Services listen on TIDEMARK_*_BIND of `environ`, else on free loopback ports. `external` is for `Stack`.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        directory: Path | None = None,
        external: Mapping[str, str] | None = None,
    ) -> None:
        self.children: dict[str, Child] = {}
        self.addresses: dict[str, Address] = {}
        self._environ = {name: value for name, value in environ.items() if not name.startswith(AUTH)}
        self._secrets = _development_secrets()
        self._directory = directory
        self._external = external
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
            say("starting MySQL, MongoDB and Redis")
            self.stack = undo.enter_context(Stack(self._directory, external=self._external))
            undo.callback(self._stop_services)
            self.addresses = with_free_ports(given)
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
        for child in self.children.values():
            if not child.is_running():
                raise child.failure(child.end())
        for server in self.stack.servers.values():
            if not server.is_running():
                raise ServerFailed(server.name, f"(port {server.port}) has ended", server.log_path)

    def tails(self) -> dict[str, str]:
        """The last lines of each service's log."""
        return {child.name: child.tail() for child in self.children.values()}

    def url(self, service: str) -> str:
        """The base URL of the writer or the reader for clients."""
        return f"http://{self.addresses[f'TIDEMARK_{service.upper()}_BIND']}"

    def admin_url(self, service: str) -> str:
        """The base URL of a service's /metrics, /healthz and /readyz."""
        return f"http://{self.addresses[f'TIDEMARK_{service.upper()}_ADMIN_BIND']}"

    def token(self, subject: str, lifetime_seconds: int = 3600) -> str:
        """A bearer token to read and write as `subject`."""
        return mint(AuthSettings.from_environ(self._secrets), subject, ("read", "write"), lifetime_seconds)

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
        watched = {"TIDEMARK_CONSOLE_ADMIN_URLS": self.admin_url("reader")}
        return {**watched, **self._environ, **self._secrets, **self.stack.environment(), **binds}

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


def _development_secrets() -> dict[str, str]:
    """New secrets for each start: old tokens become invalid."""
    settings = {
        "ALGORITHM": "HS256",
        "SECRET": secrets.token_hex(32),
        "ISSUER": "development",
        "AUDIENCE": "tidemark",
    }
    auth = {AUTH + name: value for name, value in settings.items()}
    return {**auth, "TIDEMARK_CONSISTENCY_SECRET": secrets.token_hex(32)}


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
