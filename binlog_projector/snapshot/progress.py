"""How far a copy has come: a bar on a terminal, elsewhere a line of the log now and then."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

import structlog
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

SAY_SECONDS = 1.0
log = structlog.get_logger()


class Progress:
    """`expected_rows` is an estimate: a copy may have more, or be complete with fewer."""

    def __init__(self, expected_rows: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.expected_rows = expected_rows
        self.rows = 0
        self.clock = clock
        self.began = self.said = clock()
        console = Console(stderr=True)
        rows = TextColumn("{task.completed:,} of about {task.total:,} rows")
        columns = (TextColumn("copying"), BarColumn(), rows, TimeRemainingColumn())
        self.bar = Bar(*columns, console=console, transient=True, disable=not console.is_interactive)
        self.task = self.bar.add_task("copying", total=expected_rows)

    def __enter__(self) -> Progress:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.bar.stop()

    def seconds(self) -> float:
        return self.clock() - self.began

    def copied(self, rows: int) -> None:
        self.rows += rows
        self.bar.update(self.task, completed=self.rows)
        if self.bar.disable and self.clock() - self.said >= SAY_SECONDS:
            self.said = self.clock()
            log.info("snapshot", rows=self.rows, **self._outlook())

    def _outlook(self) -> dict[str, int]:
        """Nothing where nothing more is expected."""
        if self.rows >= self.expected_rows:
            return {}
        left = self.seconds() * (self.expected_rows - self.rows) / self.rows
        return {"percent": 100 * self.rows // self.expected_rows, "seconds_left": round(left)}
