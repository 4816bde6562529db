"""`python -m perf cpu`: the processor time of every process per transaction, at a steady rate."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ops.stack.progress import say
from ops.system import System
from perf.dataset import load_posts
from perf.procfs import cpu_seconds
from perf.projector.projecting import wait_until_caught_up
from perf.projector.steady import POSTS, Load, MySqlLoad, WriterLoad

LOADS = {"writer": WriterLoad, "mysql": MySqlLoad}
WARM_UP_SECONDS = 3.0


def cpu(seconds: float, rate: float, seed: int, through: str) -> dict[str, Any]:
    """Raises StackError, RuntimeError."""
    with System(os.environ) as system:
        load_posts(system.stack.environment()["TIDEMARK_WRITER_MYSQL_URL"], POSTS, seed)
        wait_until_caught_up(system.stack)
        load: Load = LOADS[through](system, rate, seed)
        with load.running(WARM_UP_SECONDS):
            say(f"{rate:g} transactions per second through {through} for {seconds:g} s")
        before = cpu_of(system)
        with load.running(seconds) as lanes:
            pass
        wait_until_caught_up(system.stack)
        written = sum(lane.result() for lane in lanes)
        return {
            "transactions_per_s": round(written / seconds, 1),
            "cpu_ms_per_transaction": per_transaction(before, cpu_of(system), written),
        }


def cpu_of(system: System) -> dict[str, float]:
    """Seconds so far of each service and each server."""
    services = {name: child.identity for name, child in system.children.items()}
    servers = {name: server.identity for name, server in system.stack.servers.items()}
    return {name: cpu_seconds(each.pid) for name, each in {**services, **servers}.items() if each}


def per_transaction(
    before: Mapping[str, float], after: Mapping[str, float], transactions: int
) -> dict[str, float]:
    """Milliseconds."""
    return {name: round(1e3 * (after[name] - before[name]) / transactions, 3) for name in after}
