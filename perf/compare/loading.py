"""The dataset in MySQL and in the read model."""

from __future__ import annotations

from ops.system import System
from perf.catching_up import wait_until_caught_up
from perf.compare.crowd import Crowd
from perf.compare.steps import Steps
from perf.tuned import tune


def load(system: System, crowd: Crowd, progress: Steps) -> None:
    """Load the dataset into tuned servers and wait until it is served."""
    progress.next(f"loading {crowd.posts} posts and what people do with them")
    tune(system)
    crowd.load(system.stack.environment()["TIDEMARK_WRITER_MYSQL_URL"])
    progress.next("waiting for the projector")
    wait_until_caught_up(system)
