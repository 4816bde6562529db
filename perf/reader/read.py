"""`python -m perf read`: the limits of one reader process, next to other code with the same bytes."""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pymysql
import redis

from ops.stack.progress import say
from ops.stack.urls import mysql_arguments
from ops.system import System
from perf import wrk
from perf.dataset import USERS, load_posts
from perf.reader.others import Lane, Others, checked
from perf.reader.stampede import allow_files, ask_at_once
from perf.wrk import Load

HOT, COLD = 10_000, 20_000
COLD_PER_S = 3_000  # several times what was seen anywhere
ROUNDS = 3
FILL_SECONDS, FILL_WITHIN_SECONDS = 2.0, 240.0
WRITES_PER_S = 500
STAMPEDE = 1_000


def read(seconds: float, seed: int) -> dict[str, Any]:
    """All lanes in one run. Raises StackError, RuntimeError for failed requests."""
    allow_files(STAMPEDE)
    with System(os.environ) as system, tempfile.TemporaryDirectory() as folder:
        say(f"loading {HOT + COLD} posts")
        load_posts(system.stack.environment()["TIDEMARK_WRITER_MYSQL_URL"], HOT + COLD, seed)
        bench = Bench(system, Path(folder))
        bench.wait_until_caught_up()
        return bench.lanes(seconds)


