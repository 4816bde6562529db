"""`python -m perf snapshot`: the first fill of an empty read model, all tables at once."""

from __future__ import annotations

from typing import Any

from ops.stack.progress import say
from perf.dataset import load_posts, load_replies
from perf.projecting import backlog_stack, counters_are_exact, projecting

SHARE = {"posts": 0.2, "comments": 0.2, "likes": 0.6}


def snapshot(rows: int, seed: int) -> dict[str, Any]:
    """Raises StackError, RuntimeError."""
    with backlog_stack() as stack:
        url = stack.environment()["TIDEMARK_WRITER_MYSQL_URL"]
        say(f"writing {rows} rows")
        posts = round(rows * SHARE["posts"])
        load_posts(url, posts, seed)
        load_replies(url, posts, round(rows * SHARE["comments"]), round(rows * SHARE["likes"]), seed)
        say("taking a snapshot")
        with projecting(stack) as running:
            running.wait_until_caught_up()
            seconds = running.logged("snapshot done") - running.logged("snapshot begins")
            return {
                "rows": rows,
                "rows_per_s": round(rows / seconds),
                "peak_rss_mib": running.peak_rss_mib,
                "counters_exact": counters_are_exact(stack),
            }
