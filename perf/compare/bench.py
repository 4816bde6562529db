"""The measurements: what is done to one lane at a time, while the others are idle or paused."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pymysql
from redis import Redis

from ops.stack.urls import mysql_arguments
from ops.system import System
from perf import wrk
from perf.baseline.cache_aside import PREFIX
from perf.baseline.counters import recount
from perf.baseline.lanes import LANES
from perf.compare import jmeter
from perf.compare.contenders import Contender, machine_for
from perf.compare.crowd import Crowd
from perf.compare.jmeter import LoadFailed, Plan, Samples
from perf.compare.meters import Meters, Reading, Timeline, since
from perf.compare.options import Options
from perf.compare.writing import Book, Written, writes
from perf.wrk import Load

PICKS = 10_000
WARM_UP_PASSES, WARM_UP_SECONDS = 12, 2.0  # of wrk, at most


@dataclass(frozen=True)
class Measured:
    """One lane under wrk: load, work of the stores, CPU by process, and how often Redis had the post."""

    load: Load
    stores: Reading
    cpu: Reading
    hits: float
    misses: float
    written: Written | None = None

    @property
    def hit_ratio(self) -> float | None:
        looked_up = self.hits + self.misses
        return self.hits / looked_up if looked_up else None


@dataclass(frozen=True)
class Turn:
    """A lane's turn: hot reads, then the same while the same posts are written to."""

    hot: Measured
    written: Measured
    lag: Reading


