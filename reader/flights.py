"""Single flight: what several answers lack at once is filled once per process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import NamedTuple

from reader.named import Position
from reader.parts import Origin, Wanted
from reader.read_model.cached_values import Entry
from reader.read_model.scans import CachedList


class Found(NamedTuple):
    """An entry, and a position at which it is valid."""

    entry: Entry
    position: Position
    origin: Origin


Filling = Coroutine[None, None, dict[str, Found]]


class Flights:
    """A flight is a task: a cancelled waiter does not end it."""

    def __init__(self, fill: Callable[[Sequence[Wanted]], Filling]) -> None:
        self._fill = fill
        self._flights: dict[str, asyncio.Task[dict[str, Found]]] = {}
        self._collecting: tuple[list[Wanted], asyncio.Task[dict[str, Found]]] | None = None

    async def join(self, wanted: Sequence[Wanted]) -> dict[str, Found]:
        """Fill each key in one flight at a time."""
        new = [one for one in wanted if one.key not in self._flights]
        if new:
            self._flights |= dict.fromkeys([one.key for one in new], self._flight(new))
        flights = {self._flights[one.key] for one in wanted}
        await asyncio.wait(flights)
        found = {key: one for flight in flights for key, one in flight.result().items()}
        return {one.key: found[one.key] for one in wanted if one.key in found}

    async def aclose(self) -> None:
        """Cancel the flights under way; nobody waits for them any more."""
        flights = set(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def _flight(self, new: list[Wanted]) -> asyncio.Task[dict[str, Found]]:
        """The task that will fill `new`.

        Entities missed in the same turn of the event loop are read together, as a task begins in the next
        turn. Lists are read apart: no list should wait for another.
        """
        if any(isinstance(one.kind, CachedList) for one in new):
            return self._started(self._fill(new), new)
        if self._collecting is None:
            together: list[Wanted] = []
            self._collecting = together, self._started(self._fill_collected(together), together)
        wanted, task = self._collecting
        wanted += new
        return task

    async def _fill_collected(self, wanted: Sequence[Wanted]) -> dict[str, Found]:
        self._collecting = None
        return await self._fill(wanted)

    def _started(self, filling: Filling, wanted: Iterable[Wanted]) -> asyncio.Task[dict[str, Found]]:
        flight = asyncio.create_task(filling)
        flight.add_done_callback(partial(self._ended, wanted))
        return flight

    def _ended(self, wanted: Iterable[Wanted], flight: asyncio.Task[dict[str, Found]]) -> None:
        for one in wanted:
            del self._flights[one.key]
        if not flight.cancelled():
            flight.exception()  # asyncio would log it if all waiters are gone
