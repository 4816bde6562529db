"""Writes straight to MySQL at an even rate, one transaction each."""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pymysql
from pymysql.cursors import Cursor

from ops.stack.urls import mysql_arguments

CONNECTIONS = 4  # one alone waits for the disk at each commit
Write = Callable[[Cursor, random.Random], None]


@dataclass
class Written:
    """The number of writes, and the seconds that they took; known when the block has ended."""

    writes: int = 0
    seconds: float = 0.0

    @property
    def per_s(self) -> float:
        return round(self.writes / max(0.001, self.seconds), 1)


@contextlib.contextmanager
def steadily(url: str, rate: float, seed: int, write: Write) -> Iterator[Written]:
    """Call `write` `rate` times a second while the block runs. Raises the error that ended it."""
    found, done, began = Written(), threading.Event(), time.monotonic()
    if not rate:
        yield found
        return
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        under_way = [
            threads.submit(_write, url, rate / CONNECTIONS, done, random.Random(f"{seed} {number}"), write)
            for number in range(CONNECTIONS)
        ]
        try:
            yield found
        finally:
            done.set()
        found.writes = sum(each.result() for each in under_way)
        found.seconds = time.monotonic() - began


def _write(url: str, rate: float, done: threading.Event, chance: random.Random, write: Write) -> int:
    began = time.monotonic()
    with (
        pymysql.connect(**mysql_arguments(url), autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        for count in itertools.count():
            if done.wait(max(0.0, began + count / rate - time.monotonic())):
                return count
            write(cursor, chance)
    raise AssertionError("counting has no end")
