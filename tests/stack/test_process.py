"""Stopping a process always works, and stops only processes of ours."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ops.stack.servers.process import ProcessIdentity, launch_detached, launch_tethered, stop_processes
from tests.support.harness import ROOT, wait_until

SLEEP = ["/bin/sleep", "600"]
STUBBORN = ["/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"]


@pytest.fixture
def launched(tmp_path: Path) -> Iterator[Callable[[list[str]], ProcessIdentity]]:
    """A function that starts a command with output in `tmp_path/log`; it is killed after the test."""
    processes: list[subprocess.Popen[bytes]] = []

    def launch(command: list[str]) -> ProcessIdentity:
        processes.append(launch_detached(command, tmp_path, tmp_path / "log"))
        return ProcessIdentity.of(processes[-1].pid)

    yield launch
    for process in processes:
        process.kill()
        process.wait()


def test_a_process_that_ignores_the_request_is_killed_after_the_deadline(
    launched: Callable[[list[str]], ProcessIdentity], tmp_path: Path
) -> None:
    stubborn = launched(STUBBORN)
    wait_until(lambda: (tmp_path / "log").read_text() == "ready\n", "the trap to be set")
    started = time.monotonic()
    stop_processes([stubborn], seconds=0.3)
    assert not stubborn.is_alive()
    assert 0.3 <= time.monotonic() - started < 5


def test_paused_means_that_every_thread_has_stopped(launched: Callable[[list[str]], ProcessIdentity]) -> None:
    thread = "threading.Thread(target=time.sleep, args=(600,))"
    threads = f"import threading, time; [{thread}.start() for _ in range(20)]"
    process = launched([sys.executable, "-c", threads])
    assert not process.is_paused()
    wait_until(lambda: len(list(Path(f"/proc/{process.pid}/task").iterdir())) == 21, "all threads")
    process.send(signal.SIGSTOP)
    wait_until(process.is_paused, "the pause")
    process.send(signal.SIGCONT)
    wait_until(lambda: not process.is_paused(), "the process to go on")
    process.send(signal.SIGKILL)
    assert process.wait(10)
    assert not process.is_paused()


def test_a_paused_process_is_stopped_without_force(launched: Callable[[list[str]], ProcessIdentity]) -> None:
    paused = launched(SLEEP)
    paused.send(signal.SIGSTOP)
    started = time.monotonic()
    stop_processes([paused], seconds=10)
    assert not paused.is_alive()
    assert time.monotonic() - started < 5


def test_a_pid_that_now_belongs_to_another_process_is_left_alone(
    launched: Callable[[list[str]], ProcessIdentity],
) -> None:
    other = launched(SLEEP)
    ours_long_ago = ProcessIdentity(other.pid, other.start_time - 1)
    assert not ours_long_ago.is_alive()
    stop_processes([ours_long_ago], seconds=0.1)
    assert other.is_alive()


def test_a_process_that_is_gone_is_stopped_without_complaint(
    launched: Callable[[list[str]], ProcessIdentity],
) -> None:
    gone = launched(["/bin/true"])
    wait_until(lambda: not gone.is_alive(), "the process to end")
    stop_processes([gone], seconds=0)


def test_a_tethered_process_outlives_the_thread_that_asked_for_it(tmp_path: Path) -> None:
    processes: list[subprocess.Popen[bytes]] = []
    asking = threading.Thread(
        target=lambda: processes.append(launch_tethered(SLEEP, tmp_path, tmp_path / "log"))
    )
    asking.start()
    asking.join()
    tethered = ProcessIdentity.of(processes[0].pid)
    command = Path(f"/proc/{tethered.pid}/cmdline")
    wait_until(lambda: command.read_bytes() == b"/bin/sleep\x00600\x00", "the command to run")
    assert tethered.is_alive()
    tethered.send(signal.SIGKILL)
    assert processes[0].wait(10) == -signal.SIGKILL


PARENT = """
import signal, sys, time
from pathlib import Path
from ops.stack.servers.process import launch_tethered
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it from birth
folder = Path(sys.argv[1])
process = launch_tethered(["/bin/sleep", "600"], folder, folder / "log")
while b"sleep" not in Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\\0")[0]:
    time.sleep(0.01)
print(process.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_tethered_process_dies_with_its_parent_however_that_dies(
    tmp_path: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:
        try:
            assert parent.stdout is not None
            child = ProcessIdentity.of(int(parent.stdout.readline()))
            assert child.is_alive()
            parent.send_signal(number)
            parent.wait(10)
        finally:
            parent.kill()
    wait_until(lambda: not child.is_alive(), "the child to end")
