"""`python -m perf read`: what one reader process can do, next to what other code does with the same bytes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pymysql
import redis

from ops.stack.ports import free_port
from ops.stack.progress import say
from ops.stack.urls import mysql_arguments
from ops.system import System
from perf import wrk
from perf.dataset import USERS, load_posts
from perf.lanes import PREFIX
from perf.wrk import Load

HOT, COLD = 10_000, 60_000
STAMPEDE = 200
FILL_PASSES = 20
WRITES_PER_S = 500
ROOT = Path(__file__).parent.parent


def read(seconds: float, seed: int) -> dict[str, Any]:
    """All lanes, one after the other, in one run. Raises StackError, RuntimeError for failed requests."""
    with System(os.environ) as system, tempfile.TemporaryDirectory() as folder:
        say(f"loading {HOT + COLD} posts")
        load_posts(system.stack.environment()["TIDEMARK_WRITER_MYSQL_URL"], HOT + COLD, seed)
        bench = Bench(system, Path(folder), seconds)
        bench.wait_until_caught_up()
        return bench.lanes()


class Bench:
    """The running system, files of ids for wrk, and one method per lane."""

    def __init__(self, system: System, folder: Path, seconds: float) -> None:
        self.system = system
        self.seconds = seconds
        self.token = system.token("perf-1")
        self.http = httpx2.Client(headers={"authorization": f"Bearer {self.token}"}, timeout=30, trust_env=False)
        self.hot = _ids(folder / "hot", 1, HOT)
        self.cold = _ids(folder / "cold", HOT + 1, COLD)
        self.reader_pid = system.children["reader"].identity.pid

    def wait_until_caught_up(self) -> None:
        """Until the last post is there to read."""
        say("waiting for the projector")
        deadline = time.monotonic() + 300
        while self.http.get(f"{self.system.url('reader')}/post/{HOT + COLD - 1}").status_code != 200:
            if time.monotonic() > deadline:
                raise RuntimeError("the projector did not catch up within 300 s")
            time.sleep(0.2)

    def lanes(self) -> dict[str, Any]:
        url = self.system.url("reader")
        body = self.http.get(f"{url}/post/1").content
        found: dict[str, Load] = {"constant": self._other("constant", body)}
        self._fill(url)
        found["redis"] = self._load(url, self.hot, self.seconds)
        found["mongo"] = self._load(url, self.cold, self._cold_seconds())
        found["not_modified"] = self._load(url, self.hot, self.seconds, header="If-None-Match: *")
        found["naive"] = self._other("naive", body)
        before = self._requests()
        with self._writes():
            pace_ms = int(2000 * wrk.CONNECTIONS / found["redis"].rps)
            found["under_writes"] = self._load(url, self.hot, self.seconds, delay_ms=pace_ms)
        hits, misses = self._requests_since(before)
        return {
            **{name: load.as_json() for name, load in found.items()},
            "under_writes": {**found["under_writes"].as_json(), "hit_ratio": round(hits / (hits + misses), 5)},
            "stampede": {"requests": STAMPEDE, "mongo_reads": self._stampede()},
        }

    def _fill(self, url: str) -> None:
        """Ask for the hot posts until all of them come from Redis."""
        for _ in range(FILL_PASSES):
            before = self._requests()
            self._load(url, self.hot, self.seconds + 1)
            hits, misses = self._requests_since(before)
            if hits and not misses:
                return
        raise RuntimeError(f"after {FILL_PASSES} passes some of {HOT} posts still did not come from Redis")

    def _cold_seconds(self) -> float:
        """Short enough for no id to come twice even at three times the rate seen anywhere so far."""
        return min(self.seconds, COLD / 9_000)

    def _load(self, url: str, ids: Path, seconds: float, *, header: str = "", delay_ms: int = 0) -> Load:
        say(f"wrk: {url} for {seconds:.1f} s")
        return _checked(wrk.run(url, self.reader_pid, ids, self.token, seconds, header=header, delay_ms=delay_ms))

    def _other(self, lane: str, body: bytes) -> Load:
        """Another implementation with the same bytes."""
        with self._naive_entries(body), self._lane(lane, body) as (url, pid):
            say(f"wrk: {lane} for {self.seconds:.1f} s")
            return _checked(wrk.run(url, pid, self.hot, self.token, self.seconds))

    @contextlib.contextmanager
    def _lane(self, lane: str, body: bytes) -> Iterator[tuple[str, int]]:
        address = f"127.0.0.1:{free_port()}"
        environment = {
            **self.system.environment(),
            "PERF_BODY": body.decode(),
            "PERF_REDIS_URL": self.system.stack.redis.admin_url,
        }
        with subprocess.Popen(
            [sys.executable, "-m", "perf.lanes", lane, address], cwd=ROOT, env=environment
        ) as process:
            try:
                self._wait_for(f"http://{address}/post/1")
                yield f"http://{address}", process.pid
            finally:
                process.terminate()

    def _wait_for(self, url: str) -> None:
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(httpx2.TransportError):
                self.http.get(url)
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"nothing answers at {url}")
            time.sleep(0.05)

    @contextlib.contextmanager
    def _naive_entries(self, body: bytes) -> Iterator[None]:
        with redis.Redis.from_url(self.system.stack.redis.admin_url) as client:
            for id in range(1, HOT + 1):
                client.set(f"{PREFIX}{id}", body, ex=600)
            yield
            client.delete(*(f"{PREFIX}{id}" for id in range(1, HOT + 1)))

    @contextlib.contextmanager
    def _writes(self) -> Iterator[None]:
        """WRITES_PER_S likes and unlikes per second of the hot posts, one transaction each."""
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
        with pymysql.connect(**mysql_arguments(url), autocommit=True) as connection, connection.cursor() as cursor:
            started, count = time.monotonic(), 0
            while not done.is_set():
                post, user = count * 7919 % HOT + 1, count // HOT % USERS + 1
                cursor.execute("INSERT IGNORE INTO likes (post_id, user_id) VALUES (%s, %s)", (post, user))
                count += 1
                done.wait(max(0.0, started + count / WRITES_PER_S - time.monotonic()))

    def _stampede(self) -> int:
        """How often MongoDB was asked for one post when many asked for it at once after it had left the cache."""
        with redis.Redis.from_url(self.system.stack.redis.admin_url) as client:
            client.delete(*client.scan_iter(match="tidemark:e*:post:1", count=10_000))
        before = self._metrics()
        asyncio.run(self._ask_at_once())
        name = 'tidemark_cache_requests_total{entity="post",layer="mongo",result="hit"}'
        return int(self._metrics().get(name, 0) - before.get(name, 0))

    async def _ask_at_once(self) -> None:
        limits = httpx2.Limits(max_connections=STAMPEDE, max_keepalive_connections=STAMPEDE)
        headers = {"authorization": f"Bearer {self.token}"}
        async with httpx2.AsyncClient(limits=limits, headers=headers, timeout=30, trust_env=False) as http:
            url = f"{self.system.url('reader')}/post/1"
            answers = await asyncio.gather(*(http.get(url) for _ in range(STAMPEDE)))
        if {answer.status_code for answer in answers} != {200}:
            raise RuntimeError("a request of the stampede failed")

    def _requests(self) -> Mapping[str, float]:
        return {name: value for name, value in self._metrics().items() if name.startswith("tidemark_cache_requests")}

    def _requests_since(self, before: Mapping[str, float]) -> tuple[float, float]:
        """(hits, others) of Redis for posts."""
        now = {name: value - before.get(name, 0) for name, value in self._requests().items()}
        posts = {name: value for name, value in now.items() if 'entity="post"' in name and 'layer="redis"' in name}
        hits = sum(value for name, value in posts.items() if 'result="hit"' in name)
        return hits, sum(posts.values()) - hits

    def _metrics(self) -> dict[str, float]:
        lines = self.http.get(f"{self.system.admin_url('reader')}/metrics").text.splitlines()
        samples = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}


def _ids(path: Path, first: int, count: int) -> Path:
    path.write_text("".join(f"{id}\n" for id in range(first, first + count)))
    return path


def _checked(load: Load) -> Load:
    if load.failed or not load.requests:
        raise RuntimeError(f"{load.failed} of {load.requests} requests failed")
    return load
