"""A copy's progress: a bar on a terminal, elsewhere a log line at most once a second."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

SAY_SECONDS = 1.0
log = structlog.get_logger()


class Progress:
    """`expected_rows` is an estimate: a copy may have more rows or fewer."""

    def __init__(self, expected_rows: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.expected_rows = expected_rows
        self.rows = 0
        self.clock = clock
        self.began = self.said = clock()
        self.bar = _bar(expected_rows) if sys.stderr.isatty() else None

    def __enter__(self) -> Progress:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def seconds(self) -> float:
        return self.clock() - self.began

    def copied(self, rows: int) -> None:
        self.rows += rows
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=self.rows)
        elif self.clock() - self.said >= SAY_SECONDS:
            self.said = self.clock()
            log.info("snapshot", rows=self.rows, **self._outlook())

    def _outlook(self) -> dict[str, int]:
        """Percent and seconds left. Empty once the estimate is reached."""
        if self.rows >= self.expected_rows:
            return {}
        left = self.seconds() * (self.expected_rows - self.rows) / self.rows
        return {"percent": 100 * self.rows // self.expected_rows, "seconds_left": round(left)}


def _bar(expected_rows: int) -> Bar | None:
    """Imports rich only here: services start sooner without it. None if the cursor cannot move."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_interactive:
        return None
    rows = TextColumn("{task.completed:,} of about {task.total:,} rows")
    bar = Progress(
        TextColumn("copying"), BarColumn(), rows, TimeRemainingColumn(), console=console, transient=True
    )
    bar.add_task("copying", total=expected_rows)
    return bar
