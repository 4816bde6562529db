"""`python -m perf push`: many connections watch posts that get likes, next to polling and to a bare loop."""

from __future__ import annotations

import argparse
import contextlib
import os
from typing import Any

from ops.stack.servers.process import stop_processes
from ops.system import System
from perf.dataset import load_posts
from perf.live.bench import HOT_PER_S, HOT_SECONDS, POLLED_PER_S, POLLED_SECONDS, Bench
from perf.live.clients import starting_clients
from perf.live.feeds import CALLERS, kib_per_watched_feed, load_followees
from perf.live.likes import starting_likes
from perf.live.streams import TRANSPORTS
from perf.measured import Reader
from perf.open_files import allow_files
from perf.second_reader import second_reader

STOPPED_WITHIN_SECONDS = 25.0
Figures = dict[str, Any]


def more_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--transport",
        choices=(*TRANSPORTS, "both"),
        default="both",
        help="one after the other (default: both)",
    )


def push(
    connections: int, watched: int, writes_per_s: float, seconds: float, seed: int, transport: str = "both"
) -> Figures:
    """The figures of the first transport; the other's have its name. Raises StackError, RuntimeError."""
    allow_files(2 * connections)  # those that come back may meet those that have gone
    transports = list(TRANSPORTS) if transport == "both" else [transport]
    likers = max(
        len(transports) * (1 + int(writes_per_s * seconds / watched)),
        int(HOT_PER_S * min(seconds, HOT_SECONDS)),
        int(POLLED_PER_S * min(seconds, POLLED_SECONDS)),
    )
    limit = {"TIDEMARK_READER_LIVE_CONNECTIONS": str(max(10_000, 2 * connections))}
    with System({**os.environ, **limit}) as system, contextlib.ExitStack() as stack:
        url = system.stack.environment()["TIDEMARK_WRITER_MYSQL_URL"]
        posts = range(1, watched + 2 + 2 * len(transports))
        load_posts(url, len(posts), seed)
        load_followees(url, seed)
        likes = stack.enter_context(starting_likes(url, likers))
        clients = stack.enter_context(starting_clients())
        found: dict[str, Figures] = {}
        polled: Figures = {}
        for number, one in enumerate(transports):
            reader = _first_reader(system) if number == 0 else _next_reader(system, limit)
            bench = Bench(system, reader, likes, clients, one)
            bench.warm_up(posts)
            polled = polled or bench.polled(posts[watched], min(seconds, POLLED_SECONDS))
            figures = bench.many(connections, posts[:watched], writes_per_s, seconds)
            hot = posts[watched + 1 + 2 * number :]
            figures["one_hot"] = bench.one_hot(connections, hot[0], hot[1], min(seconds, HOT_SECONDS))
            ratio = figures["latency_p99_ms"] / polled["polled_p99_ms"]
            found[one] = {"latency_p99_to_polled_p99": round(ratio, 3), **figures}
        tokens = [system.token(f"perf-{caller}") for caller in CALLERS]
        feeds = {"kib_per_watched_feed": kib_per_watched_feed(_next_reader(system, limit), tokens)}
        system.check()
    return {"transport": transports[0], **found.pop(transports[0]), **polled, **feeds, **found}


def _first_reader(system: System) -> Reader:
    pid = system.children["reader"].identity.pid
    return Reader(system.url("reader"), system.admin_url("reader"), pid, system.token("perf-1"))


def _next_reader(system: System, settings: dict[str, str]) -> Reader:
    """Instead of the former one, whose memory has been used before."""
    former = system.children.pop(next(name for name in system.children if "reader" in name))
    stop_processes([former.identity], STOPPED_WITHIN_SECONDS)
    former.is_running()  # takes its status, so that no zombie is left
    second = second_reader(system, settings)
    return Reader(second.url, second.admin_url, second.child.identity.pid, system.token("perf-1"))
