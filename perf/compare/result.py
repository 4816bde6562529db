"""From measurements to figures: medians of the rounds, work per read, and all ratios, flattering or not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from perf.compare.bench import Measured, Turn
from perf.compare.contenders import TIDEMARK
from perf.compare.jmeter import Samples
from perf.compare.meters import Reading, percentile_ms

Figures = dict[str, Any]
PERCENTILES = (*range(1, 99), 99, 99.5, 99.9)


@dataclass
class Measurements:
    """All that was measured, by lane; one turn per round."""

    rate: float = 0.0
    turns: dict[str, list[Turn]] = field(default_factory=dict)
    paced: dict[str, Samples] = field(default_factory=dict)
    posts: dict[str, Samples] = field(default_factory=dict)
    mixed: dict[str, Samples] = field(default_factory=dict)
    feeds: dict[str, Samples] = field(default_factory=dict)


def figures(measured: Measurements) -> Figures:
    """`result.json` without what describes the run."""
    lanes = {name: _lane(measured, name) for name in measured.turns}
    tidemark = [each for turn in measured.turns[TIDEMARK] for each in (turn.hot, turn.written)]
    lag = _sum(turn.lag for turn in measured.turns[TIDEMARK])
    return {
        "lanes": lanes,
        "hit_ratio": _hit_ratio(tidemark),
        "projector_lag_p99_ms": round(percentile_ms(lag, 99), 1),
        "projector_lag_p50_ms": round(percentile_ms(lag, 50), 1),
        "paced_rate": round(measured.rate, 1),
        "ratios": {
            name: ratios(lanes[TIDEMARK], figures) for name, figures in lanes.items() if name != TIDEMARK
        },
        "latency_curve": {
            name: [(p, s.percentile_ms(p)) for p in PERCENTILES] for name, s in measured.paced.items()
        },
    }


def _lane(measured: Measurements, name: str) -> Figures:
    hot = [turn.hot for turn in measured.turns[name]]
    under = [turn.written for turn in measured.turns[name]]
    paced = measured.paced[name]
    jmeter = {
        plan: runs[name]
        for plan, runs in (("posts", measured.posts), ("mixed", measured.mixed), ("feeds", measured.feeds))
        if name in runs
    }
    return {
        **under_load(hot),
        "p50_ms": paced.percentile_ms(50),
        "p99_ms": paced.percentile_ms(99),
        "p999_ms": paced.percentile_ms(99.9),
        "errors": sum(each.load.failed for each in (*hot, *under)) + paced.failed,
        "paced_samples": len(paced.all),
        "paced_rps": round(paced.per_second, 1),
        "under_writes": {**under_load(under), **_stale(under)},
        "rounds": {
            "rps": [round(each.load.rps) for each in hot],
            "under_writes": [round(u.load.rps) for u in under],
        },
        **{plan: _jmeter(samples) for plan, samples in jmeter.items()},
    }


def under_load(measured: Sequence[Measured]) -> Figures:
    """One kind of load on one lane: medians of the rounds, and the stores' work per read over all rounds."""
    requests = sum(each.load.requests for each in measured)
    stores = _sum(each.stores for each in measured)
    seconds = sum(each.load.requests / each.load.rps for each in measured)
    return {
        "rps": round(median(each.load.rps for each in measured), 1),
        "cpu_us": round(median(each.load.cpu_us for each in measured), 1),
        "selects_per_read": round(stores["selects"] / requests, 5),
        "rows_per_read": round(stores["rows"] / requests, 3),
        "mysql_cpu_seconds_per_1000_reads": round(1000 * stores["mysql_cpu"] / requests, 4),
        "mongodb_operations_per_1000_reads": round(1000 * stores["mongodb_operations"] / requests, 2),
        "mongodb_cpu_seconds_per_1000_reads": round(1000 * stores["mongodb_cpu"] / requests, 4),
        "wrk_p99_ms": round(median(each.load.p99_ms for each in measured), 2),
        "hit_ratio": _hit_ratio(measured),
        "cores": {
            name: round(spent / seconds, 3) for name, spent in _sum(each.cpu for each in measured).items()
        },
    }


def _stale(under: Sequence[Measured]) -> Figures:
    written = [each.written for each in under if each.written]
    seconds = sum(each.seconds for each in written)
    names = ("checks", "stale", "refused", "left", "left_stale")
    counts = {name: sum(getattr(each, name) for each in written) for name in names}
    return {"writes_per_s": round(sum(each.writes for each in written) / max(0.001, seconds), 1), **counts}


def _jmeter(samples: Samples) -> Figures:
    return {
        "samples": len(samples.all),
        "tps": round(samples.per_second, 1),
        "p50_ms": samples.percentile_ms(50),
        "p99_ms": samples.percentile_ms(99),
    }


def _hit_ratio(measured: Sequence[Measured]) -> float | None:
    hits, misses = (sum(getattr(each, name) for each in measured) for name in ("hits", "misses"))
    return round(hits / (hits + misses), 5) if hits + misses else None


def _sum(readings: Iterable[Reading]) -> Reading:
    total: Reading = {}
    for reading in readings:
        for name, value in reading.items():
            total[name] = total.get(name, 0.0) + value
    return total


def ratios(tidemark: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, float | None]:
    """Tidemark's figure divided by another's. More is better for `throughput`, worse for the rest."""
    pairs = {
        "throughput": (tidemark["rps"], other["rps"]),
        "throughput_under_writes": (tidemark["under_writes"]["rps"], other["under_writes"]["rps"]),
        "p99": (tidemark["p99_ms"], other["p99_ms"]),
        "p999": (tidemark["p999_ms"], other["p999_ms"]),
        "cpu_per_read": (tidemark["cpu_us"], other["cpu_us"]),
        "selects_per_read": (tidemark["selects_per_read"], other["selects_per_read"]),
        "rows_per_read": (tidemark["rows_per_read"], other["rows_per_read"]),
        "mysql_cpu_per_read": (
            tidemark["mysql_cpu_seconds_per_1000_reads"],
            other["mysql_cpu_seconds_per_1000_reads"],
        ),
        "mysql_cpu_per_read_under_writes": (
            tidemark["under_writes"]["mysql_cpu_seconds_per_1000_reads"],
            other["under_writes"]["mysql_cpu_seconds_per_1000_reads"],
        ),
    }
    return {name: round(ours / theirs, 4) if theirs else None for name, (ours, theirs) in pairs.items()}
