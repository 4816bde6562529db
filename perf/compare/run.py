"""`python -m perf compare`: start all, load the dataset, let the lanes take turns, write the report."""

from __future__ import annotations

import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean
from typing import Any

from ops.stack.progress import say
from ops.system import System
from perf import machine
from perf.compare import jmeter, report
from perf.compare.bench import Bench, bench
from perf.compare.contenders import NAMES, TIDEMARK, Contender, contenders
from perf.compare.crowd import Crowd
from perf.compare.jmeter import Samples
from perf.compare.loading import load
from perf.compare.meters import timeline
from perf.compare.options import Options, options_from
from perf.compare.result import Figures, Measurements, figures
from perf.compare.steps import Steps, steps
from perf.compare.sweep import STEPS as STEPS_OF_SWEEP
from perf.compare.sweep import sweep

SHARE_OF_MAXIMUM = 0.8
BEFORE_AND_AFTER = ("sql", TIDEMARK)


def compare(**given: Any) -> Figures:
    """Measure and write the report; returns `result.json`. Raises StackError, LoadFailed, RuntimeError."""
    options = options_from(given)
    began = time.monotonic()
    total = 4 + len(NAMES) * (options.rounds + 1) + 3 * len(BEFORE_AND_AFTER) + options.sweep * STEPS_OF_SWEEP
    with steps(total) as progress, tempfile.TemporaryDirectory(prefix="tidemark-perf-") as work:
        progress.next("starting everything")
        about = description(options)
        with System(os.environ) as system:
            crowd = Crowd(options.posts, options.seed)
            load(system, crowd, progress)
            with (
                contenders(system) as lanes,
                timeline(system) as times,
                bench(system, crowd, options, Path(work), times) as measuring,
            ):
                measured = measure(lanes, measuring, options, progress)
        grown = {"sweep": sweep(options, progress)} if options.sweep else {}
        progress.next("writing the report")
        found = {**figures(measured), **about, "dataset": crowd.description(), **grown}
        found["timeline"] = {"rates": times.rates(), "phases": times.phases}
        found["seconds"] = round(time.monotonic() - began, 1)
        keep(found, {lane: measuring.samples(lane, "get_post") for lane in NAMES}, results_folder(options))
    return found


def results_folder(options: Options) -> Path:
    return options.out or Path("build/compare") / f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%S}"


def keep(found: Figures, paced: Mapping[str, Path], folder: Path) -> None:
    """The report, its result.json, and JMeter's own report."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps(found, indent=1) + "\n")
    jmeter.dashboard(paced, folder / "jmeter")
    say(f"the report is {report.write(found, folder)}")


def description(options: Options) -> Figures:
    """Command, time and machine. Missing programs are downloaded here, before anything is started."""
    command = ["python", "-m", "perf", *sys.argv[1:]]
    return {
        "command": shlex.join(command),
        "when": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "machine": machine.machine(),
        "versions": machine.versions(),
        "commit": machine.commit(),
        "options": {name: value for name, value in vars(options).items() if name != "out"},
    }


def measure(
    lanes: Mapping[str, Contender], measuring: Bench, options: Options, progress: Steps
) -> Measurements:
    """All rounds, A B C D A B C D. Then paced reads, all at the same rate. Then writes and feeds."""
    found = Measurements(options.rate, {name: [] for name in lanes})
    for number in range(1, options.rounds + 1):
        for name, lane in lanes.items():
            progress.next(f"round {number} of {options.rounds}: {name}")
            found.turns[name].append(measuring.turn(lane))
    found.rate = options.rate or SHARE_OF_MAXIMUM * mean(turn.hot.load.rps for turn in found.turns["sql"])

    def each(names: Iterable[str], doing: str, run: Callable[[Contender], Samples]) -> dict[str, Samples]:
        samples = {}
        for name in names:
            progress.next(f"JMeter, {doing}: {name}")
            samples[name] = run(lanes[name])
        return samples

    found.paced = each(
        lanes, f"{found.rate:.0f} reads a second", lambda lane: measuring.paced(lane, found.rate)
    )
    found.posts = each(BEFORE_AND_AFTER, "posts", measuring.posts)
    found.mixed = each(BEFORE_AND_AFTER, "95 % reads and 5 % posts", measuring.mixed)
    found.feeds = each(BEFORE_AND_AFTER, "feeds", measuring.feeds)
    return found
