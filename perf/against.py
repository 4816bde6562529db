"""`python -m perf COMMAND --against CHECKOUT`: one benchmark here and on another checkout, in turn."""

from __future__ import annotations

import json
import pickle
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ops.child import ROOT
from ops.stack.progress import say

ROUNDS = 3
# `perf` is ours for both. All other packages, and so the services, are the checkout's.
RUN = """
import json, pickle, sys
sys.path.insert(0, sys.argv[1])
import perf
sys.path[0] = sys.argv[2]
run, options = pickle.load(sys.stdin.buffer)
print(json.dumps(run(**options)))
"""
Run = Callable[..., dict[str, Any]]


def against(checkout: Path, run: Run, options: Mapping[str, Any]) -> dict[str, Any]:
    """Figure -> `here`, `there` (medians of three rounds in turn) and their `ratio`. Raises RuntimeError."""
    here, there = [], []
    for number in range(1, ROUNDS + 1):
        say(f"round {number} of {ROUNDS}, here")
        here.append(_numbers(run_in(ROOT, run, options)))
        say(f"round {number} of {ROUNDS}, {checkout}")
        there.append(_numbers(run_in(checkout, run, options)))
    return {name: _compared([one[name] for one in here], [one[name] for one in there]) for name in here[0]}


def run_in(checkout: Path, run: Run, options: Mapping[str, Any]) -> Any:
    """Run it in a process whose packages, but `perf`, are the checkout's. Raises RuntimeError."""
    command = [sys.executable, "-P", "-c", RUN, str(ROOT), str(checkout.absolute())]
    given = pickle.dumps((run, dict(options)))
    done = subprocess.run(command, cwd=checkout, input=given, stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{run.__name__} in {checkout} ended with status {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def _numbers(found: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The figures of all levels, their names joined by dots."""
    numbers: dict[str, float] = {}
    for name, value in found.items():
        if isinstance(value, Mapping):
            numbers |= _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            numbers[prefix + name] = value
    return numbers


def _compared(here: list[float], there: list[float]) -> dict[str, float | None]:
    ours, theirs = statistics.median(here), statistics.median(there)
    return {"here": ours, "there": theirs, "ratio": round(ours / theirs, 3) if theirs else None}
