"""Between a replica, the shipping Refreshing and Redis: what messages take away is asked for again."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import cast

from reader.cache import Cache
from reader.lookups import Looked
from reader.read_model.cached_values import entity_of, list_of
from reader.refreshing import Refreshing
from reader.replica import Replica
from tests.verification.schedules.promises import BrokenPromise


class Refreshes:
    """Each key that a message takes away is asked for once, nothing else is, by one MGET at a time."""

    def __init__(self, cache: Cache, replica: Replica) -> None:
        self._cache = cache
        self._owed: set[str] = set()
        self._asking: asyncio.Future[Looked] | None = None
        self._broken = ""
        self._refreshing = Refreshing(cast(Cache, self), replica)
        replica.dropped = self._dropped

    def get(self, keys: Sequence[str]) -> asyncio.Future[Looked]:
        if not self._owed.issuperset(keys):
            self._broken = f"nobody needs {sorted({*keys} - self._owed)}"
        if self._asking is not None and not self._asking.done():
            self._broken = f"{keys} are asked for during another MGET"
        self._owed.difference_update(keys)
        self._asking = self._cache.get(keys)
        return self._asking

    def look(self) -> None:
        if self._broken:
            raise BrokenPromise(self._broken)

    def at_the_end(self) -> None:
        if self._owed:
            raise BrokenPromise(f"{sorted(self._owed)} were taken away, and not asked for")

    def _dropped(self, dropped: Sequence[str], names: Collection[str]) -> None:
        """With a list come the entities that its message names."""
        self._owed.update(dropped)
        if any(map(list_of, dropped)):
            self._owed.update(filter(entity_of, names))
        self._refreshing.refresh(dropped, names)
