"""`python -m perf snapshot`: the first fill of an empty read model, all tables at once."""

from __future__ import annotations

import statistics
from typing import Any

from ops.stack import Stack
from ops.stack.progress import say
from perf.dataset import load_posts, load_replies
from perf.projector import plain_bulk
from perf.projector.projecting import backlog_stack, counters_are_exact, projecting
from perf.projector.replay import Replay

ROUNDS = 3
SHARE = {"posts": 0.2, "comments": 0.2, "likes": 0.6}


def snapshot(rows: int, seed: int) -> dict[str, Any]:
    """Medians of three rounds in turn. Raises StackError, RuntimeError."""
    with backlog_stack() as stack:
        write_rows(stack.environment()["TIDEMARK_WRITER_MYSQL_URL"], rows, seed)
        replay = Replay(stack)
        rounds = [_round(stack, replay, rows) for _ in range(ROUNDS)]
    found: dict[str, Any] = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    return {
        "ours_to_copy_floor": round(found["rows_per_s"] / found["copy_floor_rows_per_s"], 3),
        **found,
        "rows": rows,
        "counters_exact": all(one["counters_exact"] for one in rounds),
    }


def _round(stack: Stack, replay: Replay, rows: int) -> dict[str, Any]:
    replay.restore()
    return {**measure(stack, rows), "copy_floor_rows_per_s": plain_bulk.copy(stack)}


def write_rows(url: str, rows: int, seed: int) -> None:
    say(f"writing {rows} rows")
    posts = round(rows * SHARE["posts"])
    load_posts(url, posts, seed)
    load_replies(url, posts, round(rows * SHARE["comments"]), round(rows * SHARE["likes"]), seed)


def measure(stack: Stack, rows: int) -> dict[str, Any]:
    """Of the snapshot that a projector begins with on stores that are empty."""
    say("taking a snapshot")
    with projecting(stack) as running:
        running.wait_until_caught_up()
        seconds = running.logged("snapshot done") - running.logged("snapshot begins")
        return {
            "rows_per_s": round(rows / seconds),
            "cpu_s": running.cpu_s,
            "peak_rss_mib": running.peak_rss_mib,
            "counters_exact": counters_are_exact(stack),
        }
