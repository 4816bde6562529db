"""One reader process under load, with what each read cost the stores. Lanes that take turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import httpx2

from ops.stack.progress import say
from perf import wrk
from perf.wrk import Load

ROUNDS = 3
Measuring = Callable[[float], dict[str, Any]]
PER_READ = {
    "redis_commands_per_read": ("tidemark_redis_commands_total",),
    "mongodb_operations_per_read": ("tidemark_mongodb_reads_total",),
    "rounds_per_read": ("tidemark_answer_rounds_sum",),
}


@dataclass(frozen=True)
class Reader:
    """A reader process: its URL, its admin URL and its pid."""

    url: str
    admin_url: str
    pid: int
    token: str

    def load(
        self,
        lane: str,
        ids: Path,
        seconds: float,
        *,
        path: str = "/post/%s",
        header: str = "",
        delay_ms: int = 0,
    ) -> dict[str, Any]:
        """The figures of a load, with the costs per read."""
        say(f"{lane}, {seconds:.0f} s")
        before = self.counts()
        load = checked(
            wrk.run(self.url, self.pid, ids, self.token, seconds, path=path, header=header, delay_ms=delay_ms)
        )
        now = self.counts()
        spent = {
            name: round(
                sum(now.get(one, 0) - before.get(one, 0) for one in counters) / max(1, load.requests), 5
            )
            for name, counters in PER_READ.items()
        }
        hits = {kind: now.get(kind, 0) - before.get(kind, 0) for kind in ("hits", "misses")}
        ratio = {"hit_ratio": round(hits["hits"] / max(1, sum(hits.values())), 5)}
        return {**load.as_json(), **spent, **ratio}

    def counts(self) -> dict[str, float]:
        """Counter -> its sum over all labels; `hits` of the replica and of Redis, `misses` of both."""
        lines = httpx2.get(f"{self.admin_url}/metrics", trust_env=False).text.splitlines()
        found: dict[str, float] = {}
        for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#")):
            for one in (name.partition("{")[0], *_hits_of(name)):
                found[one] = found.get(one, 0) + float(value)
        return found


def _hits_of(name: str) -> list[str]:
    if not name.startswith("tidemark_cache_requests_total"):
        return []
    if 'layer="mongo"' in name:
        return ["misses"]
    return ["hits"] if 'result="hit"' in name or 'result="absent"' in name else []


def checked(load: Load) -> Load:
    """Raises RuntimeError for failed requests."""
    if load.failed:
        raise RuntimeError(f"{load.failed} of {load.requests} requests failed")
    return load


def in_rounds(lanes: Mapping[str, Measuring], seconds: float) -> dict[str, Any]:
    """Each lane's round of median throughput. Other work of the machine meets all lanes alike."""
    rounds = [{name: lane(seconds / ROUNDS) for name, lane in lanes.items()} for _ in range(ROUNDS)]
    return {name: sorted((one[name] for one in rounds), key=itemgetter("rps"))[ROUNDS // 2] for name in lanes}


def pace_ms(fastest: Mapping[str, float]) -> int:
    """The pause of each connection for half as many requests.

    A server that is busy half of the time takes about one and a half service times for an answer.
    """
    if not fastest["rps"]:
        raise RuntimeError("no request was answered")
    service_ms = 1000 / fastest["rps"]
    return max(1, round((2 * wrk.CONNECTIONS - 1.5) * service_ms))
