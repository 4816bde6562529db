"""`python -m perf all`: the projector's benchmarks one after the other, and their table in docs/performance.md."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ops.system import ROOT
from perf.compare.machine import machine
from perf.decode import decode
from perf.lag import lag
from perf.project import project
from perf.snapshot import snapshot

PAGE = ROOT / "docs" / "performance.md"
Results = Mapping[str, Mapping[str, Any]]


def all_of_projector(transactions: int, seconds: float, rate: int, seed: int) -> dict[str, Any]:
    """Run them and write the page. Raises StackError, RuntimeError."""
    found = {
        "decode": decode(transactions, seed),
        "project": project(transactions, seed),
        "lag": lag(seconds, rate, seed),
        "snapshot": snapshot(transactions, seed),
    }
    fill(PAGE, found, machine())
    return found


def fill(page: Path, found: Results, conditions: Mapping[str, str]) -> None:
    """Put the table of results, and under which conditions they were measured, into its place on the page."""
    write_place(page, "all", _table(found), conditions)


def read_place(page: Path, command: str) -> str:
    """What stands where `python -m perf COMMAND` writes."""
    found = _place(command).search(page.read_text())
    assert found is not None
    return found[2]


def write_place(page: Path, command: str, table: str, conditions: Mapping[str, str]) -> None:
    measured = "; ".join(f"{name}: {value}" for name, value in conditions.items())
    section = f"{table}\n\nMeasured on {measured}.\n"
    page.write_text(_place(command).sub(lambda place: f"{place[1]}{section}{place[3]}", page.read_text()))


def text(value: object) -> str:
    """A figure as the page shows it."""
    return f"{value:,}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _place(command: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- python -m perf {command} -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def _table(found: Results) -> str:
    rows = [
        f"| `perf {command}` | `{name}` | {text(value)} |"
        for command, figures in found.items()
        for name, value in figures.items()
    ]
    return "\n".join(["| command | figure | value |", "| --- | --- | ---: |", *rows])
