"""The rows that a process found, and its time and memory."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perf.procfs import peak_rss_mib

LOOK_SECONDS = 0.02


@dataclass(frozen=True)
class Usage:
    """Rows, seconds from the first to the last, and processor time and peak memory of the whole process."""

    rows: int
    seconds: float
    cpu_s: float
    peak_rss_mib: float

    @property
    def rows_per_s(self) -> int:
        return round(self.rows / self.seconds) if self.seconds else 0


def used_by(command: Sequence[str], environment: Mapping[str, str]) -> Usage:
    """Run a command that prints {"rows": N, "seconds": S} as a line. Raises RuntimeError if it fails."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=output, stderr=errors, env={**os.environ, **environment})
        try:
            cpu_s, peak = _watch(process)
        except BaseException:
            process.kill()
            raise
        output.seek(0)
        errors.seek(0)
        if process.returncode != 0:
            raise RuntimeError(
                f"{command[0]} ended with status {process.returncode}: {errors.read()[-2000:]}"
            )
        found = json.loads(
            next(line for line in output.read().splitlines()[::-1] if line.startswith('{"rows"'))
        )
    return Usage(found["rows"], found["seconds"], round(cpu_s, 1), peak)


def _watch(process: subprocess.Popen[bytes]) -> tuple[float, float]:
    """Processor time and peak memory at the end. `ru_maxrss` would begin with the memory of the parent."""
    peak = 0.0
    while True:
        pid, status, used = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return used.ru_utime + used.ru_stime, peak
        peak = max(peak, peak_rss_mib(process.pid))
        time.sleep(LOOK_SECONDS)
