"""`python -m perf all`: the benchmarks of the projector, and all tables of docs/performance.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perf.projector.cpu import cpu
from perf.projector.decode import decode
from perf.projector.growth import growth
from perf.projector.lag import lag
from perf.projector.peers.run import peers
from perf.projector.performance import PAGE, conditions, row, text, write_place
from perf.projector.project import project
from perf.projector.snapshot import snapshot
from perf.projector.stages import stages

CPU_SECONDS, CPU_RATE = 30.0, 200.0
GROWTH_ROWS = 10_000_000
Results = Mapping[str, Mapping[str, Any]]


def everything(transactions: int, seconds: float, rate: int, seed: int) -> dict[str, Any]:
    """Run them and write the page. Raises StackError, RuntimeError."""
    found = {
        "decode": decode(transactions, seed),
        "project": project(transactions, seed),
        "lag": lag(seconds, rate, seed),
        "cpu": cpu(CPU_SECONDS, CPU_RATE, seed, "writer"),
        "snapshot": snapshot(transactions, seed),
    }
    fill(PAGE, found, conditions())
    found |= {f"stages_{kind}": figures for kind, figures in stages(transactions, seed).items()}
    found |= {f"growth_{cache}": figures for cache, figures in growth(GROWTH_ROWS, seed).items()}
    return found | {f"peers_{name}": figures for name, figures in peers(transactions, seed).items()}


def fill(page: Path, found: Results, measured_on: Mapping[str, str]) -> None:
    """Put the table of results, and the conditions, into their place on the page."""
    write_place(page, "all", _table(found), measured_on)


def _table(found: Results) -> str:
    """Ratios first: they tell more about another machine than figures do."""
    lines = [
        (name, row((f"`perf {command}`", f"`{name}`", text(value))))
        for command, figures in found.items()
        for name, value in _flat(figures).items()
    ]
    ratios = [line for name, line in lines if "_to_" in name]
    others = [line for name, line in lines if "_to_" not in name]
    tables = {"ratio": ratios, "figure": others}
    return "\n\n".join(
        "\n".join([f"| command | {kind} | value |", "| --- | --- | ---: |", *some])
        for kind, some in tables.items()
        if some
    )


def _flat(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Figures by process get a line each."""
    flat: dict[str, Any] = {}
    for name, value in figures.items():
        flat |= (
            {f"{name}.{who}": one for who, one in value.items()} if isinstance(value, dict) else {name: value}
        )
    return flat
