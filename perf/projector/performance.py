"""docs/performance.md: each benchmark of the projector has a place there that it writes."""

from __future__ import annotations

import platform
import re
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path

from ops.child import ROOT
from ops.stack.progress import say
from perf.machine import machine

PAGE = ROOT / "docs" / "performance.md"


def read_place(page: Path, command: str) -> str:
    """The text at the place of `python -m perf COMMAND`."""
    found = _place(command).search(page.read_text())
    assert found is not None
    return found[2]


def conditions() -> dict[str, str]:
    """Machine and Python of a measurement: name -> value."""
    return machine() | {"Python": platform.python_version()}


def write_place(page: Path, command: str, table: str, measured_on: Mapping[str, str]) -> None:
    measured = "; ".join(f"{name}: {value}" for name, value in measured_on.items())
    section = f"{table}\n\n{textwrap.fill(f'Measured on {measured}.', 110)}\n"
    filled, places = _place(command).subn(lambda place: f"{place[1]}{section}{place[3]}", page.read_text())
    if places != 1:
        say(f"{page} has {places} places for `python -m perf {command}`, not one: nothing is written there")
        return
    page.write_text(filled)


def row(cells: Iterable[str]) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |"


def text(value: object) -> str:
    """A figure as the page shows it."""
    return f"{value:,}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _place(command: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- python -m perf {command} -->\n)(.*?)(<!-- end -->)", re.DOTALL)
