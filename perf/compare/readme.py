"""`python -m perf readme`: README's load-test table, made from the result that README names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ops.system import ROOT
from perf.compare.charts import number_text
from perf.wrk import CONNECTIONS

README = ROOT / "README.md"
PLACE = re.compile(r"(<!-- load test: (\S+) -->\n).*?(<!-- end of load test -->)", re.DOTALL)
HEAD = ("endpoint", "threads", "iterations", "TPS before", "TPS after", "p99 before", "p99 after", "hit ratio")
OTHERS = {"sql": "COUNTs", "sql_counters": "counter columns", "cache_aside": "a cache-aside Redis"}


def fill(readme: Path = README) -> str:
    """README with the table that its named result makes."""
    return PLACE.sub(lambda place: f"{place[1]}{_section(_result(place[2]))}{place[3]}", readme.read_text())


def write() -> dict[str, str]:
    """Fill README itself."""
    README.write_text(fill())
    return {"readme": README.name}


def _result(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / name).read_text())
    return found


def _section(found: Mapping[str, Any]) -> str:
    rows = [*_wrk_rows(found), *_jmeter_rows(found)]
    table = [_line(HEAD), _line(["---"] * len(HEAD)), *map(_line, rows)]
    return "\n".join([*table, "", _sentence(found), ""])


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
    plans = {"posts": "`POST /post`", "mixed": "95 % `GET /post/{id}`, 5 % `POST /post`"}
    paced = after["paced_samples"] // threads
    return [
        _row("`GET /post/{id}`, paced", threads, paced, before, {**after, "hit_ratio": None}, "paced_rps", "p99_ms"),
        *(
            _row(text, threads, after[plan]["samples"] // threads, before[plan], after[plan], "tps", "p99_ms")
            for plan, text in plans.items()
        ),
    ]


def _row(
    endpoint: str, threads: int, iterations: int | None, before: Any, after: Any, tps: str, p99: str
) -> Sequence[str]:
    rates = [number_text(side[tps]) for side in (before, after)]
    waits = [f"{number_text(side[p99])} ms" for side in (before, after)]
    hits = after.get("hit_ratio")
    return [endpoint, str(threads), str(iterations or "-"), *rates, *waits, f"{hits:.4f}" if hits else "-"]


def _sentence(found: Mapping[str, Any]) -> str:
    """Every comparison, also those that Tidemark loses."""
    parts = [
        f"{name}: {ratios['throughput']:.1f} times the throughput, {ratios['throughput_under_writes']:.1f} under writes"
        for lane, name in OTHERS.items()
        for ratios in [found["ratios"][lane]]
    ]
    stale = {lane: found["lanes"][lane]["under_writes"]["stale"] for lane in ("cache_aside", "tidemark")}
    checks = found["lanes"]["cache_aside"]["under_writes"]["checks"]
    return (
        f"Against {'; against '.join(parts)}. Stale reads under writes: {stale['cache_aside']} of {checks} with "
        f"cache-aside, {stale['tidemark']} with Tidemark. "
        f"From commit to Redis: {found['projector_lag_p99_ms']:g} ms (p99)."
    )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
