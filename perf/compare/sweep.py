"""`--sweep`: how the cost of a read grows with the share of writes, and with the size of the dataset."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ops.system import System
from perf.compare.bench import Bench, bench
from perf.compare.contenders import NAMES, Contender, contenders
from perf.compare.crowd import Crowd
from perf.compare.loading import load
from perf.compare.meters import timeline
from perf.compare.options import Options
from perf.compare.result import under_load
from perf.compare.steps import Steps

WRITES_PER_S = (0.0, 50.0, 200.0, 500.0)
SIZES = (0.25, 1.0, 4.0)  # times the posts that were asked for
STEPS = 2 * len(SIZES) + len(NAMES) * (len(WRITES_PER_S) + len(SIZES))
Points = list[dict[str, Any]]


def sweep(options: Options, progress: Steps) -> dict[str, Points]:
    """Each point: `x` (writes a second, or posts), and each lane's figures there."""
    found: dict[str, Points] = {"writes": [], "posts": []}
    for size in SIZES:
        with ExitStack() as undo:
            crowd = Crowd(int(options.posts * size), options.seed)
            lanes, measuring = _started(replace(options, posts=crowd.posts), crowd, progress, undo)
            found["posts"] += _points("posts", {float(crowd.posts): 0.0}, lanes, measuring, progress)
            if size == 1:
                found["writes"] = _points(
                    "writes/s", {rate: rate for rate in WRITES_PER_S}, lanes, measuring, progress
                )
    return found


def _started(
    options: Options, crowd: Crowd, progress: Steps, undo: ExitStack
) -> tuple[Mapping[str, Contender], Bench]:
    system = undo.enter_context(System(os.environ))
    load(system, crowd, progress)
    lanes = undo.enter_context(contenders(system))
    times = undo.enter_context(timeline(system))
    work = Path(undo.enter_context(TemporaryDirectory(prefix="tidemark-perf-")))
    return lanes, undo.enter_context(bench(system, crowd, options, work, times))


def _points(
    unit: str,
    writes_at: Mapping[float, float],
    lanes: Mapping[str, Contender],
    measuring: Bench,
    progress: Steps,
) -> Points:
    return [
        {"x": x, "lanes": _each(lanes.values(), measuring, writes, f"{x:g} {unit}", progress)}
        for x, writes in writes_at.items()
    ]


def _each(
    lanes: Iterable[Contender], measuring: Bench, writes: float, where: str, progress: Steps
) -> dict[str, Any]:
    found = {}
    for lane in lanes:
        progress.next(f"sweep, {where}: {lane.name}")
        measured = measuring.reads(lane, writes)
        found[lane.name] = {**under_load([measured]), "share_of_writes": _share(measured.load.rps, writes)}
    return found


def _share(reads: float, writes: float) -> float:
    return round(writes / (reads + writes), 4)
