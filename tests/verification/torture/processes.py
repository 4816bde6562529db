"""Samples of memory and open files of all processes of a system, by their role."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

SAMPLE_SECONDS = 5.0
MIB = 2**20
PAGE_BYTES, TICKS = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")
SERVERS = {"mysqld": "MySQL", "mongod": "MongoDB", "redis-server": "Redis", "valkey-server": "Valkey"}
ROLES = ("writer", "reader", "reader's worker", "lasting reader", "projector", "audit", *SERVERS.values())


@dataclass(frozen=True)
class Sample:
    """The live processes of one role at one moment: how many, and the most of each quantity in one."""

    seconds: float  # since the begin of the work
    role: str
    processes: int
    mib: float  # resident
    files: int  # open ones, sockets included
    age_seconds: float


class _Process(NamedTuple):
    parent: int
    mib: float
    began: float  # seconds after boot


def role_of(command: Sequence[str]) -> str | None:
    """One of ROLES; None for a process that lives only for a moment, such as a rebuild."""
    words = [word for argument in command for word in argument.split()]
    for word in words:
        if (name := word.rpartition("/")[2]) in SERVERS:
            return SERVERS[name]
    match words[words.index("-m") + 1 :] if "-m" in words else []:
        case ["writer"]:
            return "writer"
        case ["reader", "serve"]:
            return "lasting reader"
        case ["reader", *options]:
            return "reader's worker" if "--worker" in options else "reader"
        case ["binlog_projector", "run", *_]:
            return "projector"
        case ["binlog_projector", "audit", *_]:
            return "audit"
    return None


def sampled(root: int, seconds: float) -> list[Sample]:
    """Of the descendants of process `root`. `seconds`: of the samples."""
    running, found = _running(), defaultdict(list)
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    for pid in _descendants(root, running):
        with contextlib.suppress(OSError):  # it ended meanwhile
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
            if role := role_of(command):
                files, process = len([*Path(f"/proc/{pid}/fd").iterdir()]), running[pid]
                found[role].append((process.mib, files, now - process.began))
    return [
        Sample(seconds, role, len(values), *(max(one) for one in zip(*values, strict=True)))
        for role, values in found.items()
    ]


@contextlib.contextmanager
def sampling(samples: list[Sample]) -> Iterator[None]:
    """Adds samples of this process's descendants during the block."""
    begun, stopping = time.monotonic(), threading.Event()

    def sample() -> None:
        while not stopping.wait(SAMPLE_SECONDS):
            samples.extend(sampled(os.getpid(), time.monotonic() - begun))

    thread = threading.Thread(target=sample, name="samples", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def _running() -> dict[int, _Process]:
    """All processes of the machine: proc_pid_stat(5)."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            values = stat.read_text().rpartition(")")[2].split()
            mib, began = int(values[21]) * PAGE_BYTES / MIB, int(values[19]) / TICKS
            found[int(stat.parent.name)] = _Process(int(values[1]), mib, began)
    return found


def _descendants(root: int, running: dict[int, _Process]) -> Iterator[int]:
    children = defaultdict(list)
    for pid, process in running.items():
        children[process.parent].append(pid)
    waiting = [*children[root]]
    while waiting:
        yield (pid := waiting.pop())
        waiting += children[pid]
