"""Services' metrics, and the wait until the projector has served what is committed."""

from __future__ import annotations

import time

import httpx2

from ops.system import System

CAUGHT_UP_WITHIN_SECONDS = 1_800.0  # a million followers take minutes
CAUGHT_UP_SECONDS = 0.5
LAG = "tidemark_projector_lag_seconds"


def wait_until_caught_up(system: System) -> None:
    """Wait until all commits of half a second ago are served. Raises RuntimeError."""
    deadline = time.monotonic() + CAUGHT_UP_WITHIN_SECONDS
    time.sleep(CAUGHT_UP_SECONDS)  # so that the last write counts
    with httpx2.Client(timeout=30, trust_env=False) as http:
        while lag_seconds(http, system) > CAUGHT_UP_SECONDS:
            system.check()
            if time.monotonic() > deadline:
                raise RuntimeError(f"the projector did not catch up within {CAUGHT_UP_WITHIN_SECONDS:g} s")
            time.sleep(0.1)


def lag_seconds(http: httpx2.Client, system: System) -> float:
    return metrics(http, f"{system.admin_url('projector')}/metrics")[LAG]


def metrics(http: httpx2.Client, url: str) -> dict[str, float]:
    """Prometheus' text format: sample with its labels -> value."""
    samples = (line.rpartition(" ") for line in http.get(url).text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in samples}
