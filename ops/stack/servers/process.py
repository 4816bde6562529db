"""Server processes: started so that they end with us or outlive us, recognised again by pid and start time, stopped."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

POLL_SECONDS = 0.02
FOLDER_MARK = (
    "TIDEMARK_SERVER_FOLDER"  # in the environment of every server: finds those that nobody had time to record
)
KILLED_WITHIN_SECONDS = 10.0

Launch = Callable[[Sequence[str], Path, Path], "subprocess.Popen[bytes]"]


@dataclass(frozen=True)
class ProcessIdentity:
    """One process for its whole life: a pid alone may be given to another process later.

    `start_time` is in clock ticks since boot: proc_pid_stat(5), field 22.
    """

    pid: int
    start_time: int

    @classmethod
    def of(cls, pid: int) -> "ProcessIdentity":
        """Raises ProcessLookupError when there is no such process."""
        stat = _stat(pid)
        if stat is None:
            raise ProcessLookupError(f"no process {pid}")
        return cls(pid, stat.start_time)

    def is_alive(self) -> bool:
        """Whether any thread of that very process still runs: until then its ports are not free again."""
        stat = _stat(self.pid)
        return stat is not None and stat.start_time == self.start_time and not stat.is_over

    def is_paused(self) -> bool:
        """Whether every thread is stopped: SIGSTOP reaches one after the other."""
        try:
            threads = [stat.read_text() for stat in Path(f"/proc/{self.pid}/task").glob("*/stat")]
        except (FileNotFoundError, ProcessLookupError):  # one ended meanwhile
            return False
        return self.is_alive() and all(_fields(stat)[0] == "T" for stat in threads)

    def send(self, number: signal.Signals) -> None:
        """Send a signal; does nothing when the process is gone or its pid belongs to another."""
        if self.is_alive():
            with contextlib.suppress(ProcessLookupError):  # it may end between the look and the signal
                os.kill(self.pid, number)

    def wait(self, seconds: float) -> bool:
        """Wait at most that long for the end; returns whether it came."""
        deadline = time.monotonic() + seconds
        while self.is_alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True


class _Stat(NamedTuple):
    start_time: int
    is_over: bool


def _stat(pid: int) -> _Stat | None:
    try:
        fields = _fields(Path(f"/proc/{pid}/stat").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, threads, start_time = fields[0], int(fields[17]), int(fields[19])
    # A killed server's first thread is a zombie at once; the others may hold its sockets a little longer.
    return _Stat(start_time, state in "ZX" and threads <= 1)


def _fields(stat: str) -> list[str]:
    """The fields of proc_pid_stat(5) from the third, the state, on."""
    return stat.rpartition(")")[2].split()


def launch_detached(command: Sequence[str], folder: Path, log_path: Path) -> "subprocess.Popen[bytes]":
    """Start a command in its own session, so that neither Ctrl-C nor our end reaches it; output goes to the log."""
    with log_path.open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, FOLDER_MARK: str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def launched_below(directory: Path) -> list[ProcessIdentity]:
    """Every live process that was launched in a folder below `directory`, recorded or not."""
    mark = f"{FOLDER_MARK}={directory}/".encode()
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # ended meanwhile, or somebody else's
            if any(variable.startswith(mark) for variable in environment.read_bytes().split(b"\0")):
                found.append(ProcessIdentity.of(int(environment.parent.name)))
    return found


def launch_tethered(command: Sequence[str], folder: Path, log_path: Path) -> "subprocess.Popen[bytes]":
    """As `launch_detached`, but the kernel kills the process when ours ends, however it ends.

    The kernel ties it to the thread that forked (prctl(2)), so a thread of its own forks it, lives as long as it, and
    reaps it.
    """
    started: Future[subprocess.Popen[bytes]] = Future()
    tethered = [
        sys.executable,
        "-I",
        "-S",
        str(Path(__file__).with_name("tether.py")),
        str(os.getpid()),
        *command,
    ]

    def keep() -> None:
        try:
            process = launch_detached(tethered, folder, log_path)
        except (OSError, ValueError) as error:
            started.set_exception(error)
            return
        started.set_result(process)
        process.wait()

    threading.Thread(target=keep, name=f"keeper of {folder.name}", daemon=True).start()
    return started.result()


def kill_process(process: ProcessIdentity) -> None:
    """SIGKILL and nothing before it: no chance to finish anything."""
    process.send(signal.SIGKILL)
    process.wait(KILLED_WITHIN_SECONDS)


def stop_processes(processes: Sequence[ProcessIdentity], seconds: float) -> None:
    """Ask all of them to end (SIGTERM), wait together at most that long, then kill what is left."""
    for process in processes:
        process.send(signal.SIGTERM)
        process.send(signal.SIGCONT)  # a paused process cannot hear SIGTERM
    deadline = time.monotonic() + seconds
    for process in processes:
        if not process.wait(max(0.0, deadline - time.monotonic())):
            process.send(signal.SIGKILL)
    for process in processes:
        process.wait(KILLED_WITHIN_SECONDS)
