"""`python -m perf lag`: how long after its commit in MySQL a reader shows a transaction, under a steady load."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pymysql

from binlog_projector.domain.changes import Transaction
from binlog_projector.mysql.source import MySqlSource
from ops.stack.progress import say
from ops.stack.urls import mysql_arguments
from ops.system import System
from perf.dataset import load_posts
from perf.projector.projecting import wait_until_caught_up
from perf.projector.steady import MARKED, POSTS, MySqlLoad
from tidemark.gtid import GtidSet

MARK_EVERY = 25  # transactions: who asks for more of them takes time from what is measured
LOOK_SECONDS = 0.001  # between two questions
WARM_UP_SECONDS = 2.0
SERVER_ID = 7399
BODY = re.compile(rb'"body":"mark (\d+)"')


def lag(seconds: float, rate: int, seed: int) -> dict[str, Any]:
    """Raises StackError, RuntimeError."""
    with System(os.environ) as system:
        url = system.stack.environment()["TIDEMARK_WRITER_MYSQL_URL"]
        load_posts(url, POSTS, seed)
        wait_until_caught_up(system.stack)
        source = MySqlSource(system.stack.environment()["TIDEMARK_PROJECTOR_MYSQL_URL"], SERVER_ID)
        with source.session() as connection:
            before = source.clock(connection).executed
        written, shown = _run(system, url, seconds, rate, seed)
        committed = _commit_times(source, before, written)
    waits = sorted(1e3 * (shown[mark] - committed[mark]) for mark in shown if mark in committed)
    return {
        "p50_ms": round(waits[len(waits) // 2], 2),
        "p99_ms": round(waits[len(waits) * 99 // 100], 2),
        "transactions_per_s": round(written / seconds),
        "samples": len(waits),
    }


def _run(system: System, url: str, seconds: float, rate: int, seed: int) -> tuple[int, dict[int, float]]:
    """How many transactions were written, and when each mark was seen first."""
    say(f"{rate} transactions per second for {seconds:.0f} s")
    done, marks = threading.Event(), _Marks()
    load = MySqlLoad(system, rate * (1 - 1 / MARK_EVERY), seed)
    with ThreadPoolExecutor(1) as thread, load.running(seconds) as lanes:
        marked = thread.submit(_mark, url, rate / MARK_EVERY, marks, done)
        try:
            shown = _watch(system, marks, time.monotonic() + seconds)
        finally:
            done.set()
    return marked.result() + sum(lane.result() for lane in lanes), shown


@dataclass
class _Marks:
    """Updates of the marked post; `wanted` is the last one, from before it is sent."""

    wanted: int = -1


def _mark(url: str, rate: float, marks: _Marks, done: threading.Event) -> int:
    """Mark the post until it is done; how many marks there are."""
    number = 0
    with (
        pymysql.connect(**mysql_arguments(url), autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        begun = time.monotonic()
        while not done.is_set():
            marks.wanted = number
            cursor.execute("UPDATE posts SET body = %s WHERE id = %s", (f"mark {number}", MARKED))
            number += 1
            done.wait(max(0.0, begun + number / rate - time.monotonic()))
    return number


def _watch(system: System, marks: _Marks, until: float) -> dict[int, float]:
    """Ask for the marked post until it shows what is wanted: mark -> when an answer first showed it, or a later one."""
    shown: dict[int, float] = {}
    last, warm = -1, time.monotonic() + WARM_UP_SECONDS
    with _connection(system) as connection:
        headers = {"authorization": f"Bearer {system.token('perf-1')}"}
        while time.monotonic() < until:
            time.sleep(LOOK_SECONDS)
            if last < marks.wanted:
                connection.request("GET", f"/post/{MARKED}", headers=headers)
                found = BODY.search(connection.getresponse().read())
                now, mark = time.time(), int(found[1]) if found else last
                if time.monotonic() > warm:
                    shown |= dict.fromkeys(range(last + 1, mark + 1), now)
                last = mark
    return shown


@contextlib.contextmanager
def _connection(system: System) -> Iterator[http.client.HTTPConnection]:
    address = urlsplit(system.url("reader"))
    with contextlib.closing(
        http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)
    ) as connection:
        yield connection


class _Commits:
    """Receives the binlog once more: mark -> when MySQL committed it (seconds since 1970)."""

    def __init__(self) -> None:
        self.times: dict[int, float] = {}
        self.count = 0
        self.failed: Exception | None = None

    def add(self, transaction: Transaction) -> None:
        self.count += 1
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
        deadline = time.monotonic() + 120
        while commits.count < transactions:
            if commits.failed or time.monotonic() > deadline:
                raise RuntimeError(f"read {commits.count} of {transactions} transactions: {commits.failed}")
            time.sleep(0.05)
    return commits.times
