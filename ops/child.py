"""One service as a child process, with a log that outlives it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ops.stack import ServerFailed
from ops.stack.servers import tether
from ops.stack.servers.process import ProcessIdentity

ROOT = Path(__file__).parents[1]
LOG_BYTES = 10_000_000


def rotate(log_path: Path) -> None:
    """Make `log_path` empty if it is long, and keep its lines as `*.log.1`, the last such file.

    The processes write at the end of the file, wherever that is. A line written meanwhile is lost.
    """
    if log_path.exists() and log_path.stat().st_size > LOG_BYTES:
        shutil.copyfile(log_path, log_path.with_name(f"{log_path.name}.1"))
        os.truncate(log_path, 0)


class Child:
    """A child process. The kernel kills it when the thread that started it ends: keep that thread."""

    def __init__(
        self, name: str, module: Sequence[str], environment: Mapping[str, str], log_path: Path
    ) -> None:
        self.name = name
        self.log_path = log_path
        tethered = [sys.executable, "-I", "-S", str(Path(tether.__file__)), str(os.getpid())]
        with log_path.open("ab") as log:
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