class Bench:
    """The running system, files of ids for wrk, and one method per lane."""

    def __init__(self, system: System, folder: Path) -> None:
        self.system = system
        self.url = system.url("reader")
        self.token = system.token("perf-1")
        self.http = httpx2.Client(
            headers={"authorization": f"Bearer {self.token}"}, timeout=30, trust_env=False
        )
        self.hot = _ids(folder / "hot", 1, HOT)
        self.cold = _ids(folder / "cold", HOT + 1, COLD)
        self.reader_pid = system.children["reader"].identity.pid

    def wait_until_caught_up(self) -> None:
        """Until the last post is there to read."""
        say("waiting for the projector")
        deadline = time.monotonic() + 300
        while self.http.get(f"{self.url}/post/{HOT + COLD}").status_code != 200:
            if time.monotonic() > deadline:
                raise RuntimeError("the projector did not catch up within 300 s")
            time.sleep(0.2)

    def lanes(self, seconds: float) -> dict[str, Any]:
        """Lane -> figures."""
        found = self._hot_lanes(seconds)
        found["mongo"] = self._load("mongo", self.cold, min(seconds, COLD / COLD_PER_S))
        before = self._requests()
        with self._writes():
            found["under_writes"] = self._load(
                "under_writes", self.hot, seconds, delay_ms=_pace_ms(found["redis"])
            )
        hits, misses = self._requests_since(before)
        return {
            **{name: load.as_json() for name, load in found.items()},
            "under_writes": {
                **found["under_writes"].as_json(),
                "hit_ratio": round(hits / (hits + misses), 5),
            },
            "stampede": {"requests": STAMPEDE, "mongo_reads": self._stampede()},
        }

    def _hot_lanes(self, seconds: float) -> dict[str, Load]:
        """The lanes that are compared with each other."""
        body = self.http.get(f"{self.url}/post/1").content
        others = Others(self.system, self.hot, self.token, body)
        with others.entries(HOT), others.lane("constant") as constant, others.lane("naive") as naive:
            self._fill()
            lanes: dict[str, Lane] = {
                "constant": constant,
                "redis": lambda seconds: self._load("redis", self.hot, seconds),
                "not_modified": lambda seconds: self._load(
                    "not_modified", self.hot, seconds, header="If-None-Match: *"
                ),
                "naive": naive,
            }
            return in_rounds(lanes, seconds)

    def _fill(self) -> None:
        """Ask for the hot posts until all of them come from Redis."""
        deadline = time.monotonic() + FILL_WITHIN_SECONDS
        while time.monotonic() < deadline:
            before = self._requests()
            self._load("fill", self.hot, FILL_SECONDS)
            hits, misses = self._requests_since(before)
            if hits > HOT and not misses:
                return
        raise RuntimeError(
            f"after {FILL_WITHIN_SECONDS:g} s some of {HOT} posts still did not come from Redis"
        )

    def _load(self, lane: str, ids: Path, seconds: float, *, header: str = "", delay_ms: int = 0) -> Load:
        """Load on the reader."""
        say(f"{lane}, {seconds:.0f} s")
        return checked(
            wrk.run(self.url, self.reader_pid, ids, self.token, seconds, header=header, delay_ms=delay_ms)
        )

    @contextlib.contextmanager
    def _writes(self) -> Iterator[None]:
        """WRITES_PER_S likes per second of the hot posts, one transaction each."""
        done = threading.Event()
        thread = threading.Thread(target=self._write, args=(done,))
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _write(self, done: threading.Event) -> None:
        url = self.system.stack.environment()["TIDEMARK_WRITER_MYSQL_URL"]
        with (
            pymysql.connect(**mysql_arguments(url), autocommit=True) as connection,
            connection.cursor() as cursor,
        ):
            started, count = time.monotonic(), 0
            while not done.is_set():
                post, user = count * 7919 % HOT + 1, count // HOT % USERS + 1
                cursor.execute("INSERT IGNORE INTO likes (post_id, user_id) VALUES (%s, %s)", (post, user))
                count += 1
                done.wait(max(0.0, started + count / WRITES_PER_S - time.monotonic()))

    def _stampede(self) -> int:
        """Reads of MongoDB for one post that left the cache and that many clients ask for at once."""
        with redis.Redis.from_url(self.system.stack.redis.admin_url) as client:
            client.delete(*client.scan_iter(match="tidemark:e*:post:1", count=10_000))
        before = self._metrics()
        say(f"stampede, {STAMPEDE} requests at once")
        ask_at_once(self.url, "/post/1", self.token, STAMPEDE)
        name = 'tidemark_cache_requests_total{entity="post",layer="mongo",result="hit"}'
        return int(self._metrics().get(name, 0) - before.get(name, 0))

    def _requests(self) -> Mapping[str, float]:
        return {
            name: value
            for name, value in self._metrics().items()
            if name.startswith("tidemark_cache_requests")
        }

    def _requests_since(self, before: Mapping[str, float]) -> tuple[float, float]:
        """(hits, others) of Redis for posts."""
        now = {name: value - before.get(name, 0) for name, value in self._requests().items()}
        posts = {
            name: value for name, value in now.items() if 'entity="post"' in name and 'layer="redis"' in name
        }
        hits = sum(value for name, value in posts.items() if 'result="hit"' in name)
        return hits, sum(posts.values()) - hits

    def _metrics(self) -> dict[str, float]:
        lines = self.http.get(f"{self.system.admin_url('reader')}/metrics").text.splitlines()
        samples = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}


def in_rounds(lanes: Mapping[str, Lane], seconds: float) -> dict[str, Load]:
    """Each lane's round of median throughput. Other work of the machine meets all lanes alike."""
    rounds = [{name: lane(seconds / ROUNDS) for name, lane in lanes.items()} for _ in range(ROUNDS)]
    middle = statistics.median_low
    return {
        name: next(
            one[name] for one in rounds if one[name].rps == middle([each[name].rps for each in rounds])
        )
        for name in lanes
    }


def _pace_ms(fastest: Load) -> int:
    """The pause of each connection for half as many requests; answers then take about half as long."""
    cycle_ms = 2 * 1000 * wrk.CONNECTIONS / fastest.rps
    return max(1, round(cycle_ms - fastest.p50_ms / 2))


def _ids(path: Path, first: int, count: int) -> Path:
    path.write_text("".join(f"{id}\n" for id in range(first, first + count)))
    return path
