"""The options of a comparison."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FULL: Mapping[str, Any] = {"posts": 20_000, "duration": 15.0, "iterations": 250, "rounds": 3}
WARM_UP_SECONDS = 5.0  # JMeter's p99 is 10 to 100 times higher before that
QUICK: Mapping[str, Any] = {"posts": 8_000, "duration": 5.0, "iterations": 100, "rounds": 2}


@dataclass(frozen=True)
class Options:
    """`threads` and `iterations` are JMeter's. `duration` is of each measurement. `rate` 0: 80 % of sql.

    `warm_up` seconds of JMeter's paced reads are left out, and so long wrk warms up at most.
    """

    threads: int
    iterations: int
    duration: float
    posts: int
    rounds: int
    seed: int
    writes: float
    rate: float = 0.0
    warm_up: float = WARM_UP_SECONDS
    sweep: bool = False
    out: Path | None = None


def more_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `python -m perf compare` that depend on `--quick`, or are no numbers."""
    for name, kind, text in (
        ("iterations", int, "of each JMeter thread where it writes"),
        ("duration", float, "seconds of each measurement"),
        ("posts", int, "in the dataset; likes, comments and users grow with it"),
        ("rounds", int, "of all lanes, one after the other"),
    ):
        parser.add_argument(
            f"--{name}", type=kind, help=f"{text} (default: {FULL[name]:g}; quick: {QUICK[name]:g})"
        )
    parser.add_argument(
        "--rate", type=float, help="of paced reads, a second (default: 80 %% of what sql can do)"
    )
    parser.add_argument("--quick", action="store_true", help="less of everything: under 5 minutes on 2 cores")
    parser.add_argument(
        "--sweep", action="store_true", help="also vary the share of writes and the dataset's size"
    )
    parser.add_argument("--out", type=Path, help="folder of the report (default: build/compare/<time>)")


def options_from(given: Mapping[str, Any]) -> Options:
    """Given options, else the defaults."""
    chosen = {name: value for name, value in given.items() if value is not None and name != "quick"}
    return Options(**{**(QUICK if given["quick"] else FULL), **chosen})
