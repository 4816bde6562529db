"""Cache, else MongoDB: misses are single flights under a lease, and fill only what provably continues the watermark."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

from reader import parts
from reader.cache import Cache, Lease, Lookup
from reader.document_store import DocumentStore, View
from reader.errors import CacheBypassed, DocumentsUnavailable
from reader.metrics import ReaderMetrics
from reader.parts import Origin, Part, Wanted, present_part
from reader.read_model.cached_values import ABSENT, Watermark, absent_ttl_ms, value_ttl_ms
from reader.read_model.declarations import Listing

LEASE_PAUSES_SECONDS = (0.002, 0.005)


class Fetch(NamedTuple):
    """One way to read what is missing; what is missed in the same way can be read together."""

    read: Callable[[Sequence[Wanted], Any], Coroutine[None, None, dict[str, Part]]]
    how: str | Origin

    async def run(self, wanted: Sequence[Wanted]) -> dict[str, Part]:
        return await self.read(wanted, self.how)


class ReadPath(Protocol):
    """How queries get entities and first pages. Raises DocumentsUnavailable."""

    async def get(self, wanted: Iterable[Wanted]) -> dict[str, Part]:
        """Key -> part for all of `wanted`."""

    async def from_documents(self, wanted: Sequence[Wanted], origin: Origin) -> dict[str, Part]:
        """The same from MongoDB alone, filling nothing."""


class DocumentsOnly:
    """The path for those whose consistency token the cache does not contain yet."""

    def __init__(self, path: ReadPath) -> None:
        self._path = path

    async def get(self, wanted: Iterable[Wanted]) -> dict[str, Part]:
        asked = list(wanted)
        return await self._path.from_documents(asked, Origin.TOKEN) if asked else {}

    async def from_documents(self, wanted: Sequence[Wanted], origin: Origin) -> dict[str, Part]:
        return await self._path.from_documents(wanted, origin)


class ReadThrough:
    """Entities and first pages by key. Raises DocumentsUnavailable for what only MongoDB could have given."""

    def __init__(
        self,
        cache: Cache,
        documents: DocumentStore,
        metrics: ReaderMetrics,
        fraction: Callable[[], float] = random.random,
    ) -> None:
        self._cache = cache
        self._documents = documents
        self._metrics = metrics
        self._fraction = fraction
        self._flights: dict[str, asyncio.Task[dict[str, Part]]] = {}
        self._collecting: dict[Fetch, tuple[list[Wanted], asyncio.Task[dict[str, Part]]]] = {}

    async def get(self, wanted: Iterable[Wanted]) -> dict[str, Part]:
        """Key -> part for all of `wanted`; what the cache has comes from one MGET."""
        asked = {one.key: one for one in wanted}
        if not asked:
            return {}
        try:
            lookup = await self._cache.get(list(asked))
        except CacheBypassed as bypassed:
            self._count(
                "redis", asked.values(), "error" if bypassed.origin is Origin.UNAVAILABLE else "bypass"
            )
            return await self._join(list(asked.values()), Fetch(self.from_documents, bypassed.origin))
        found = self._found(asked.values(), lookup)
        if len(found) < len(asked):
            missing = [one for key, one in asked.items() if key not in found]
            found |= await self._join(missing, Fetch(self._miss, lookup.watermark.epoch))
        return found

    async def from_documents(self, wanted: Sequence[Wanted], origin: Origin) -> dict[str, Part]:
        """The same from MongoDB alone, filling nothing."""
        view, values = await self._read(wanted)
        return {key: parts.part(value, view.proof, origin) for key, value in values.items()}

    async def watermark(self) -> Watermark:
        """The watermark in force. Raises CacheBypassed."""
        return (await self._cache.get([])).watermark

    async def checkpoint(self) -> Watermark:
        """How far MongoDB is."""
        return (await self._documents.view()).proof

    async def aclose(self) -> None:
        """End the flights that still are under way; nobody waits for them any more."""
        flights = set(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def _found(self, wanted: Iterable[Wanted], lookup: Lookup) -> dict[str, Part]:
        found = {}
        for one in wanted:
            part = present_part(lookup.values[one.key], lookup.watermark)
            if part is not None:
                found[one.key] = part
            result = "miss" if part is None else "hit" if part.entry.present else "absent"
            self._metrics.cache_requests.add("redis", one.label, result)
        return found

    async def _join(self, wanted: Sequence[Wanted], fetch: Fetch) -> dict[str, Part]:
        """Each key is read by one flight at a time, in a task of its own: a waiter that is cancelled ends nothing."""
        new = [one for one in wanted if one.key not in self._flights]
        if new:
            self._flights |= dict.fromkeys([one.key for one in new], self._flight(new, fetch))
        flights = {one.key: self._flights[one.key] for one in wanted}
        await asyncio.wait(flights.values())
        return {key: flight.result()[key] for key, flight in flights.items()}

    def _flight(self, new: list[Wanted], fetch: Fetch) -> asyncio.Task[dict[str, Part]]:
        """The task that will read `new`. Entities that are missed in the same turn of the event loop are read together:
        a task begins in the next one. Lists are not, for nobody should have to wait for another one's list."""
        if any(isinstance(one.kind, Listing) for one in new):
            return self._started(fetch.run(new), new)
        if fetch not in self._collecting:
            together: list[Wanted] = []
            self._collecting[fetch] = together, self._started(self._run_collected(fetch, together), together)
        wanted, task = self._collecting[fetch]
        wanted += new
        return task

    async def _run_collected(self, fetch: Fetch, wanted: Sequence[Wanted]) -> dict[str, Part]:
        del self._collecting[fetch]
        return await fetch.run(wanted)

    def _started(
        self, reading: Coroutine[None, None, dict[str, Part]], wanted: Iterable[Wanted]
    ) -> asyncio.Task[dict[str, Part]]:
        task = asyncio.create_task(reading)
        task.add_done_callback(partial(self._ended, wanted))
        return task

    def _ended(self, wanted: Iterable[Wanted], task: asyncio.Task[dict[str, Part]]) -> None:
        for one in wanted:
            del self._flights[one.key]
        if not task.cancelled():
            task.exception()  # its waiters may all be gone

    async def _miss(self, wanted: Sequence[Wanted], epoch: str) -> dict[str, Part]:
        try:
            lease = await self._cache.lease([one.key for one in wanted], epoch)
        except CacheBypassed as bypassed:
            return await self.from_documents(wanted, bypassed.origin)
        mine = [one for one in wanted if one.key in lease.keys]
        others = [one for one in wanted if one.key not in lease.keys]
        found = await self._fill(mine, lease) if mine else {}
        return found | (await self._await_lease(others) if others else {})

    async def _fill(self, wanted: Sequence[Wanted], lease: Lease) -> dict[str, Part]:
        view, values = await self._read(wanted, lease.watermark)
        results = await self._store(view, lease, values)
        for one in wanted:
            self._metrics.cache_fills.add(one.label, results[one.key])
        origins = {
            key: Origin.STORED if result == "stored" else Origin.MISS for key, result in results.items()
        }
        return {key: parts.part(value, view.proof, origins[key]) for key, value in values.items()}

    async def _store(self, view: View, lease: Lease, values: dict[str, bytes]) -> dict[str, str]:
        if not view.continues or view.proof.epoch != lease.epoch:
            return dict.fromkeys(values, "behind_watermark")
        try:
            return await self._cache.fill(
                lease, {key: (value, self._ttl_ms(value)) for key, value in values.items()}
            )
        except CacheBypassed:
            return dict.fromkeys(values, "error")

    async def _await_lease(self, wanted: Sequence[Wanted]) -> dict[str, Part]:
        """Another reader is filling these: its value is likely there in milliseconds, else MongoDB answers."""
        self._count("redis", wanted, "lease_wait")
        found: dict[str, Part] = {}
        for seconds in LEASE_PAUSES_SECONDS:
            await asyncio.sleep(seconds)
            try:
                lookup = await self._cache.get([one.key for one in wanted])
            except CacheBypassed as bypassed:
                return await self.from_documents(wanted, bypassed.origin)
            looked = {one.key: present_part(lookup.values[one.key], lookup.watermark) for one in wanted}
            found = {key: part for key, part in looked.items() if part is not None}
            if len(found) == len(wanted):
                return found
        left = [one for one in wanted if one.key not in found]
        return found | await self.from_documents(left, Origin.LEASE_HELD)

    async def _read(
        self, wanted: Sequence[Wanted], watermark: Watermark | None = None
    ) -> tuple[View, dict[str, bytes]]:
        try:
            view = await self._documents.view(watermark)
            values = await self._documents.values(view, wanted)
        except DocumentsUnavailable:
            self._count("mongo", wanted, "error")
            raise
        for one in wanted:
            self._count("mongo", [one], "absent" if values[one.key].startswith(ABSENT) else "hit")
        return view, values

    def _ttl_ms(self, value: bytes) -> int:
        return (absent_ttl_ms if value.startswith(ABSENT) else value_ttl_ms)(self._fraction())

    def _count(self, layer: str, wanted: Iterable[Wanted], result: str) -> None:
        for one in wanted:
            self._metrics.cache_requests.add(layer, one.label, result)
