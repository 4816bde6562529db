"""`python -m perf project`: a backlog into MongoDB and Redis, next to plain bulk writes."""

from __future__ import annotations

import statistics
from typing import Any

import redis
from pymongo import MongoClient

from ops.stack import Stack
from ops.stack.progress import say
from perf.dataset import load_posts
from perf.projector import plain_bulk
from perf.projector.projecting import Projecting, backlog_stack, counters_are_exact, projecting, serving
from perf.projector.replay import Replay
from perf.projector.workload import add_single_rows
from reader.read_model.cached_values import VALUE_TTL_MS, WATERMARK_KEY, Watermark, cache_key, encode_entity
from reader.read_model.declarations import USER

ROUNDS = 3


def project(transactions: int, seed: int) -> dict[str, Any]:
    """Medians of three rounds in turn. Raises StackError, RuntimeError."""
    with backlog_stack() as stack:
        load_posts(stack.environment()["TIDEMARK_WRITER_MYSQL_URL"], 0, seed)
        with projecting(stack) as before:
            before.wait_until_caught_up()
            _cache_people(stack)
        add_single_rows(stack, transactions, seed)
        replay = Replay(stack)
        rounds = [_round(stack, replay, transactions) for _ in range(ROUNDS)]
    found: dict[str, Any] = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    ours = found["ours_rows_per_s"]
    return {
        **{f"ours_to_{name}": round(ours / found[f"{name}_rows_per_s"], 3) for name in plain_bulk.LANES},
        **found,
        "transactions": transactions,
        "counters_exact": all(one["counters_exact"] for one in rounds),
    }


def _round(stack: Stack, replay: Replay, transactions: int) -> dict[str, Any]:
    replay.restore()
    with projecting(stack) as running:
        rate, rss = measure(running, transactions), running.peak_rss_mib
    exact = counters_are_exact(stack)
    plain = {f"{name}_rows_per_s": lane(stack) for name, lane in plain_bulk.LANES.items()}
    return {"ours_rows_per_s": rate, **plain, "peak_rss_mib": rss, "counters_exact": exact}


def measure(running: Projecting, transactions: int) -> int:
    """Rows per second, from the begin of streaming until Redis has the last row."""
    say(f"projecting {transactions} transactions")
    done = running.wait_until_caught_up()
    return round(transactions / (done - running.logged("streaming")))


def _cache_people(stack: Stack) -> None:
    """Cache the authors, as readers do: the backlog touches them most, and APPLY has to replace them."""
    with (
        redis.Redis.from_url(stack.redis.admin_url) as cache,
        MongoClient[dict[str, Any]](stack.mongodb.admin_url) as mongodb,
    ):
        watermark = Watermark.decode(str(cache.get(WATERMARK_KEY), "ascii"))
        for person in serving(mongodb["tidemark"], "users").find():
            key = cache_key(watermark.epoch, USER.key(person["_id"]))
            cache.set(key, encode_entity(USER, person), px=VALUE_TTL_MS)
