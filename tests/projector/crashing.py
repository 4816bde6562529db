"""A projector that kills itself at one point: `python -m tests.projector.crashing run`, CRASH_AT=point:count."""

from __future__ import annotations

import os
import signal
import sys

from pymongo import monitoring

from binlog_projector.__main__ import main
from binlog_projector.cache import CacheStage
from reader.read_model.control import JournalEntry

POINT, COUNT = os.environ["CRASH_AT"].split(":")
remaining = int(COUNT)


def count_down() -> None:
    """kill -9 ourselves at the chosen occurrence."""
    global remaining
    remaining -= 1
    if remaining <= 0:
        os.kill(os.getpid(), signal.SIGKILL)


class CommitListener(monitoring.CommandListener):
    """Sees the commit before it is sent, and after it has succeeded."""

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if POINT == "inside_transaction" and event.command_name == "commitTransaction":
            count_down()

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        if POINT in ("after_commit", "during_snapshot") and event.command_name == "commitTransaction":
            count_down()

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Failed commits are the product's business."""


def apply_and_count(stage: CacheStage, entry: JournalEntry) -> None:
    apply(stage, entry)
    if POINT == "after_apply":
        count_down()


apply = CacheStage.apply
setattr(CacheStage, "apply", apply_and_count)  # noqa: B010 - mypy refuses a plain assignment to a method
monitoring.register(CommitListener())

if __name__ == "__main__":
    sys.exit(main())
