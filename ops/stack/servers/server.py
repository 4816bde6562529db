"""The base of the local MySQL, MongoDB and Redis: start, wait, stop, kill, pause."""

import os
import secrets
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from ops.stack.errors import PortTaken, ServerFailed, StackError
from ops.stack.fetch.programs import Program
from ops.stack.servers.ports import free_port, is_free, steady_port
from ops.stack.servers.process import (
    POLL_SECONDS,
    Launch,
    ProcessIdentity,
    kill_process,
    launch_tethered,
    stop_processes,
)

READY_WITHIN_SECONDS = 60.0
STOPPED_WITHIN_SECONDS = 20.0
NO_SERVERS = "TIDEMARK_NO_SERVERS"


class Server(ABC):
    """One server on 127.0.0.1 with its own folder, used alone or by `Stack`.

    `options` come last in the command, so they win. `password` is the administrator's.
    """

    name: ClassVar[str]

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        options: Sequence[str] = (),
        password: str | None = None,
        launch: Launch = launch_tethered,
    ) -> None:
        self.directory = directory.absolute()
        self.data = self.directory / "data"
        self.log_path = self.directory / f"{self.name}.log"
        self.port = port or free_port()
        self.options = tuple(options)
        self.password = password or secrets.token_urlsafe(18)
        self.process: subprocess.Popen[bytes] | None = None
        self.identity: ProcessIdentity | None = None
        self._launch = launch

    @property
    @abstractmethod
    def admin_url(self) -> str:
        """The URL of the administrator's account."""

    def find_port(self) -> None:
        """Take another port, and say so, if another process listens on this one."""
        self.port = steady_port(self.name, self.port)

    @abstractmethod
    def program(self) -> Program:
        """The program, downloaded if needed. Raises ProgramMissing or DownloadFailed."""

    def prepare(self) -> None:
        """Make the folder; subclasses add its content for the first start."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    @abstractmethod
    def command(self) -> list[str]:
        """The program, as an absolute path, and its options."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether the running server serves clients."""

    def start(self) -> None:
        """Start, or start again on the same port and data, and wait until the server is ready.

        Raises PortTaken, ServerFailed, ProgramMissing, DownloadFailed.
        """
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        """Start without waiting; does nothing if the server runs already."""
        if self.is_running():
            return
        if os.environ.get(NO_SERVERS):
            raise StackError(
                f"{self.name} is not started: {NO_SERVERS} is set (is the test not marked `server`?)"
            )
        if not is_free(self.port):
            raise PortTaken(self.name, self.port)
        try:
            self.prepare()
            self.process = self._launch(self.command(), self.directory, self.log_path)
            self.identity = ProcessIdentity.of(self.process.pid)
        except OSError as error:
            raise ServerFailed(
                self.name, f"could not be started in {self.directory} ({error})", self.log_path
            )

    def wait_until_ready(self, seconds: float = READY_WITHIN_SECONDS) -> None:
        """Wait. Raises ServerFailed if the server ends, or is not ready in time and so was killed."""
        deadline = time.monotonic() + seconds
        while not (self.is_running() and self.is_ready()):
            if not self.is_running():
                raise ServerFailed(self.name, f"ended while starting on port {self.port}", self.log_path)
            if time.monotonic() > deadline:
                self.kill()
                raise ServerFailed(
                    self.name, f"was not ready after {seconds:g} s on port {self.port}", self.log_path
                )
            time.sleep(POLL_SECONDS)

    def is_running(self) -> bool:
        """Whether the process lives, even if paused or not ready yet."""
        return self.identity is not None and self.identity.is_alive()

    def stop(self, seconds: float = STOPPED_WITHIN_SECONDS) -> None:
        """Send SIGTERM; kill the server after `seconds`. Data stays."""
        if self.identity is not None:
            stop_processes([self.identity], seconds)

    def kill(self) -> None:
        """Send SIGKILL, and wait for the end."""
        if self.identity is not None:
            kill_process(self.identity)

    def pause(self) -> None:
        """Send SIGSTOP, and wait until it works: connections stay open and nothing answers."""
        self._send(signal.SIGSTOP)
        while self.is_running() and self.identity is not None and not self.identity.is_paused():
            time.sleep(POLL_SECONDS)

    def resume(self) -> None:
        """Send SIGCONT."""
        self._send(signal.SIGCONT)

    def _send(self, number: signal.Signals) -> None:
        if self.identity is not None:
            self.identity.send(number)
