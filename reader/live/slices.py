"""Work for thousands of clients, in slices: other requests have their turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

TOGETHER = 50  # clients: about 1 ms
TURNS = 3  # of the event loop, in which a GET that came during a slice is read, answered and written
T = TypeVar("T")


class Slices:
    """One slice at a time, however many have work; they take turns. Then come TURNS without a slice."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def each(self, clients: Sequence[T], call: Callable[[Sequence[T]], None]) -> None:
        """`call` gets one slice after the other."""
        for first in range(0, len(clients), TOGETHER):
            async with self._turn:
                call(clients[first : first + TOGETHER])
                for _ in range(TURNS):
                    await asyncio.sleep(0)
