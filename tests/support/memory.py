"""A folder in memory for the data of the tests' servers: a commit or a new table waits for no disk.

A killed server loses nothing there, as on a disk: only the machine's own end would lose it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

MEMORY, PREFIX = Path("/dev/shm"), "tidemark-tests-"
ENOUGH_BYTES = 8 * 2**30  # a stack takes half of one GiB, and up to six are up at once


def keep_temporary_files_in_memory() -> Path | None:
    """Names the folder in the environment, and so to child processes. None: too little memory is free.

    pytest's own folders stay on the disk, and remain after a run.
    """
    if not MEMORY.is_dir() or min(shutil.disk_usage(MEMORY).free, _available_bytes()) < ENOUGH_BYTES:
        return None
    for former in MEMORY.glob(f"{PREFIX}*"):
        if not Path("/proc", former.name.removeprefix(PREFIX)).exists():
            shutil.rmtree(former, ignore_errors=True)
    folder = MEMORY / f"{PREFIX}{os.getpid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    return folder


def _available_bytes() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
