"""`python -m perf all`: the projector's benchmarks one after the other, and all tables of docs/performance.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perf.projector.decode import decode
from perf.projector.growth import growth
from perf.projector.lag import lag
from perf.projector.peers.run import peers
from perf.projector.performance import PAGE, conditions, row, text, write_place
from perf.projector.project import project
from perf.projector.snapshot import snapshot
from perf.projector.stages import stages

GROWTH_ROWS = (100_000, 1_000_000, 10_000_000)
Results = Mapping[str, Mapping[str, Any]]


def everything(transactions: int, seconds: float, rate: int, seed: int) -> dict[str, Any]:
    """Run them and write the page. Raises StackError, RuntimeError."""
    found = {
        "decode": decode(transactions, seed),
        "project": project(transactions, seed),
        "lag": lag(seconds, rate, seed),
        "snapshot": snapshot(transactions, seed),
    }
    fill(PAGE, found, conditions())
    found |= {f"stages_{kind}": figures for kind, figures in stages(transactions, seed).items()}
    found |= {f"growth_{rows}": growth(rows, seed) for rows in GROWTH_ROWS}
    return found | {f"peers_{name}": figures for name, figures in peers(transactions, seed).items()}


def fill(page: Path, found: Results, measured_on: Mapping[str, str]) -> None:
    """Put the table of results, and under which conditions they were measured, into its place on the page."""
    write_place(page, "all", _table(found), measured_on)


def _table(found: Results) -> str:
    rows = [
        row((f"`perf {command}`", f"`{name}`", text(value)))
        for command, figures in found.items()
        for name, value in figures.items()
    ]
    return "\n".join(["| command | figure | value |", "| --- | --- | ---: |", *rows])
