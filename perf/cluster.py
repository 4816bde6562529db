"""`python -m perf cluster`: one reader and one projector on a cluster, next to those on one Redis.

Two systems stand side by side, and take turns: the same posts, the same backlog, the same lanes.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pymysql

from binlog_projector.stores.cache import connect, read_watermark
from binlog_projector.stores.cache_topology import find_nodes
from ops.stack.progress import say
from ops.stack.urls import mysql_arguments
from ops.system import System
from perf.dataset import USERS, load_posts
from perf.measured import Measuring, Reader, in_rounds
from perf.pausing import services_paused
from perf.projector.steady import MySqlLoad
from perf.second_reader import WITHOUT_LOCAL, second_reader
from reader.read_model.shards import shards
from tidemark.gtid import EMPTY, GtidSet
from tidemark.redis_url import RedisUrl

POSTS = 10_000
FILL_SECONDS, BACKLOG_SECONDS = 5.0, 5.0
ROUNDS = 3
WITHIN_SECONDS = 300.0
Systems = Mapping[str, System]


def cluster(seconds: float, nodes: int, rate: float, seed: int) -> dict[str, Any]:
    """Figures of each system, and how the cluster's compare. Raises StackError, RuntimeError."""
    with (
        System(os.environ) as single,
        System(os.environ, cluster=("redis", nodes)) as many,
        tempfile.TemporaryDirectory() as folder,
    ):
        systems = {"single": single, "cluster": many}
        for system in systems.values():
            load_posts(system.stack.environment()["TIDEMARK_WRITER_MYSQL_URL"], POSTS, seed)
            _wait(system)
        found = _reads(systems, Path(folder), seconds)
        loads = {name: MySqlLoad(system, rate, seed) for name, system in systems.items()}
        rates = [
            {name: _project(system, loads[name]) for name, system in systems.items()} for _ in range(ROUNDS)
        ]
    rows = {name: round(statistics.median(one[name] for one in rates)) for name in systems}
    ratios = {
        f"{lane}_cpu_cluster_to_single": round(
            found[f"cluster_{lane}"]["cpu_us"] / found[f"single_{lane}"]["cpu_us"], 3
        )
        for lane in ("local", "redis", "list")
    }
    project = {"project_cluster_to_single": round(rows["cluster"] / rows["single"], 3)}
    return {
        **ratios,
        **project,
        **{f"{name}_project_rows_per_s": rate for name, rate in rows.items()},
        **found,
    }


def _reads(systems: Systems, folder: Path, seconds: float) -> dict[str, Any]:
    posts, users = _ids(folder / "posts", POSTS), _ids(folder / "users", USERS)
    lanes: dict[str, Measuring] = {}
    for name, system in systems.items():
        pid = system.children["reader"].identity.pid
        reader = Reader(system.url("reader"), system.admin_url("reader"), pid, system.token("perf-1"))
        second = second_reader(system, WITHOUT_LOCAL)
        bare = Reader(second.url, second.admin_url, second.child.identity.pid, reader.token)
        lanes[f"{name}_local"] = partial(reader.load, f"{name} local", posts)
        lanes[f"{name}_redis"] = partial(bare.load, f"{name} redis", posts)
        lanes[f"{name}_list"] = partial(bare.load, f"{name} list", users, path="/user/%s/posts")
    for lane in lanes.values():
        lane(FILL_SECONDS)
    return in_rounds(lanes, seconds)


def _project(system: System, load: MySqlLoad) -> float:
    """Rows per second of a backlog, one row in a transaction."""
    say("writing a backlog")
    with services_paused(system), load.running(BACKLOG_SECONDS) as lanes:
        pass
    begun = time.monotonic()
    _wait(system)
    return sum(lane.result() for lane in lanes) / (time.monotonic() - begun)


def _wait(system: System) -> None:
    """Until every shard has all present commits of MySQL."""
    urls = system.stack.environment()
    arguments = mysql_arguments(urls["TIDEMARK_PROJECTOR_MYSQL_URL"])
    with pymysql.connect(**arguments) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT @@global.gtid_executed")
        executed = GtidSet.parse(cursor.fetchall()[0][0])
    say("waiting for the projector")
    deadline = time.monotonic() + WITHIN_SECONDS
    url = RedisUrl.parse(urls["TIDEMARK_PROJECTOR_REDIS_URL"])
    every = shards(url.shards)
    for number, node in find_nodes(url).items():
        with connect(node) as client:
            while True:
                mark = read_watermark(client, every[number])
                if (GtidSet.parse(mark.gtid_set) if mark else EMPTY) >= executed:
                    break
                system.check()
                if time.monotonic() > deadline:
                    raise RuntimeError(f"the projector did not catch up in {WITHIN_SECONDS:g} s")
                time.sleep(0.01)


def _ids(path: Path, count: int) -> Path:
    path.write_text("".join(f"{id}\n" for id in range(1, count + 1)))
    return path
