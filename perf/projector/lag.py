"""`python -m perf lag`: how long after its commit in MySQL a reader shows a transaction, under a steady load.

Next to it, in the same run: the least that the same servers need for it, and Debezium into MongoDB.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis
from pymongo import MongoClient

from ops.stack.progress import say
from ops.system import System
from perf.dataset import load_posts
from perf.pausing import services_paused
from perf.projector.cpu import cpu_of, per_transaction
from perf.projector.marks import WARM_UP_SECONDS, Ask, MarkedLoad, Waits
from perf.projector.peers.debezium import DATABASE, Debezium
from perf.projector.projecting import wait_until_caught_up
from perf.projector.steady import MARKED, POSTS

ROUNDS = 3
BODY = re.compile(rb'"body":"mark (\d+)"')
CAUGHT_UP_WITHIN_SECONDS = 300.0
Figures = dict[str, Any]
Lane = Callable[[System, MarkedLoad, float], Figures]  # seconds


def more_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--without-debezium", action="store_true", help="needs no JDK, and takes two thirds of the time"
    )


def lag(seconds: float, rate: int, seed: int, without_debezium: bool = False) -> Figures:
    """Medians of three rounds in which all take turns. Raises StackError, RuntimeError."""
    with System(os.environ) as system, tempfile.TemporaryDirectory() as folder:
        load_posts(system.stack.environment()["TIDEMARK_WRITER_MYSQL_URL"], POSTS, seed)
        wait_until_caught_up(system.stack)
        load = MarkedLoad(system, rate, seed)
        lanes: dict[str, Lane] = {"ours": _ours, "floor": _floor}
        if not without_debezium:
            debezium = Debezium(system.stack, Path(folder))
            debezium.prime()
            lanes["debezium"] = lambda system, load, seconds: _debezium(debezium, system, load, seconds)
        rounds: list[Figures] = []
        for number in range(1, ROUNDS + 1):
            found: Figures = {}
            for name, lane in lanes.items():
                say(f"round {number} of {ROUNDS}: {name}, {rate} transactions per second")
                found |= lane(system, load, seconds / ROUNDS)
                wait_until_caught_up(system.stack, system.check)
            rounds.append(found)
    return _with_ratios(_medians(rounds) | {"samples": sum(each["samples"] for each in rounds)})


def _ours(system: System, load: MarkedLoad, seconds: float) -> Figures:
    """Until an answer of the reader shows it."""
    before = cpu_of(system)
    with reader(system) as ask:
        waits = load.waits(seconds, ask)
    return {
        **_percentiles("", waits),
        "transactions_per_s": round(waits.transactions / (WARM_UP_SECONDS + seconds)),
        "samples": len(waits.ms),
        "cpu_ms_per_transaction": per_transaction(before, cpu_of(system), waits.transactions),
    }


def _floor(system: System, load: MarkedLoad, seconds: float) -> Figures:
    """One transaction of one update in MongoDB, one command of Redis, one constant HTTP answer, in a row."""
    waits, begun = [], time.monotonic()
    with _in_a_row(system) as row, load.running(WARM_UP_SECONDS + seconds) as lanes:
        while (now := time.monotonic()) < begun + WARM_UP_SECONDS + seconds:
            row()
            if now > begun + WARM_UP_SECONDS:
                waits.append(1e3 * (time.monotonic() - now))
            time.sleep(1 / load.marks_per_s)
    return _percentiles("floor_", Waits(sorted(waits), sum(lane.result() for lane in lanes)))


def _debezium(debezium: Debezium, system: System, load: MarkedLoad, seconds: float) -> Figures:
    """Until MongoDB shows the row that Debezium has upserted; our services are paused meanwhile."""
    with (
        MongoClient[dict[str, Any]](system.stack.mongodb.admin_url) as client,
        services_paused(system),
        debezium.streaming(),
    ):

        def ask() -> int | None:
            found = client[DATABASE]["posts"].find_one({"_id": MARKED})
            return int(found["body"].split()[1]) if found and found["body"].startswith("mark ") else None

        deadline = time.monotonic() + CAUGHT_UP_WITHIN_SECONDS
        while ask() != load.last:  # Java warms up on the backlog of the other lanes
            if time.monotonic() > deadline:
                raise RuntimeError(f"Debezium did not catch up in {CAUGHT_UP_WITHIN_SECONDS:g} s")
            time.sleep(0.05)
        return _percentiles("debezium_", load.waits(seconds, ask))


@contextlib.contextmanager
def reader(system: System) -> Iterator[Ask]:
    headers = {"authorization": f"Bearer {system.token('perf-1')}"}
    with contextlib.closing(_connection(system.url("reader"))) as connection:

        def ask() -> int | None:
            connection.request("GET", f"/post/{MARKED}", headers=headers)
            found = BODY.search(connection.getresponse().read())
            return int(found[1]) if found else None

        yield ask


@contextlib.contextmanager
def _in_a_row(system: System) -> Iterator[Callable[[], None]]:
    with (
        MongoClient[dict[str, Any]](system.stack.mongodb.admin_url, w="majority") as client,
        redis.Redis.from_url(system.stack.redis.admin_url) as cache,
        contextlib.closing(_connection(system.admin_url("reader"))) as connection,
        client.start_session() as session,
    ):
        floor = client["perf"]["floor"]
        floor.update_one({"_id": 1}, {"$set": {"count": 0}}, upsert=True)

        def row() -> None:
            with session.start_transaction():
                floor.update_one({"_id": 1}, {"$inc": {"count": 1}}, session=session)
            cache.set("tidemark:perf:floor", 1)
            connection.request("GET", "/healthz")
            connection.getresponse().read()

        yield row


def _connection(url: str) -> http.client.HTTPConnection:
    address = urlsplit(url)
    return http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)


def _percentiles(prefix: str, waits: Waits) -> Figures:
    return {f"{prefix}p50_ms": waits.percentile(50), f"{prefix}p99_ms": waits.percentile(99)}


def _medians(rounds: list[Figures]) -> Figures:
    return {
        name: _medians([one[name] for one in rounds])
        if isinstance(value, Mapping)
        else statistics.median(one[name] for one in rounds)
        for name, value in rounds[0].items()
    }


def _with_ratios(found: Figures) -> Figures:
    """Each figure divided by what stands next to it."""
    floor = {f"{name}_to_floor_p50": found[f"{name}_ms"] / found["floor_p50_ms"] for name in ("p50", "p99")}
    peer = {
        f"{name}_to_debezium_{name}": found[f"{name}_ms"] / found[f"debezium_{name}_ms"]
        for name in ("p50", "p99")
        if f"debezium_{name}_ms" in found
    }
    return {name: round(ratio, 3) for name, ratio in {**floor, **peer}.items()} | found
