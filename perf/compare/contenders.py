"""The lanes as running processes: one that reads and one that writes for each, as Tidemark has."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import httpx2

from ops.stack.servers.ports import free_port
from ops.stack.servers.process import ProcessIdentity, stop_processes
from ops.system import Child, System
from perf.baseline.counters import recount
from perf.baseline.lanes import LANES
from perf.pausing import services_paused
from perf.second_reader import WITHOUT_LOCAL, second_reader

TIDEMARK = "tidemark"
WITHOUT_REPLICA = "tidemark_redis"  # the same, without a replica in the reader
TIDEMARKS = (TIDEMARK, WITHOUT_REPLICA)
NAMES = (*LANES, *TIDEMARKS)
READY_WITHIN_SECONDS = 30.0
CAUGHT_UP_WITHIN_SECONDS = 600.0
CAUGHT_UP_SECONDS = 0.5
STOPPED_WITHIN_SECONDS = 10.0
LAG = "tidemark_projector_lag_seconds"


@dataclass(frozen=True)
class Contender:
    """URLs and processes of one lane. `processes`: role -> process; `reader` is always among them.

    `metrics_url`: of Tidemark's reader; else empty.
    """

    name: str
    read_url: str
    write_url: str
    processes: Mapping[str, ProcessIdentity]
    metrics_url: str = ""

    @property
    def reader(self) -> ProcessIdentity:
        return self.processes["reader"]


@contextlib.contextmanager
def contenders(system: System) -> Iterator[dict[str, Contender]]:
    """Start the baseline's lanes beside a running system with its dataset. Raises ServerFailed."""
    started: dict[str, Child] = {}  # by URL
    recount(f"{system.stack.mysql.admin_url}tidemark")  # makes the table
    try:
        found = {name: _baseline(system, name, started) for name in LANES}
        with httpx2.Client(headers=authorization(system.token("perf-1")), timeout=5, trust_env=False) as http:
            for url, child in started.items():
                _wait_until_it_answers(http, url, child)
        services = {name: child.identity for name, child in system.children.items()}
        second, writer = second_reader(system, WITHOUT_LOCAL), system.url("writer")
        without = {**services, "reader": second.child.identity}
        yield {
            **found,
            TIDEMARK: Contender(TIDEMARK, system.url("reader"), writer, services, system.admin_url("reader")),
            WITHOUT_REPLICA: Contender(WITHOUT_REPLICA, second.url, writer, without, second.admin_url),
        }
    finally:
        stop_processes([child.identity for child in started.values()], STOPPED_WITHIN_SECONDS)
        for child in started.values():
            child.is_running()  # reaps it


def authorization(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def _baseline(system: System, name: str, started: dict[str, Child]) -> Contender:
    environment = {
        **system.environment(),
        "PERF_MYSQL_URL": f"{system.stack.mysql.admin_url}tidemark",
        "PERF_REDIS_URL": system.stack.redis.admin_url,
    }
    urls, processes = [], {}
    for side in ("reader", "writer"):
        place = f"127.0.0.1:{free_port()}"
        log = system.stack.directory / f"{name}-{side}.log"
        child = Child(f"{name} ({side})", ("perf.baseline", name, place), environment, log)
        started[f"http://{place}"] = child
        urls.append(f"http://{place}")
        processes[side] = child.identity
    return Contender(name, urls[0], urls[1], processes)


def _wait_until_it_answers(http: httpx2.Client, url: str, child: Child) -> None:
    deadline = time.monotonic() + READY_WITHIN_SECONDS
    while (status := _status(http, f"{url}/post/1")) != 200:
        if not child.is_running():
            raise child.failure(child.end())
        if time.monotonic() > deadline:
            raise child.failure(f"answers {status or 'nothing'} for a post after {READY_WITHIN_SECONDS:g} s")
        time.sleep(0.05)


def _status(http: httpx2.Client, url: str) -> int:
    try:
        return http.get(url).status_code
    except httpx2.TransportError:
        return 0


@contextlib.contextmanager
def machine_for(lane: Contender, system: System) -> Iterator[None]:
    """Pause Tidemark's services while another lane has its turn; afterwards they catch up."""
    if lane.name in TIDEMARKS:
        yield
        return
    with services_paused(system):
        yield
    wait_until_caught_up(system)


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
