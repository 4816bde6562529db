"""Load from wrk (a closed loop, paced if there is a delay), and CPU time of the process under load."""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ops.stack.fetch.programs import wrk
from perf.procfs import cpu_seconds

SCRIPT = Path(__file__).with_name("load.lua")
CONNECTIONS = 32


@dataclass(frozen=True)
class Load:
    """One lane under load. `cpu_us`: CPU microseconds of the serving process per request."""

    rps: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    requests: int
    failed: int

    def as_json(self) -> dict[str, float]:
        return {name: round(getattr(self, name), 2) for name in ("rps", "p50_ms", "p99_ms", "cpu_us")}


def run(
    url: str,
    pid: int,
    ids: Path,
    token: str,
    seconds: float,
    *,
    path: str = "/post/%s",
    header: str = "",
    delay_ms: int = 0,
    connections: int = CONNECTIONS,
    more: Mapping[str, str] | None = None,
) -> Load:
    """Ask for `ids` in order, again and again. Each connection pauses for `delay_ms` on average.

    `more`: PERF_METHOD and PERF_BODY, if not a GET.
    """
    environment = {
        **os.environ,
        "PERF_IDS": str(ids),
        "PERF_PATH": path,
        "PERF_TOKEN": token,
        "PERF_HEADER": header,
        "PERF_DELAY_MS": str(delay_ms),
        **(more or {}),
    }
    command = [
        *wrk().command,
        "-t1",
        f"-c{connections}",
        f"-d{math.ceil(seconds)}s",
        "--timeout",
        "5s",
        "-s",
        str(SCRIPT),
        url,
    ]
    before = cpu_seconds(pid)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return _load(json.loads(done.stdout.strip().splitlines()[-1]), cpu_seconds(pid) - before)


def _load(found: Mapping[str, float], cpu: float) -> Load:
    requests = int(found["requests"])
    return Load(
        rps=requests / found["seconds"],
        p50_ms=found["p50_ms"],
        p99_ms=found["p99_ms"],
        cpu_us=cpu * 1e6 / max(1, requests),
        requests=requests,
        failed=int(found["failed"]),
    )
