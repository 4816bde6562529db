"""`report.html` from `result.json`: plots, then tables, then machine and versions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from perf.compare.aims import aims
from perf.compare.charts import Point, Span, bars, legend, lines, number_text, over_time, percentile_lines
from perf.compare.markup import cell, document, figure, table

IDLE_PER_S = 100  # keys: what is looked up without any load
LANES_TEXT = {
    "sql": "one SELECT with COUNT(*) subqueries, straight from MySQL",
    "sql_counters": "one SELECT with counter columns that every write keeps, straight from MySQL",
    "cache_aside": "sql behind Redis: GET; on a miss SELECT, then SET with a TTL of 300 s; "
    "DEL after each write",
    "tidemark": "MySQL's binlog projected into MongoDB and Redis; reads from the process's replica, else "
    "Redis, else MongoDB",
    "tidemark_redis": "the same without a replica: each read asks Redis",
}
COLUMNS = {  # of the table of lanes: key -> heading
    "rps": "reads/s",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "p999_ms": "p99.9 ms",
    "cpu_us": "CPU µs/read",
    "selects_per_read": "SELECTs/read",
    "rows_per_read": "rows/read",
    "mysql_cpu_seconds_per_1000_reads": "MySQL CPU s/1,000",
    "mongodb_operations_per_1000_reads": "MongoDB ops/1,000",
    "hit_ratio": "hit ratio",
    "errors": "errors",
}
UNDER_WRITES = {
    "rps": "reads/s",
    "writes_per_s": "writes/s",
    "cpu_us": "CPU µs/read",
    "selects_per_read": "SELECTs/read",
    "mysql_cpu_seconds_per_1000_reads": "MySQL CPU s/1,000",
    "mongodb_operations_per_1000_reads": "MongoDB ops/1,000",
    "hit_ratio": "hit ratio",
    "checks": "reads checked",
    "stale": "stale",
    "refused": "503",
    "left": "posts checked after",
    "left_stale": "left stale",
}


def make(result: Path) -> dict[str, str]:
    """`python -m perf report`: the page of a `result.json`, beside it. Raises OSError."""
    return {"report": str(write(json.loads(result.read_text()), result.parent))}


def write(found: Mapping[str, Any], folder: Path) -> Path:
    """Write the page; returns where it is."""
    page = folder / "report.html"
    parts = [*_head(found), *_plots(found), *_tables(found), *_dashboard(folder), *_about(found)]
    page.write_text(document("Before and after CQRS", parts))
    return page


def summary(found: Mapping[str, Any]) -> str:
    """For a terminal."""
    columns = ("rps", "p50_ms", "p99_ms", "p999_ms", "cpu_us", "selects_per_read", "errors")
    lines = [f"{'lane':14}{''.join(f'{name:>18}' for name in columns)}{'rps under writes':>18}{'stale':>8}"]
    for lane, figures in found["lanes"].items():
        under = figures["under_writes"]
        shown = "".join(f"{figures[name]:>18g}" for name in columns)
        lines.append(f"{lane:14}{shown}{under['rps']:>18g}{under['stale']:>8}")
    return "\n".join(
        [*lines, *(f"{'met   ' if aim.met else 'MISSED'} {aim.text}: {aim.shown}" for aim in aims(found))]
    )


def _head(found: Mapping[str, Any]) -> Iterable[str]:
    machine = found["machine"]
    yield f"<p class=note>{escape(found['when'])}, {escape(machine['processor'])},"
    yield f" {escape(machine['memory'])};"
    yield f" commit <code>{escape(found['commit'][:12])}{escape(found['commit'][40:])}</code>;"
    yield f" <code>{escape(found['command'])}</code></p>"
    yield "<p>The same <code>GET /post/{id}</code>, bytes, framework and token checks, four ways:"
    yield "</p>"
    yield table(["lane", "how it reads"], [[lane, text] for lane, text in LANES_TEXT.items()], "text")
    rows = [[aim.text, aim.shown, "yes" if aim.met else "<span class=no>no</span>"] for aim in aims(found)]
    yield "<h3>Aims, and what was found</h3>" + table(["aim", "found", "met"], rows, "text")


def _plots(found: Mapping[str, Any]) -> Iterable[str]:
    lanes = found["lanes"]
    yield "<h2>Latency</h2>"
    yield figure(
        percentile_lines(found["latency_curve"], "ms"),
        f"JMeter, {found['options']['threads']} threads, {number_text(found['paced_rate'])} reads a second"
        " by lane. It measures whole milliseconds; 0 is drawn as 0.5.",
    )
    yield "<h2>Throughput</h2>"
    yield figure(
        bars(_each(lanes, "rps"), "reads/s"), "Hot reads: wrk, 32 connections, one process per lane."
    )
    under = {lane: figures["under_writes"]["rps"] for lane, figures in lanes.items()}
    writes = found["options"]["writes"]
    yield figure(
        bars(under, "reads/s"), f"The same while {writes:g} writes a second are sent to the same posts."
    )
    yield "<h2>Work</h2>"
    yield figure(bars(_each(lanes, "cpu_us"), "µs"), "CPU time of the reading process per hot read.")
    cpu = _each(lanes, "mysql_cpu_seconds_per_1000_reads")
    yield figure(bars(cpu, "s"), "CPU time of MySQL per 1,000 hot reads: what CQRS takes off the database.")
    yield from _timelines(found)
    if "sweep" in found:
        yield from _sweep(found["sweep"])


def _timelines(found: Mapping[str, Any]) -> Iterable[str]:
    rates, spans = found["timeline"]["rates"], _spans(found["timeline"]["phases"])
    yield f"<h2>Over time</h2>{legend()}<p class=note>Darker: with writes.</p>"
    for title, name, unit in (
        ("SELECTs of MySQL", "selects", "/s"),
        ("CPU of MySQL", "mysql_cpu", "cores"),
        ("Operations of MongoDB", "mongodb_operations", "/s"),
    ):
        yield figure(over_time([(rate["at"], rate[name]) for rate in rates], spans, unit), title)
    caption = "Share of the requested keys that Redis had (it counts Tidemark's watermark and authors, too)."
    yield figure(over_time(list(_hits(rates)), spans, "%", most=100), caption)


def _hits(rates: Sequence[Mapping[str, float]]) -> Iterable[Point]:
    for rate in rates:
        looked_up = rate["redis_hits"] + rate["redis_misses"]
        if looked_up > IDLE_PER_S:
            yield rate["at"], 100 * rate["redis_hits"] / looked_up


def _spans(phases: Sequence[Sequence[Any]]) -> list[Span]:
    following = [*phases[1:], phases[-1]]
    pairs = zip(phases, following, strict=True)
    return [Span(begin, end, lane, phase) for (begin, lane, phase), (end, _, _) in pairs if lane]


def _sweep(sweep: Mapping[str, Any]) -> Iterable[str]:
    yield "<h2>How cost grows</h2>"
    for name, label, caption in (
        ("writes", "writes a second", "Reads a second, by how much is written to the same posts."),
        ("posts", "posts in the dataset", "Reads a second, by the size of the dataset (likes grow with it)."),
    ):
        curves: dict[str, list[Point]] = {}
        for point in sweep[name]:
            for lane, figures in point["lanes"].items():
                curves.setdefault(lane, []).append((point["x"], figures["rps"]))
        yield figure(lines(curves, label, "/s"), caption)
        shares = [[lane, *(cell(f["lanes"][lane]["rps"]) for f in sweep[name])] for lane in curves]
        yield table([label, *(cell(point["x"]) for point in sweep[name])], shares)


def _tables(found: Mapping[str, Any]) -> Iterable[str]:
    lanes = found["lanes"]
    yield "<h2>Figures</h2><h3>Hot reads</h3>"
    yield _lanes_table(lanes, COLUMNS)
    yield "<h3>Reads while the same posts are written to</h3>"
    yield _lanes_table({lane: figures["under_writes"] for lane, figures in lanes.items()}, UNDER_WRITES)
    yield (
        "<p class=note>Stale: a read that began after a write was acknowledged and did not show it. "
        "Tidemark's reads carry the Consistency-Token of that write; the other lanes have nothing like it. "
        "503: such a read was told to ask again, because the write is not there yet. "
        "Left stale: posts still wrong one second after "
        "the last write, asked for without a token. SELECTs include the writes' own.</p>"
    )
    yield "<h3>Tidemark divided by each lane</h3>"
    ratios: Mapping[str, Mapping[str, Any]] = found["ratios"]
    names = list(next(iter(ratios.values())))
    rows = [[name.replace("_", " "), *(cell(ratios[lane][name]) for lane in ratios)] for name in names]
    yield table(["more is better for throughput, less for all others", *ratios], rows)
    yield (
        "<p>Projector: from commit in MySQL to Redis in "
        f"{number_text(found['projector_lag_p50_ms'])} ms (p50), "
        f"{number_text(found['projector_lag_p99_ms'])} ms (p99), while all of this ran on one machine.</p>"
    )
    yield "<h3>Who used the processors: cores at work</h3>"
    hot = {f"{lane}, hot reads": figures["cores"] for lane, figures in lanes.items()}
    under_writes = {
        f"{lane}, under writes": figures["under_writes"]["cores"] for lane, figures in lanes.items()
    }
    yield _cores_table({**hot, **under_writes})
    yield from _jmeter(lanes)


def _cores_table(cores: Mapping[str, Mapping[str, float]]) -> str:
    """The source of the ceiling: the whole machine is used up, or the thread of one process."""
    names = list(dict.fromkeys(name for each in cores.values() for name in each))
    rows = [
        [where, *(f"{each[name]:.2f}" if name in each else "" for name in names), f"{sum(each.values()):.2f}"]
        for where, each in cores.items()
    ]
    return table(["", *names, "sum"], rows)


def _jmeter(lanes: Mapping[str, Any]) -> Iterable[str]:
    yield "<h3>JMeter, as fast as its threads can</h3>"
    rows = [
        [f"{lane}: {text}", *(cell(figures[plan][name]) for name in ("samples", "tps", "p50_ms", "p99_ms"))]
        for plan, text in (("feeds", "GET /feed"), ("posts", "POST /post"), ("mixed", "95 % GET, 5 % POST"))
        for lane, figures in lanes.items()
        if plan in figures
    ]
    yield table(["plan", "samples", "TPS", "p50 ms", "p99 ms"], rows)


def _dashboard(folder: Path) -> Iterable[str]:
    """A run leaves JMeter's own report there. A result kept alone has none."""
    if (folder / "jmeter/index.html").exists():
        yield "<p>JMeter's own report of the paced reads: "
        yield '<a href="jmeter/index.html">jmeter/index.html</a>.</p>'


def _about(found: Mapping[str, Any]) -> Iterable[str]:
    yield "<h2>On what, and how</h2>"
    yield table(
        ["dataset", ""], [[name.replace("_", " "), cell(value)] for name, value in found["dataset"].items()]
    )
    yield (
        "<p class=note>Readers, likes and comments are spread over posts by Zipf's law, constant 0.99. "
        f"Lanes took turns, {found['options']['rounds']} rounds; throughput is the median of the rounds. "
        "Tidemark's services were paused during turns of other lanes. "
        "MySQL had a buffer pool of 512 MB, so that the dataset is in "
        "memory; Redis kept no append-only file. All of it, load generators included, shared one machine.</p>"
    )
    for title in ("machine", "versions"):
        yield table([title, ""], [[name, escape(value)] for name, value in found[title].items()], "text")


def _each(lanes: Mapping[str, Any], name: str) -> dict[str, float]:
    return {lane: figures[name] for lane, figures in lanes.items()}


def _lanes_table(lanes: Mapping[str, Any], columns: Mapping[str, str]) -> str:
    return table(
        ["lane", *columns.values()],
        [[lane, *(cell(f[name]) for name in columns)] for lane, f in lanes.items()],
    )
