"""Refreshing: entries that a message took out of the replica are asked of Redis at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Sequence

from reader.cache import Cache
from reader.errors import CacheBypassed
from reader.lookups import MGET_KEYS
from reader.read_model.cached_values import entity_of, list_of
from reader.replica import Replica


class Refreshing:
    """Looks up the keys of messages, one MGET at a time. Keys beyond its size are left out."""

    def __init__(self, cache: Cache, replica: Replica) -> None:
        self._cache = cache
        self._replica = replica
        self._keys: dict[str, None] = {}
        self._task: asyncio.Task[None] | None = None

    def refresh(self, dropped: Sequence[str], names: Collection[str]) -> None:
        """`dropped` of the `names` in a message. Who reads a list needs its new items next."""
        self._keys |= dict.fromkeys(dropped)
        if any(map(list_of, dropped)):
            self._keys |= dict.fromkeys(name for name in names if entity_of(name))
        if self._task is None:
            self._task = asyncio.create_task(self._work())

    async def _work(self) -> None:
        try:
            while self._keys:
                keys, self._keys = [*self._keys][:MGET_KEYS], {}
                with contextlib.suppress(CacheBypassed):
                    await self._cache.get(keys)
                    self._replica.unread(keys)
        finally:
            self._task = None
