"""Under a steady load one post is marked with a number again and again: how late is each mark shown?"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import pymysql

from binlog_projector.domain.changes import Transaction
from binlog_projector.mysql.source import MySqlSource
from ops.stack.progress import say
from ops.stack.urls import mysql_arguments
from ops.system import System
from perf.projector.steady import MARKED, MySqlLoad
from tidemark.gtid import GtidSet

MARK_EVERY = 25  # transactions: who asks for more of them takes time from what is measured
LOOK_SECONDS = 0.001  # between two questions
WARM_UP_SECONDS = 2.0  # of each run
SERVER_ID = 7399
READ_WITHIN_SECONDS = 120.0
Ask = Callable[[], int | None]  # the mark that is shown now


@dataclass(frozen=True)
class Waits:
    """Milliseconds from commit to sight, sorted, and how many transactions were written meanwhile."""

    ms: list[float]
    transactions: int

    def percentile(self, percent: int) -> float:
        return round(self.ms[len(self.ms) * percent // 100], 2)


class MarkedLoad:
    """`rate` transactions per second; each MARK_EVERY-th marks the post. Marks go on from run to run."""

    def __init__(self, system: System, rate: float, seed: int) -> None:
        self.marks_per_s = rate / MARK_EVERY
        self.last = -1  # mark, from before it is sent
        self._load = MySqlLoad(system, rate - self.marks_per_s, seed)
        urls = system.stack.environment()
        self._url = urls["TIDEMARK_WRITER_MYSQL_URL"]
        self._source = MySqlSource(urls["TIDEMARK_PROJECTOR_MYSQL_URL"], SERVER_ID)

    @contextlib.contextmanager
    def running(self, seconds: float) -> Iterator[list[Future[int]]]:
        """Futures of how many transactions each connection wrote."""
        with ThreadPoolExecutor(1) as thread, self._load.running(seconds) as lanes:
            yield [*lanes, thread.submit(self._mark, seconds)]

    def waits(self, seconds: float, ask: Ask) -> Waits:
        """Ask again and again while the load runs. Raises RuntimeError if nothing is shown."""
        with self._source.session() as connection:
            before = self._source.clock(connection).executed
        with self.running(WARM_UP_SECONDS + seconds) as lanes:
            shown = self._watch(seconds, ask)
        written = sum(lane.result() for lane in lanes)
        committed = _commit_times(self._source, before, written)
        waits = sorted(1e3 * (shown[mark] - committed[mark]) for mark in shown if mark in committed)
        if not waits:
            raise RuntimeError(f"no mark was shown in {seconds:g} s")
        return Waits(waits, written)

    def _mark(self, seconds: float) -> int:
        number = 0
        with (
            pymysql.connect(**mysql_arguments(self._url), autocommit=True) as connection,
            connection.cursor() as cursor,
        ):
            begun = time.monotonic()
            while (now := time.monotonic() - begun) < seconds:
                time.sleep(max(0.0, number / self.marks_per_s - now))
                self.last += 1
                cursor.execute("UPDATE posts SET body = %s WHERE id = %s", (f"mark {self.last}", MARKED))
                number += 1
        return number

    def _watch(self, seconds: float, ask: Ask) -> dict[int, float]:
        """Mark -> when an answer first showed it, or a later one (seconds since 1970)."""
        shown: dict[int, float] = {}
        last, warm = self.last, time.monotonic() + WARM_UP_SECONDS
        while time.monotonic() < warm + seconds:
            time.sleep(LOOK_SECONDS)
            if last < self.last and (mark := ask()) is not None:
                now = time.time()
                if time.monotonic() > warm:
                    shown |= dict.fromkeys(range(last + 1, mark + 1), now)
                last = mark
        return shown


class _Commits:
    """Receives the binlog once more: mark -> when MySQL committed it (seconds since 1970)."""

    def __init__(self) -> None:
        self.times: dict[int, float] = {}
        self.count = 0
        self.failed: Exception | None = None

    def add(self, transaction: Transaction) -> None:
        self.count += bool(transaction.changes)  # not those of others
        for change in transaction.changes:
            if change.table == "posts" and change.after is not None and change.after["id"] == MARKED:
                self.times[int(change.after["body"].split()[1])] = transaction.immediate_commit_us / 1e6

    def fail(self, error: Exception) -> None:
        self.failed = error


def _commit_times(source: MySqlSource, after: GtidSet, transactions: int) -> dict[int, float]:
    say("reading the commit times from the binlog")
    commits = _Commits()
    with contextlib.closing(source.stream(after, None)) as stream:
        stream.start(commits)
        deadline = time.monotonic() + READ_WITHIN_SECONDS
        while commits.count < transactions:
            if commits.failed or time.monotonic() > deadline:
                raise RuntimeError(f"read {commits.count} of {transactions} transactions: {commits.failed}")
            time.sleep(0.05)
    return commits.times
