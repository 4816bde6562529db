"""`python -m perf growth`: what a row costs when there are ten times as many; one line on the page per size."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import redis
from pymongo import MongoClient

from ops.stack import Stack
from perf.dataset import load_posts
from perf.projector import project, snapshot
from perf.projector.backlog import Backlog, executed
from perf.projector.performance import PAGE, conditions, read_place, row, text, write_place
from perf.projector.projecting import backlog_stack, counters_are_exact, projecting
from perf.projector.workload import add_single_rows

FIGURES = (
    "rows",
    "decode_rows_per_s",
    "decode_cpu_s",
    "project_rows_per_s",
    "project_cpu_s",
    "project_peak_rss_mib",
    "snapshot_rows_per_s",
    "snapshot_cpu_s",
    "snapshot_peak_rss_mib",
    "counters_exact",
)
LINE = re.compile(r"\| ([\d,]+) \|.*")


def growth(rows: int, seed: int) -> dict[str, Any]:
    """Raises StackError, RuntimeError."""
    found: dict[str, Any] = {"rows": rows}
    with backlog_stack() as stack:
        found |= _streamed(stack, rows, seed)
        found |= {f"snapshot_{name}": figure for name, figure in snapshot.measure(stack, rows).items()}
    found["counters_exact"] = all(figure for name, figure in found.items() if name.endswith("counters_exact"))
    add_line(PAGE, found, conditions())
    return {name: found[name] for name in FIGURES}


def add_line(page: Path, found: Mapping[str, Any], measured_on: Mapping[str, str]) -> None:
    """In the place of an earlier one for as many rows; the lines of other sizes stay."""
    lines = {match[1]: match[0] for match in LINE.finditer(read_place(page, "growth"))}
    lines[text(found["rows"])] = row(text(found[name]) for name in FIGURES)
    head = [row(f"`{name}`" for name in FIGURES), row("---:" for _ in FIGURES)]
    ordered = sorted(lines, key=lambda rows: int(rows.replace(",", "")))
    write_place(page, "growth", "\n".join([*head, *(lines[rows] for rows in ordered)]), measured_on)


def _streamed(stack: Stack, rows: int, seed: int) -> dict[str, Any]:
    """Each row in a transaction of its own, decoded and then projected; the read model is gone afterwards."""
    urls = stack.environment()
    load_posts(urls["TIDEMARK_WRITER_MYSQL_URL"], 0, seed)
    with projecting(stack) as before:
        before.wait_until_caught_up()
    start = executed(urls["TIDEMARK_PROJECTOR_MYSQL_URL"])
    add_single_rows(urls["TIDEMARK_WRITER_MYSQL_URL"], rows, seed)
    backlog = Backlog(urls["TIDEMARK_PROJECTOR_MYSQL_URL"], start, rows)
    began, used = time.perf_counter(), time.process_time()
    backlog.count()
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - used
    with projecting(stack) as running:
        found = {
            "decode_rows_per_s": round(rows / seconds),
            "decode_cpu_s": round(cpu_s, 1),
            "project_rows_per_s": project.measure(running, rows),
            "project_cpu_s": running.cpu_s,
            "project_peak_rss_mib": running.peak_rss_mib,
            "project_counters_exact": counters_are_exact(stack),
        }
    _forget(stack)
    return found


def _forget(stack: Stack) -> None:
    """Empty MongoDB and Redis: the next projector begins with a snapshot."""
    with MongoClient[dict[str, Any]](stack.mongodb.admin_url) as mongodb:
        mongodb.drop_database("tidemark")
    with redis.Redis.from_url(stack.redis.admin_url) as cache:
        cache.flushall()
