"""`python -m perf read`: the limits of one reader process, next to other code with the same bytes."""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pymysql
import redis

from ops.stack.progress import say
from ops.stack.urls import mysql_arguments
from ops.system import System
from perf.dataset import USERS, load_posts
from perf.measured import Measuring, Reader, in_rounds, pace_ms
from perf.open_files import allow_files
from perf.reader.others import Lane, Others
from perf.reader.stampede import ask_at_once
from perf.second_reader import WITHOUT_LOCAL, second_reader

HOT, COLD = 10_000, 20_000
COLD_PER_S = 3_000  # several times what was seen anywhere
FILL_SECONDS = 6.0
WRITES_PER_S = 500
STAMPEDE = 1_000
LIKE = "INSERT IGNORE INTO likes (post_id, user_id) VALUES (%s, %s)"
UNLIKE = "DELETE FROM likes WHERE post_id = %s AND user_id = %s"


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
        self.token = system.token("perf-1")
        self.http = httpx2.Client(
            headers={"authorization": f"Bearer {self.token}"}, timeout=30, trust_env=False
        )
        self.ids = {
            "all": _ids(folder / "hot", 1, HOT),
            "one": _ids(folder / "one", 1, 1),
            "users": _ids(folder / "users", 1, USERS),
            "cold": _ids(folder / "cold", HOT + 1, COLD),
        }
        pid = system.children["reader"].identity.pid
        self.reader = Reader(system.url("reader"), system.admin_url("reader"), pid, self.token)

    def wait_until_caught_up(self) -> None:
        """Until the last post is there to read."""
        say("waiting for the projector")
        deadline = time.monotonic() + 300
        while self.http.get(f"{self.reader.url}/post/{HOT + COLD}").status_code != 200:
            if time.monotonic() > deadline:
                raise RuntimeError("the projector did not catch up within 300 s")
            time.sleep(0.2)

    def lanes(self, seconds: float) -> dict[str, Any]:
        """Lane -> figures."""
        body = self.http.get(f"{self.reader.url}/post/1").content
        others = Others(self.system, self.ids["all"], self.token, body)
        second = second_reader(self.system, WITHOUT_LOCAL)
        without_local = Reader(second.url, second.admin_url, second.child.identity.pid, self.token)
        with (
            others.entries(HOT),
            others.lane("constant") as constant,
            others.lane("naive") as naive,
        ):
            lanes: dict[str, Measuring] = {
                "constant": _plain(constant),
                "local": partial(self.reader.load, "local", self.ids["all"]),
                "local_hot": partial(self.reader.load, "local_hot", self.ids["one"]),
                "list": partial(self.reader.load, "list", self.ids["users"], path="/user/%s/posts"),
                "redis": partial(without_local.load, "redis", self.ids["all"]),
                "not_modified": partial(
                    self.reader.load, "not_modified", self.ids["all"], header="If-None-Match: *"
                ),
                "naive": _plain(naive),
            }
            for name in ("local", "list", "redis"):
                lanes[name](FILL_SECONDS)
            found = in_rounds(lanes, seconds)
            found |= self._under_writes(found, constant, seconds)
        cold_seconds = min(seconds, COLD / COLD_PER_S)
        found["mongo"] = self.reader.load("mongo", self.ids["cold"], cold_seconds)
        found["token"] = {"visible_p50_ms": self._visible_p50_ms(seconds)}
        found["stampede"] = {"requests": STAMPEDE, "mongo_reads": self._stampede(without_local)}
        return found

    def _under_writes(self, found: Mapping[str, Any], constant: Lane, seconds: float) -> dict[str, Any]:
        """Reads at half of the pace of `local`, while the same posts or one post get likes.

        The constant route is measured both alone and beside the writes: MySQL, MongoDB and the projector
        share the machine with the reader.
        """
        pace = pace_ms(found["local"])
        lanes: dict[str, Any] = {"constant_paced": constant(seconds, delay_ms=pace).as_json()}
        with self._writes(HOT):
            lanes["constant_paced_beside_writes"] = constant(seconds, delay_ms=pace).as_json()
            lanes["under_writes"] = self.reader.load("under_writes", self.ids["all"], seconds, delay_ms=pace)
        with self._writes(1, first=2):
            lanes["constant_beside_writes"] = constant(seconds).as_json()
            lanes["hot_beside_writes"] = self.reader.load("hot_beside_writes", self.ids["one"], seconds)
        with self._writes(1):
            lanes["hot_under_writes"] = self.reader.load("hot_under_writes", self.ids["one"], seconds)
        return lanes

    def _visible_p50_ms(self, seconds: float) -> float:
        """A closed loop of a like, and a read with its token: the read's time."""
        times: list[float] = []
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            post = len(times) % HOT + 1
            token = self.http.put(f"{self.system.url('writer')}/post/{post}/like").headers[
                "consistency-token"
            ]
            started = time.monotonic()
            answer = self.http.get(f"{self.reader.url}/post/{post}", headers={"consistency-token": token})
            times.append((time.monotonic() - started) * 1000)
            if answer.status_code != 200:
                raise RuntimeError(f"a read with a token got {answer.status_code}")
        return round(statistics.median(times), 2)

    @contextlib.contextmanager
    def _writes(self, posts: int, first: int = 1) -> Iterator[None]:
        """WRITES_PER_S likes or unlikes per second of `posts` posts, one transaction each."""
        done = threading.Event()
        thread = threading.Thread(target=self._write, args=(done, posts, first))
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _write(self, done: threading.Event, posts: int, first: int) -> None:
        url = self.system.stack.environment()["TIDEMARK_WRITER_MYSQL_URL"]
        with (
            pymysql.connect(**mysql_arguments(url), autocommit=True) as connection,
            connection.cursor() as cursor,
        ):
            started, count = time.monotonic(), 0
            while not done.is_set():
                post, turn = count * 7919 % posts + first, count // posts
                likes = turn // USERS % 2 == 0
                cursor.execute(LIKE if likes else UNLIKE, (post, turn % USERS + 1))
                count += 1
                done.wait(max(0.0, started + count / WRITES_PER_S - time.monotonic()))

    def _stampede(self, reader: Reader) -> int:
        """Reads of MongoDB for one post that left Redis and that many clients ask for at once."""
        with redis.Redis.from_url(self.system.stack.redis.admin_url) as client:
            client.delete(*client.scan_iter(match="tidemark:e*:post:1", count=10_000))
        before = reader.counts()
        say(f"stampede, {STAMPEDE} requests at once")
        ask_at_once(reader.url, "/post/1", self.token, STAMPEDE)
        return int(reader.counts().get("misses", 0) - before.get("misses", 0))


def _plain(lane: Lane) -> Measuring:
    return lambda seconds: lane(seconds).as_json()


def _ids(path: Path, first: int, count: int) -> Path:
    path.write_text("".join(f"{id}\n" for id in range(first, first + count)))
    return path
