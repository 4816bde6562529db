"""The lanes as running processes: one that reads and one that writes for each, as Tidemark has."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ops.stack.servers.process import ProcessIdentity
from ops.system import System
from perf.baseline.counters import recount
from perf.baseline.lanes import LANES
from perf.baseline.running import Service, start, until_done
from perf.catching_up import wait_until_caught_up
from perf.pausing import services_paused
from perf.second_reader import WITHOUT_LOCAL, second_reader

TIDEMARK = "tidemark"
WITHOUT_REPLICA = "tidemark_redis"  # the same, without a replica in the reader
TIDEMARKS = (TIDEMARK, WITHOUT_REPLICA)
NAMES = (*LANES, *TIDEMARKS)


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
    recount(f"{system.stack.mysql.admin_url}tidemark")  # makes the table
    services = {name: child.identity for name, child in system.children.items()}
    started = {name: [start(system, name, side) for side in ("reader", "writer")] for name in LANES}
    with until_done(system, [service for both in started.values() for service in both]):
        found = {name: _baseline(name, *both) for name, both in started.items()}
        second, writer = second_reader(system, WITHOUT_LOCAL), system.url("writer")
        without = {**services, "reader": second.child.identity}
        yield {
            **found,
            TIDEMARK: Contender(TIDEMARK, system.url("reader"), writer, services, system.admin_url("reader")),
            WITHOUT_REPLICA: Contender(WITHOUT_REPLICA, second.url, writer, without, second.admin_url),
        }


def authorization(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def _baseline(name: str, reader: Service, writer: Service) -> Contender:
    processes = {"reader": reader.child.identity, "writer": writer.child.identity}
    return Contender(name, reader.url, writer.url, processes)


@contextlib.contextmanager
def machine_for(lane: Contender, system: System) -> Iterator[None]:
    """Pause Tidemark's services while another lane has its turn; afterwards they catch up."""
    if lane.name in TIDEMARKS:
        yield
        return
    with services_paused(system):
        yield
    wait_until_caught_up(system)
