"""Numbered writes and reads during a fault: no answer may be older than its own `as-of`."""

from __future__ import annotations

import itertools
import random
import re
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

import httpx2

from binlog_projector.mysql.connections import Connection, query_value
from ops.stack import Stack
from tests.reader.conftest import RunningReader
from tests.support.harness import admin_connection, run_sql, wait_until

POSTS = range(9_001, 9_009)
ABSENT = 0
WRITE_SECONDS, READ_SECONDS = 0.05, 0.025  # between two of them
AS_OF = re.compile(r'as-of="([^"]+)"')
HITS = ("local; hit", "redis; hit")


@dataclass(frozen=True)
class Written:
    """From `by` on (MySQL's clock) the post holds this number or a higher one."""

    number: int
    by: datetime


@dataclass(frozen=True)
class Read:
    """A post's number in an answer, and the answer's own claims. `at`: by the monotonic clock."""

    post: int
    number: int
    as_of: datetime
    origin: str
    at: float


class Witness:
    """Writes ever higher numbers into a few posts and reads them through a reader, until its block ends."""

    numbers: ClassVar = itertools.count(1)  # never used again, not even by the next test

    def __init__(self, stack: Stack, reader: RunningReader) -> None:
        self.stack = stack
        self.reader = reader
        self.written: dict[int, list[Written]] = defaultdict(list)
        self.reads: list[Read] = []
        self.unanswered: Counter[int] = Counter()
        self.stopping = threading.Event()
        self.threads = ThreadPoolExecutor(2, "witness")
        self.running: list[Future[None]] = []

    def __enter__(self) -> Witness:
        self.running = [self.threads.submit(self._write), self.threads.submit(self._read)]
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self.stopping.set()
        self.threads.shutdown()
        if error is None:
            self.stop()
            print(f"{len(self.reads):,} answers: none was older than its bound")

    def stop(self) -> None:
        """Ends writing and reading, and judges the answers."""
        self.stopping.set()
        for thread in self.running:
            thread.result()
        self.check()

    def check(self) -> None:
        """Every answer contains all commits up to its own `as-of`. Only a 503 has none."""
        assert self.reads, "nothing was read"
        for read in self.reads:
            due = [written.number for written in self.written[read.post] if written.by <= read.as_of]
            assert read.number >= max(due, default=ABSENT), (
                f"{read} is older than its bound: {due[-1]} was due"
            )
        assert set(self.unanswered) <= {503}, f"answers by status, without a bound: {self.unanswered}"

    def wait_until_fresh(self, connection: Connection, seconds: float = 30) -> None:
        """Waits for an answer from the cache that contains every commit made before this call."""
        now = clock(connection)
        wait_until(
            lambda: any(read.as_of >= now and read.origin in HITS for read in self.reads[-200:]),
            f"an answer from the cache that is complete as of {now}",
            seconds,
        )

    def _write(self) -> None:
        chance = random.Random(1)
        with admin_connection(self.stack) as connection:
            posts = itertools.chain(POSTS, iter(lambda: chance.choice(POSTS), None))
            while not self.stopping.wait(WRITE_SECONDS):
                self._write_number(connection, next(posts), next(self.numbers))

    def _write_number(self, connection: Connection, post: int, number: int) -> None:
        body = f"'number {number}'"
        run_sql(
            connection,
            f"INSERT INTO posts (id, author_id, body) VALUES ({post}, 1, {body})"
            f" ON DUPLICATE KEY UPDATE body = {body}",
        )
        self.written[post].append(Written(number, clock(connection)))

    def _read(self) -> None:
        chance = random.Random(2)
        with self.reader.client() as client:
            while not self.stopping.wait(READ_SECONDS):
                post = chance.choice(POSTS)
                self._note(post, client.get(f"/post/{post}"))

    def _note(self, post: int, answer: httpx2.Response) -> None:
        bound = AS_OF.match(answer.headers.get("freshness", ""))
        if answer.status_code not in (200, 404) or bound is None:
            self.unanswered[answer.status_code] += 1
            return
        number = int(answer.json()["body"].split()[1]) if answer.status_code == 200 else ABSENT
        as_of = datetime.fromisoformat(bound[1]).replace(tzinfo=None)
        origin = answer.headers["cache-status"]
        self.reads.append(Read(post, number, as_of, origin, time.monotonic()))


def clock(connection: Connection) -> datetime:
    """MySQL's clock, in UTC."""
    now: datetime = query_value(connection, "SELECT NOW(6)")
    return now
