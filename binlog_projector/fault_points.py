"""Moments at which a failure is worst, by name: the tests kill or pause the projector there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

FaultPoint = Literal[
    "inside_transaction",  # MongoDB has all writes of a transaction, but not its commit
    "after_commit",
    "before_apply",  # the values for Redis are read, and may grow old
    "after_apply",
    "before_tick",
    "before_switch",
    "after_switch",  # the new build serves, and Redis does not know it
]
listener: Callable[[FaultPoint], None] | None = None  # set by tests alone


def reached(point: FaultPoint) -> None:
    """The projector is at this point."""
    if listener is not None:
        listener(point)
