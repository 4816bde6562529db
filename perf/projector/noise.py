"""`python -m perf noise`: what the projector pays for tables of others in the same MySQL.

Rounds in turn: a steady load alone, and the same beside a schema that is not ours and gets many rows.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pymysql

from ops.stack.progress import say
from ops.stack.urls import mysql_arguments
from ops.system import System
from perf.dataset import load_posts
from perf.projector.cpu import cpu_of
from perf.projector.lag import reader
from perf.projector.marks import MarkedLoad
from perf.projector.projecting import wait_until_caught_up
from perf.projector.steady import POSTS

ROUNDS = 3
CONNECTIONS = 4
ROWS = 50  # in a transaction
PREPARE = (
    "CREATE DATABASE noise",
    "CREATE TABLE noise.events (id BIGINT AUTO_INCREMENT PRIMARY KEY, at DATETIME(6), body VARCHAR(200))",
    "CREATE TABLE noise.some (body VARCHAR(200))",
)
Figures = dict[str, Any]


def noise(seconds: float, rate: int, rows: int, seed: int) -> Figures:
    """Medians of three rounds. `rows`: of others, each second. Raises StackError, RuntimeError."""
    with System(os.environ) as system:
        load_posts(system.stack.environment()["TIDEMARK_WRITER_MYSQL_URL"], POSTS, seed)
        others = Others(system, rows)
        wait_until_caught_up(system.stack)
        load = MarkedLoad(system, rate, seed)
        rounds: dict[str, list[Figures]] = {"quiet": [], "noisy": []}
        for number in range(1, ROUNDS + 1):
            for name, found in rounds.items():
                say(f"round {number} of {ROUNDS}: {name}, {rate} transactions per second")
                with others.writing() if name == "noisy" else contextlib.nullcontext():
                    found.append(_round(system, load, others, seconds / ROUNDS))
                wait_until_caught_up(system.stack, system.check)
    quiet, noisy = (
        {name: round(statistics.median(one[name] for one in found), 3) for name in found[0]}
        for found in rounds.values()
    )
    ratios = {f"{name}_noisy_to_quiet": round(noisy[name] / quiet[name], 3) for name in ("p50_ms", "p99_ms")}
    spent = noisy["projector_cores"] - quiet["projector_cores"]
    per_row = {"projector_us_per_row_of_others": round(1e6 * spent / max(1.0, noisy["others_rows_per_s"]), 2)}
    return {**ratios, **per_row, "quiet": quiet, "noisy": noisy}


def _round(system: System, load: MarkedLoad, others: Others, seconds: float) -> Figures:
    before, begun, rows = cpu_of(system), time.monotonic(), others.rows
    with reader(system) as ask:
        waits = load.waits(seconds, ask)
    took = time.monotonic() - begun
    return {
        "p50_ms": waits.percentile(50),
        "p99_ms": waits.percentile(99),
        "projector_cores": (cpu_of(system)["projector"] - before["projector"]) / took,
        "others_rows_per_s": (others.rows - rows) / took,
    }


class Others:
    """Inserts of ROWS rows a transaction, evenly spaced, into a schema of its own. `rows`: so far."""

    def __init__(self, system: System, rows_per_s: int) -> None:
        self.rows = 0
        self._pause = ROWS * CONNECTIONS / rows_per_s
        self._url = system.stack.mysql.admin_url
        with pymysql.connect(**mysql_arguments(self._url), autocommit=True) as connection:
            cursor = connection.cursor()
            for statement in PREPARE:
                cursor.execute(statement)
            cursor.executemany("INSERT INTO noise.some VALUES (%s)", [("x" * 100,)] * ROWS)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        ended = threading.Event()
        with ThreadPoolExecutor(CONNECTIONS) as threads:
            writers = [threads.submit(self._write, ended) for _ in range(CONNECTIONS)]
            try:
                yield
            finally:
                ended.set()
            for writer in writers:
                writer.result()

    def _write(self, ended: threading.Event) -> None:
        due = time.monotonic()
        with pymysql.connect(**mysql_arguments(self._url), autocommit=True) as connection:
            cursor = connection.cursor()
            while not ended.wait(max(0.0, due - time.monotonic())):
                cursor.execute("INSERT INTO noise.events (at, body) SELECT NOW(6), body FROM noise.some")
                self.rows += ROWS
                due += self._pause
