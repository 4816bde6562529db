"""`python -m perf growth`: rows per second at up to ten million rows, by the size of MongoDB's cache."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import redis
from pymongo import MongoClient

from ops.stack import Stack
from ops.stack.progress import say
from perf.dataset import load_posts
from perf.projector.backlog import executed
from perf.projector.performance import PAGE, conditions, row, text, write_place
from perf.projector.projecting import (
    Projecting,
    backlog_stack,
    counters_are_exact,
    projected,
    projecting,
    serving,
)
from perf.projector.replay import Replay
from perf.projector.workload import add_single_rows
from tidemark.gtid import GtidSet

CACHES_GB = (1.0, 8.0)
SIZES = (100_000, 1_000_000, 10_000_000)
SHORT_RUNS = 2  # of the first size alone, beside the whole: a run of seconds may be half as fast as the next
LOOK_SECONDS = 0.05
Figures = dict[str, Any]


def more_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cache-gb",
        type=float,
        nargs="+",
        default=CACHES_GB,
        help="of MongoDB; the same binlog is streamed for each (default: 1 8)",
    )


def growth(rows: int, seed: int, cache_gb: Sequence[float] = CACHES_GB) -> dict[str, Figures]:
    """Cache -> figures; they go to the page, too. Raises StackError, RuntimeError."""
    sizes = [*(size for size in SIZES if size < rows), rows]
    with backlog_stack() as stack:
        load_posts(stack.environment()["TIDEMARK_WRITER_MYSQL_URL"], 0, seed)
        with projecting(stack) as before:
            before.wait_until_caught_up()
        start, replay = executed(stack.environment()["TIDEMARK_PROJECTOR_MYSQL_URL"]), Replay(stack)
        began = time.monotonic()
        add_single_rows(stack, rows, seed)
        say(f"writing the binlog took {time.monotonic() - began:.0f} s")
        short: dict[float, list[int]] = {gb: [] for gb in cache_gb}
        for gb in [*cache_gb] * SHORT_RUNS:
            replay.restore(gb)
            with projecting(stack) as running:
                short[gb].append(_rates(running, start, sizes[:1])[sizes[0]])
        found = {}
        for gb in cache_gb:
            replay.restore(gb)
            found[f"{gb:g} GB"] = _whole(stack, start, sizes, short[gb])
    write_place(PAGE, "growth", table(found), conditions() | {"rows": f"{rows:,}"})
    return found


def table(found: Mapping[str, Figures]) -> str:
    """A line for each figure, a column for each cache."""
    names = next(iter(found.values()))
    return "\n".join(
        [
            row(["figure", *found]),
            row(["---", *("---:" for _ in found)]),
            *(row([f"`{name}`", *(text(figures[name]) for figures in found.values())]) for name in names),
        ]
    )


def _whole(stack: Stack, start: GtidSet, sizes: Sequence[int], short: Sequence[int]) -> Figures:
    """Of the whole backlog; its rate at the first size is the median with those of the `short` runs."""
    with projecting(stack) as running:
        rates = _rates(running, start, sizes)
        used = {"cpu_s": running.cpu_s, "peak_rss_mib": running.peak_rss_mib}
    rates[sizes[0]] = round(statistics.median([rates[sizes[0]], *short]))
    return {
        **{f"rows_per_s_at_{size}": rate for size, rate in rates.items()},
        **{f"ratio_at_{size}": round(rates[size] / rates[sizes[0]], 3) for size in sizes[1:]},
        **used,
        "likes_bytes": _bytes(stack, "likes"),
        "counters_exact": counters_are_exact(stack),
    }


def _rates(running: Projecting, start: GtidSet, sizes: Sequence[int]) -> dict[int, int]:
    """Size -> rows per second from the moment that it streams until Redis has so many rows, or a few more."""
    reached = {}
    with redis.Redis.from_url(running.stack.redis.admin_url) as cache:
        for size in sizes:
            say(f"projecting {size} rows")
            while (rows := _count(projected(cache) - start)) < size:
                running.check()
                time.sleep(LOOK_SECONDS)
            reached[size] = rows, time.time()
    began = running.logged("streaming")
    return {size: round(rows / (at - began)) for size, (rows, at) in reached.items()}


def _count(gtids: GtidSet) -> int:
    return sum(last - first + 1 for spans in gtids.intervals.values() for first, last in spans)


def _bytes(stack: Stack, name: str) -> int:
    """Of a collection and its indexes on disk."""
    with MongoClient[dict[str, Any]](stack.mongodb.admin_url) as mongodb:
        mongodb.admin.command("fsync")
        collection = serving(mongodb["tidemark"], name)
        stats = collection.database.command("collStats", collection.name)
    return int(stats["storageSize"] + stats["totalIndexSize"])
