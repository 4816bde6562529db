"""`python -m perf peers`: the same backlogs through Debezium's embedded engine and through ours."""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ops.stack import Stack
from ops.stack.progress import say
from perf.dataset import load_posts
from perf.projector.backlog import executed
from perf.projector.peers.debezium import Debezium
from perf.projector.peers.usage import Usage, used_by
from perf.projector.performance import PAGE, conditions, row, text, write_place
from perf.projector.projecting import backlog_stack, projecting
from perf.projector.workload import ROWS_AT_ONCE, add_many_rows, add_single_rows, add_updates

POSTS = 20_000  # to be updated
ROUNDS = 3
KINDS = {"": "one row each", "many_rows_": f"{ROWS_AT_ONCE} rows each", "updates_": "updates of one row"}
Fill = Callable[[Stack, int, int], None]  # rows, seed
Figures = dict[str, float]


def peers(rows: int, seed: int) -> dict[str, Any]:
    """Run them and write the page. Raises StackError, RuntimeError."""
    found = {
        **_median_of_rounds("", add_single_rows, rows, seed),
        **_median_of_rounds("many_rows_", _many_rows, rows, seed),
        **_median_of_rounds("updates_", _updates, rows // 2, seed),
    }
    write_place(PAGE, "peers", table(found), conditions() | {"rows": f"{rows:,}"})
    return found


def table(found: Mapping[str, Figures]) -> str:
    heads = ["transactions", "who", *(f"`{name}`" for name in found["ours"])]
    lines = [
        row([kind, who, *map(text, found[f"{prefix}{who}"].values())])
        for prefix, kind in KINDS.items()
        for who in ("ours", "debezium", "ratio")
    ]
    return "\n".join([row(heads), row(["---", "---", *("---:" for _ in found["ours"])]), *lines])


def _many_rows(stack: Stack, rows: int, seed: int) -> None:
    add_many_rows(_url(stack), rows // ROWS_AT_ONCE, seed)


def _updates(stack: Stack, rows: int, seed: int) -> None:
    add_updates(_url(stack), rows, seed, POSTS)


def _url(stack: Stack) -> str:
    return stack.environment()["TIDEMARK_WRITER_MYSQL_URL"]


def _median_of_rounds(prefix: str, fill: Fill, rows: int, seed: int) -> dict[str, Figures]:
    """One run of a few seconds may be half as fast as the next. `ratio`: ours divided by Debezium's."""
    rounds = [_compare(prefix, fill, rows, seed) for _ in range(ROUNDS)]
    found = {
        who: {name: statistics.median(one[who][name] for one in rounds) for name in figures}
        for who, figures in rounds[0].items()
    }
    ours, theirs = found[f"{prefix}ours"], found[f"{prefix}debezium"]
    return found | {f"{prefix}ratio": {name: round(ours[name] / theirs[name], 3) for name in ours}}


def _compare(prefix: str, fill: Fill, rows: int, seed: int) -> dict[str, Figures]:
    """Both are told where the binlog ends, then the backlog is written, then each reads it twice."""
    say(f"{prefix}{rows} rows")
    with backlog_stack() as stack, tempfile.TemporaryDirectory() as folder:
        load_posts(_url(stack), POSTS if fill is _updates else 0, seed)
        with projecting(stack) as before:
            before.wait_until_caught_up()
        debezium = Debezium(stack, Path(folder))
        debezium.prime()
        start = executed(stack.environment()["TIDEMARK_PROJECTOR_MYSQL_URL"])
        fill(stack, rows, seed)
        return {
            f"{prefix}debezium": _figures("debezium", debezium.count(rows), debezium.into_mongodb(rows)),
            f"{prefix}ours": _figures("ours", _count(stack, str(start), rows), _project(stack, rows)),
        }


def _count(stack: Stack, start: str, rows: int) -> Usage:
    url = stack.environment()["TIDEMARK_PROJECTOR_MYSQL_URL"]
    return used_by(
        [sys.executable, "-m", "perf.projector.peers.ours", start, str(rows)], {"PEER_MYSQL_URL": url}
    )


def _project(stack: Stack, rows: int) -> Usage:
    """Into MongoDB and Redis, with counters, journal, checkpoint and cache."""
    with projecting(stack) as running:
        done = running.wait_until_caught_up()
        return Usage(rows, done - running.logged("streaming"), running.cpu_s, running.peak_rss_mib)


def _figures(who: str, decoded: Usage, projected: Usage) -> Figures:
    say(f"{who}: decodes {decoded.rows_per_s:,} rows/s, into MongoDB {projected.rows_per_s:,} rows/s")
    return {
        "decode_rows_per_s": decoded.rows_per_s,
        "decode_cpu_s": decoded.cpu_s,
        "decode_peak_rss_mib": decoded.peak_rss_mib,
        "project_rows_per_s": projected.rows_per_s,
        "cpu_s": projected.cpu_s,
        "peak_rss_mib": projected.peak_rss_mib,
    }
