"""A lane as a process beside a running system."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import httpx2

from ops.child import Child
from ops.stack.servers.ports import free_port
from ops.stack.servers.process import stop_processes
from ops.system import System

READY_WITHIN_SECONDS = 30.0
STOPPED_WITHIN_SECONDS = 10.0


@dataclass(frozen=True)
class Service:
    """One process of a lane."""

    url: str
    child: Child

    @property
    def pid(self) -> int:
        return self.child.identity.pid


def start(system: System, lane: str, side: str = "reader") -> Service:
    """Start a process of a lane; `side` tells what is asked of it, for logs. Nobody waits for it here."""
    where = f"127.0.0.1:{free_port()}"
    environment = {
        **system.environment(),
        "PERF_MYSQL_URL": f"{system.stack.mysql.admin_url}tidemark",
        "PERF_REDIS_URL": system.stack.redis.admin_url,
    }
    log = system.stack.directory / f"{lane}-{side}.log"
    return Service(
        f"http://{where}", Child(f"{lane} ({side})", ("perf.baseline", lane, where), environment, log)
    )


@contextlib.contextmanager
def until_done(system: System, services: Iterable[Service]) -> Iterator[None]:
    """Wait until all answer, and stop them in the end. Raises ServerFailed."""
    given = [*services]
    try:
        headers = {"authorization": f"Bearer {system.token('perf-1')}"}
        with httpx2.Client(headers=headers, timeout=5, trust_env=False) as http:
            for service in given:
                _wait_until_it_answers(http, service)
        yield
    finally:
        stop_processes([service.child.identity for service in given], STOPPED_WITHIN_SECONDS)
        for service in given:
            service.child.is_running()  # reaps it


def _wait_until_it_answers(http: httpx2.Client, service: Service) -> None:
    deadline, child = time.monotonic() + READY_WITHIN_SECONDS, service.child
    while (status := _status(http, f"{service.url}/post/1")) != 200:
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