class Bench:
    """A running system with its dataset, and one method per kind of measurement."""

    def __init__(
        self, system: System, crowd: Crowd, options: Options, folder: Path, timeline: Timeline
    ) -> None:
        self._system = system
        self._crowd = crowd
        self._options = options
        self._folder = folder
        self._timeline = timeline
        self._meters = Meters(system)
        self._mysql_url = f"{system.stack.mysql.admin_url}tidemark"
        self._token = system.token("perf-1")
        reads = crowd.picks(PICKS, "reads")
        self._ids = _id_file(folder / "reads", reads)
        self._distinct = _id_file(folder / "distinct", list(dict.fromkeys(reads)))
        self._book = Book(likes_by_post(self._mysql_url))

    def close(self) -> None:
        self._meters.close()

    def turn(self, lane: Contender) -> Turn:
        """Warm up, then measure both kinds of load."""
        with machine_for(lane, self._system):
            self._prepare(lane)
            self._timeline.note(lane.name, "hot reads")
            hot = self._measured(lane)
            self._timeline.note(lane.name, "reads under writes")
            before = self._lag(lane)
            under = self._under_writes(lane, self._options.writes)
            lag = since(before, self._lag(lane))
            self._timeline.note("", "")
        return Turn(hot, under, lag)

    def reads(self, lane: Contender, writes_per_s: float) -> Measured:
        """One point of a sweep."""
        with machine_for(lane, self._system):
            self._prepare(lane)
            return self._under_writes(lane, writes_per_s) if writes_per_s else self._measured(lane)

    def _under_writes(self, lane: Contender, writes_per_s: float) -> Measured:
        with writes(lane, self._crowd, self._book, writes_per_s, self._system.token) as written:
            under = self._measured(lane)
        return replace(under, written=written)

    def paced(self, lane: Contender, rate: float) -> Samples:
        """GET /post/{id} at one rate for every lane, without the first seconds."""
        threads = self._options.threads
        iterations = math.ceil(rate * (self._options.warm_up + self._options.duration) / threads)
        plan = Plan("get_post", lane.read_url, threads, iterations, rate, self._ids)
        return self._jmeter(lane, plan, "paced reads").after(self._options.warm_up)

    def posts(self, lane: Contender) -> Samples:
        """POST /post as fast as the threads can."""
        return self._jmeter(
            lane, Plan("post_post", lane.write_url, self._options.threads, self._options.iterations), "posts"
        )

    def mixed(self, lane: Contender) -> Samples:
        """95 % GET /post/{id}, 5 % POST /post, as fast as the threads can."""
        options = self._options
        iterations = options.iterations * 4
        plan = Plan("mixed", lane.read_url, options.threads, iterations, 0, self._ids, lane.write_url)
        return self._jmeter(lane, plan, "95 % reads, 5 % writes")

    def feeds(self, lane: Contender) -> Samples:
        """GET /feed of many callers in turn, as fast as the threads can."""
        options = self._options
        tokens = [self._system.token(f"perf-{user}") for user in self._crowd.feed_callers]
        callers = _id_file(self._folder / "callers", tokens)
        warming = _id_file(self._folder / "warming", [f"feed {token}" for token in tokens])
        with machine_for(lane, self._system):
            seconds = min(WARM_UP_SECONDS, options.warm_up)
            wrk.run(lane.read_url, lane.reader.pid, warming, self._token, seconds, path="/%s")
        plan = Plan("get_feed", lane.read_url, options.threads, options.iterations, tokens=callers)
        return self._jmeter(lane, plan, "feeds")

    def samples(self, lane: str, plan: str) -> Path:
        """JMeter's own file of a run."""
        return self._folder / f"{plan}-{lane}" / "samples.jtl"

    def _jmeter(self, lane: Contender, plan: Plan, phase: str) -> Samples:
        folder = self.samples(lane.name, plan.name).parent
        folder.mkdir()
        with machine_for(lane, self._system):
            self._prepare(lane)
            self._timeline.note(lane.name, phase)
            samples = jmeter.run(plan, self._token, folder)
            self._timeline.note("", "")
        return samples

    def _prepare(self, lane: Contender) -> None:
        """Catch up with the writes of the other lanes, then fill the cache or warm up."""
        if lane.name in LANES and LANES[lane.name].liked:
            recount(self._mysql_url)
        if lane.name in LANES and LANES[lane.name].cached:
            with Redis.from_url(self._system.stack.redis.admin_url) as redis:
                for key in redis.scan_iter(match=f"{PREFIX}*", count=1000):
                    redis.unlink(key)
        for _ in range(WARM_UP_PASSES):
            if not self._pass(lane, self._distinct, min(WARM_UP_SECONDS, self._options.warm_up)).misses:
                return

    def _measured(self, lane: Contender) -> Measured:
        return self._pass(lane, self._ids, self._options.duration)

    def _pass(self, lane: Contender, ids: Path, seconds: float) -> Measured:
        hits, stores, cpu = self._hits(lane), self._meters.stores(), self._meters.cpu(lane)
        load = wrk.run(lane.read_url, lane.reader.pid, ids, self._token, seconds)
        spent = since(cpu, self._meters.cpu(lane))
        done, found = since(stores, self._meters.stores()), since(hits, self._hits(lane))
        if load.failed or not load.requests:
            raise LoadFailed(f"{lane.name}: {load.failed} of {load.requests} requests failed")
        return Measured(load, done, spent, found["hits"], found["misses"])

    def _hits(self, lane: Contender) -> Reading:
        """Counts of the reader, which tells posts from authors. Counts of Redis, if it holds posts only."""
        if lane.metrics_url:
            return self._meters.reader(lane.metrics_url)
        stores = self._meters.stores()
        return {"hits": stores["redis_hits"], "misses": stores["redis_misses"]}

    def _lag(self, lane: Contender) -> Reading:
        return self._meters.projector_lag() if lane.metrics_url else {}


@contextlib.contextmanager
def bench(
    system: System, crowd: Crowd, options: Options, folder: Path, timeline: Timeline
) -> Iterator[Bench]:
    """A bench for a system whose dataset is loaded and projected."""
    with contextlib.closing(Bench(system, crowd, options, folder, timeline)) as found:
        yield found


def likes_by_post(mysql_url: str) -> dict[int, int]:
    """Likes by post, from MySQL."""
    with pymysql.connect(**mysql_arguments(mysql_url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT p.id, (SELECT COUNT(*) FROM likes WHERE post_id = p.id) FROM posts p")
        return {int(post): int(likes) for post, likes in cursor.fetchall()}


def _id_file(path: Path, ids: Sequence[int | str]) -> Path:
    path.write_text("".join(f"{id}\n" for id in ids))
    return path
