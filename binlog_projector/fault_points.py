"""The moments at which a failure is worst, by name: tests kill or pause the projector there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

FaultPoint = Literal[
    "inside_transaction",  # MongoDB has all writes of a transaction, but not its commit
    "after_commit",
    "before_apply",  # the values for Redis were read, and may become stale
    "after_apply",
    "before_tick",
    "before_switch",
    "before_swap",  # the stream is held at the swap of a table
    "comparing_swap",  # a chunk of a table that a tool has swapped is compared
    "after_swap",  # the new table is proved to be the same, and nothing is noted of it
    "after_switch",  # the new build serves, and the watermark in Redis is of the old one
]
listener: Callable[[FaultPoint], None] | None = None  # only tests set it


def reached(point: FaultPoint) -> None:
    """The projector is at this point."""
    if listener is not None:
        listener(point)
