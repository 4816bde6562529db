"""Feeds that are not in memory: not in any cache, or in Redis only."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import redis

from ops.stack.progress import say
from ops.system import System
from perf.measured import Reader, pace_ms

TIMES = 5
AT_ONCE = 4
TRIES = 5
SMALL_REPLICA = {"TIDEMARK_READER_LOCAL_MIB": "8"}


def cold_ms(system: System, reader: Reader, bearers: Sequence[str]) -> float:
    """Milliseconds of a feed when nothing is in Redis, nor in the reader. The median of TIMES callers."""
    times = []
    with (
        redis.Redis.from_url(system.stack.redis.admin_url) as cache,
        httpx2.Client(timeout=30, trust_env=False) as http,
    ):
        for bearer in bearers[:TIMES]:
            http.get(f"{reader.url}/post/1", headers={"authorization": f"Bearer {bearer}"})  # connects
            _empty(cache)
            started = time.monotonic()
            _read(http, reader, bearer)
            times.append((time.monotonic() - started) * 1000)
    return round(statistics.median(times), 1)


def cold_heads(reader: Reader, ids: Path, bearers: Sequence[str], seconds: float) -> dict[str, Any]:
    """Feeds whose heads are in Redis and do not fit into the replica: as many as it can, and half as many."""
    say(f"filling Redis by {len(bearers)} feeds")
    with (
        httpx2.Client(timeout=30, trust_env=False) as http,
        ThreadPoolExecutor(AT_ONCE) as threads,
    ):
        for _ in threads.map(lambda bearer: _read(http, reader, bearer), bearers):
            pass
    fastest = reader.load("cold heads", ids, seconds, path="/feed")
    half = reader.load("cold heads at half", ids, seconds, path="/feed", delay_ms=pace_ms(fastest))
    return {"max_rps": fastest["rps"], **half}


def _read(http: httpx2.Client, reader: Reader, bearer: str) -> None:
    """Raises RuntimeError for any other status than 200 and 503, and for too many of these."""
    statuses = []
    for _ in range(TRIES):
        answer = http.get(f"{reader.url}/feed", headers={"authorization": f"Bearer {bearer}"})
        if answer.status_code == 200:
            return
        statuses.append(answer.status_code)
        if answer.status_code != 503:
            break
    raise RuntimeError(f"a cold feed was answered {statuses}")


def _empty(cache: redis.Redis) -> None:
    """Take all entries, as an eviction would."""
    keys = [*cache.scan_iter(match="tidemark:e*", count=10_000)]
    for at in range(0, len(keys), 10_000):
        cache.unlink(*keys[at : at + 10_000])
