"""Server processes that end with us or outlive us; they are recognised by pid and start time."""

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
FOLDER_MARK = "TIDEMARK_SERVER_FOLDER"  # in the environment of every server: finds unrecorded ones
KILLED_WITHIN_SECONDS = 10.0

Launch = Callable[[Sequence[str], Path, Path], "subprocess.Popen[bytes]"]


@dataclass(frozen=True)
class ProcessIdentity:
    """One process for its whole life; a pid alone may belong to another process later.

    `start_time`: clock ticks since boot, proc_pid_stat(5), field 22.
    """

    pid: int
    start_time: int

    @classmethod
    def of(cls, pid: int) -> "ProcessIdentity":
        """Raises ProcessLookupError if there is no such process."""
        stat = _stat(pid)
        if stat is None:
            raise ProcessLookupError(f"no process {pid}")
        return cls(pid, stat.start_time)

    def is_alive(self) -> bool:
        """Whether a thread of this process still runs: until all have ended, its ports are taken."""
        stat = _stat(self.pid)
        return stat is not None and stat.start_time == self.start_time and not stat.is_over

    def is_paused(self) -> bool:
        """Whether all threads are stopped: SIGSTOP reaches one after the other."""
        try:
            threads = [stat.read_text() for stat in Path(f"/proc/{self.pid}/task").glob("*/stat")]
        except (FileNotFoundError, ProcessLookupError):  # a thread ended meanwhile
            return False
        return self.is_alive() and all(_fields(stat)[0] == "T" for stat in threads)

    def send(self, number: signal.Signals) -> None:
        """Send a signal; does nothing if the process is gone or its pid belongs to another."""
        if self.is_alive():
            with contextlib.suppress(ProcessLookupError):  # the process may end before the signal
                os.kill(self.pid, number)

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds` for the end; return whether it came."""
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
    # The first thread of a killed server is a zombie at once; the others may hold its sockets longer.
    return _Stat(start_time, state in "ZX" and threads <= 1)


def _fields(stat: str) -> list[str]:
    """The fields of proc_pid_stat(5) from the third (state) on."""
    return stat.rpartition(")")[2].split()


def launch_detached(command: Sequence[str], folder: Path, log_path: Path) -> "subprocess.Popen[bytes]":
    """Start a command in its own session: Ctrl-C and our end do not reach it. Output goes to the log."""
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
    """The live processes that were launched in a folder below `directory`, recorded or not."""
    mark = f"{FOLDER_MARK}={directory}/".encode()
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # the process ended meanwhile, or belongs to another user
            if any(variable.startswith(mark) for variable in environment.read_bytes().split(b"\0")):
                found.append(ProcessIdentity.of(int(environment.parent.name)))
    return found


def launch_tethered(command: Sequence[str], folder: Path, log_path: Path) -> "subprocess.Popen[bytes]":
    """As `launch_detached`, but the kernel kills the process when ours ends in any way.

    The kernel ties the process to the thread that forked it (prctl(2)). So a thread is started for it, which
    lives until the process ends, and reaps it.
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
    """SIGKILL at once: the process has no chance to finish its work."""
    process.send(signal.SIGKILL)
    process.wait(KILLED_WITHIN_SECONDS)


def stop_processes(processes: Sequence[ProcessIdentity], seconds: float) -> None:
    """Send SIGTERM to all, wait at most `seconds` for all together, then kill the rest."""
    for process in processes:
        process.send(signal.SIGTERM)
        process.send(signal.SIGCONT)  # a paused process does not react to SIGTERM
    deadline = time.monotonic() + seconds
    for process in processes:
        if not process.wait(max(0.0, deadline - time.monotonic())):
            process.send(signal.SIGKILL)
    for process in processes:
        process.wait(KILLED_WITHIN_SECONDS)
