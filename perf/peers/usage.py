"""What a process found, and what it took for that."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Usage:
    """Rows and how long they took from the first to the last; processor time and peak memory of the whole process."""

    rows: int
    seconds: float
    cpu_s: float
    peak_rss_mib: float

    @property
    def rows_per_s(self) -> int:
        return round(self.rows / self.seconds) if self.seconds else 0


def used_by(command: Sequence[str], environment: Mapping[str, str]) -> Usage:
    """Runs it to its end; it prints {"rows": N, "seconds": S} as a line of its own. Raises RuntimeError if it fails."""
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env={**os.environ, **environment}
        ) as process,
    ):
        assert process.stdout is not None
        try:
            output = process.stdout.read()
        except BaseException:
            process.kill()
            raise
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            errors.seek(0)
            raise RuntimeError(f"{command[0]} ended with status {process.returncode}: {errors.read()[-2000:]}")
    found = json.loads(next(line for line in reversed(output.splitlines()) if line.startswith('{"rows"')))
    cpu_s = round(used.ru_utime + used.ru_stime, 1)
    return Usage(found["rows"], found["seconds"], cpu_s, round(used.ru_maxrss / 1024, 1))
