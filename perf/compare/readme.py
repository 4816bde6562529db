"""`python -m perf readme`: README's figures of the comparison, made from the result that README names."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ops.child import ROOT
from perf.compare.charts import number_text
from perf.wrk import CONNECTIONS

README = ROOT / "README.md"
PLACE = re.compile(r"(<!-- (load test|cache-aside): (\S+) -->\n).*?(<!-- end of \2 -->)", re.DOTALL)
WIDTH = 110
HEAD = (
    "endpoint",
    "threads",
    "iterations",
    "TPS before",
    "TPS after",
    "p99 before",
    "p99 after",
    "hit ratio",
)
OTHERS = {"sql": "COUNTs", "sql_counters": "counter columns", "cache_aside": "a cache-aside Redis"}


def fill(readme: Path = README) -> str:
    """README with the figures that its named result makes."""
    return PLACE.sub(
        lambda place: f"{place[1]}{PARTS[place[2]](_result(place[3]))}\n{place[4]}", readme.read_text()
    )


def write() -> dict[str, str]:
    """Fill README itself."""
    README.write_text(fill())
    return {"readme": README.name}


def _result(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / name).read_text())
    return found


def _load_test(found: Mapping[str, Any]) -> str:
    rows = [*_wrk_rows(found), *_jmeter_rows(found)]
    table = [_line(HEAD), _line(["---"] * len(HEAD)), *map(_line, rows)]
    return "\n".join([*table, "", _ratios(found)])


def _wrk_rows(found: Mapping[str, Any]) -> list[Sequence[str]]:
    before, after = found["lanes"]["sql"], found["lanes"]["tidemark"]
    writes = found["options"]["writes"]
    return [
        _row("`GET /post/{id}`, as many as it can", CONNECTIONS, None, before, after, "rps", "wrk_p99_ms"),
        _row(
            f"the same, while {writes:g} writes/s are sent to the same posts",
            *(CONNECTIONS, None, before["under_writes"], after["under_writes"], "rps", "wrk_p99_ms"),
        ),
    ]


def _jmeter_rows(found: Mapping[str, Any]) -> list[Sequence[str]]:
    before, after, threads = found["lanes"]["sql"], found["lanes"]["tidemark"], found["options"]["threads"]
    feeds = f"`GET /feed` of people who follow {found['dataset'].get('followees_of_each')} others"
    plans = {"feeds": feeds, "posts": "`POST /post`", "mixed": "95 % `GET /post/{id}`, 5 % `POST /post`"}
    paced = after["paced_samples"] // threads
    return [
        _row(
            "`GET /post/{id}`, paced",
            threads,
            paced,
            before,
            {**after, "hit_ratio": None},
            "paced_rps",
            "p99_ms",
        ),
        *(
            _row(text, threads, after[plan]["samples"] // threads, before[plan], after[plan], "tps", "p99_ms")
            for plan, text in plans.items()
            if plan in after
        ),
    ]


def _row(
    endpoint: str, threads: int, iterations: int | None, before: Any, after: Any, tps: str, p99: str
) -> Sequence[str]:
    rates = [number_text(side[tps]) for side in (before, after)]
    waits = [f"{number_text(side[p99])} ms" for side in (before, after)]
    hits = after.get("hit_ratio")
    return [endpoint, str(threads), str(iterations or "-"), *rates, *waits, f"{hits:.4f}" if hits else "-"]


def _ratios(found: Mapping[str, Any]) -> str:
    """Every comparison, also those that Tidemark loses."""
    parts = [
        f"{name}: {ratios['throughput']:.1f} times the throughput, "
        f"{ratios['throughput_under_writes']:.1f} under writes"
        for lane, name in OTHERS.items()
        for ratios in [found["ratios"][lane]]
    ]
    return textwrap.fill(f"Against {'; against '.join(parts)}.", WIDTH)


def _cache_aside(found: Mapping[str, Any]) -> str:
    """Cache-aside's stale reads, and the cost of correct ones."""
    cached, ours = (found["lanes"][lane]["under_writes"] for lane in ("cache_aside", "tidemark"))
    before, after = (found["lanes"][lane]["posts"] for lane in ("sql", "tidemark"))
    return textwrap.fill(
        f"Under {number_text(cached['writes_per_s'])} writes/s, "
        f"{cached['stale']} of {cached['checks']:,} reads behind "
        f"cache-aside are stale. Of Tidemark's {ours['checks']:,} reads, {ours['stale']} are stale and "
        f"{ours['refused']} are refused. "
        f"Writes pay for this: `POST /post` reaches {number_text(after['tps'])} "
        f"requests/s with a p99 of {number_text(after['p99_ms'])} ms, where MySQL alone reaches "
        f"{number_text(before['tps'])} with {number_text(before['p99_ms'])} ms. "
        f"A commit is in Redis within {found['projector_lag_p99_ms']:g} ms (p99).",
        WIDTH,
    )


PARTS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "load test": _load_test,
    "cache-aside": _cache_aside,
}


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
