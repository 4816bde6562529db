"""Progress: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ops.stack.progress import say


class Steps:
    """Says what is done next; on a terminal also how much of `total` is left."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=total) if progress else None
        self._begun = False

    def next(self, doing: str) -> None:
        """The step before is done; this one begins."""
        if self._progress is None or self._task is None:
            say(doing)
            return
        self._progress.update(self._task, description=doing, advance=1 if self._begun else 0)
        self._begun = True


@contextlib.contextmanager
def steps(total: int) -> Iterator[Steps]:
    """A bar on standard error if that is a terminal."""
    if not sys.stderr.isatty():
        yield Steps(total, None)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield Steps(total, progress)
