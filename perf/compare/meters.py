"""Counters of the stores, read before and after a measurement, and once a second for the plots."""

from __future__ import annotations

import contextlib
import itertools
import resource
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pymysql
from pymongo import MongoClient
from redis import Redis

from ops.stack.urls import mysql_arguments
from ops.system import System
from perf.catching_up import metrics
from perf.compare.contenders import Contender
from perf.procfs import cpu_seconds

Reading = dict[str, float]
MYSQL = {"Com_select": "selects", "Innodb_rows_read": "rows"}
MONGODB = ("query", "getmore", "insert", "update", "delete")  # `command` would count our own asking
LOOKUPS = 'tidemark_cache_requests_total{entity="post",layer="'
LAG_BUCKET = "tidemark_projector_visibility_seconds_bucket{le="
SAMPLE_SECONDS = 1.0


class Meters:
    """Counters of MySQL, MongoDB and Redis, and of Tidemark's reader; all only grow. For one thread."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._mysql = pymysql.connect(**mysql_arguments(system.stack.mysql.admin_url), autocommit=True)
        self._mongodb = MongoClient[dict[str, Any]](system.stack.mongodb.admin_url)
        self._redis = Redis.from_url(system.stack.redis.admin_url)
        self._http = httpx2.Client(timeout=30, trust_env=False)

    def close(self) -> None:
        self._mysql.close()
        self._mongodb.close()
        self._redis.close()
        self._http.close()

    def stores(self) -> Reading:
        """Of the three stores: statements, rows read, operations, hits, CPU seconds."""
        operations = self._mongodb.admin.command("serverStatus")["opcounters"]
        stats: Mapping[str, Any] = self._redis.info("stats")
        return {
            **self._mysql_status(),
            "mysql_cpu": _cpu(self._system, "mysql"),
            "mongodb_operations": float(sum(operations[name] for name in MONGODB)),
            "mongodb_cpu": _cpu(self._system, "mongodb"),
            "redis_hits": float(stats["keyspace_hits"]),
            "redis_misses": float(stats["keyspace_misses"]),
        }

    def reader(self, admin_url: str) -> Reading:
        """Hits and misses of replica and Redis for posts, from a reader, which must not be paused."""
        found = metrics(self._http, f"{admin_url}/metrics")
        posts = {name.removeprefix(LOOKUPS): n for name, n in found.items() if name.startswith(LOOKUPS)}
        hits = sum(posts.get(f'{layer}",result="hit"}}', 0.0) for layer in ("local", "redis"))
        return {"hits": hits, "misses": posts.get('mongo",result="hit"}', 0.0)}

    def projector_lag(self) -> Reading:
        """Upper bound of a bucket in seconds -> transactions that were visible within that."""
        found = metrics(self._http, f"{self._system.admin_url('projector')}/metrics")
        return {
            name.removeprefix(LAG_BUCKET).strip('"}'): value
            for name, value in found.items()
            if name.startswith(LAG_BUCKET)
        }

    def cpu(self, lane: Contender) -> Reading:
        """CPU seconds so far of every process that works for a lane, and of the load generators."""
        servers = {name: server.identity for name, server in self._system.stack.servers.items()}
        processes = {**lane.processes, **{name: each for name, each in servers.items() if each}}
        load = sum(
            sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        )
        return {**{name: cpu_seconds(each.pid) for name, each in processes.items()}, "load": load}

    def _mysql_status(self) -> Reading:
        with self._mysql.cursor() as cursor:
            names = ", ".join(f"'{name}'" for name in MYSQL)
            cursor.execute(f"SHOW GLOBAL STATUS WHERE Variable_name IN ({names})")
            return {MYSQL[name]: float(value) for name, value in cursor.fetchall()}


def since(before: Reading, now: Reading) -> Reading:
    """How much each counter grew."""
    return {name: value - before.get(name, 0.0) for name, value in now.items()}


def percentile_ms(buckets: Reading, percent: float) -> float:
    """From a cumulative histogram, linear inside a bucket as Prometheus does it; 0 if it is empty."""
    bounds = sorted((float(bound), count) for bound, count in buckets.items())
    wanted = bounds[-1][1] * percent / 100 if bounds else 0.0
    lower, below = 0.0, 0.0
    for bound, count in bounds:
        if count >= wanted > 0:
            upper = lower if bound == float("inf") else bound
            return 1000 * (lower + (upper - lower) * (wanted - below) / max(1e-9, count - below))
        lower, below = bound, count
    return 0.0


def _cpu(system: System, store: str) -> float:
    identity = system.stack.servers[store].identity
    return cpu_seconds(identity.pid) if identity else 0.0


@dataclass
class Timeline:
    """A reading of the stores each second, and the phases: (seconds, lane, phase)."""

    began: float = field(default_factory=time.monotonic)
    readings: list[tuple[float, Reading]] = field(default_factory=list)
    phases: list[tuple[float, str, str]] = field(default_factory=list)

    def note(self, lane: str, phase: str) -> None:
        """Note the lane and phase from now on; empty: nothing that counts."""
        self.phases.append((round(time.monotonic() - self.began, 2), lane, phase))

    def rates(self) -> list[Reading]:
        """Work of the stores per second, reading by reading; `at` in seconds since the start."""
        found = []
        for (began, before), (ended, now) in itertools.pairwise(self.readings):
            per_second = {
                name: round(grown / (ended - began), 3) for name, grown in since(before, now).items()
            }
            found.append({"at": round(ended, 2), **per_second})
        return found


@contextlib.contextmanager
def timeline(system: System) -> Iterator[Timeline]:
    """Keep reading in a thread of its own."""
    found, done = Timeline(), threading.Event()

    def keep() -> None:
        with contextlib.closing(Meters(system)) as meters:
            while not done.wait(SAMPLE_SECONDS):
                found.readings.append((time.monotonic() - found.began, meters.stores()))

    with ThreadPoolExecutor(1) as thread:
        keeping = thread.submit(keep)
        try:
            yield found
        finally:
            done.set()
        keeping.result()  # raises the error that ended it early
