"""Reads through the cache: a miss is a single flight under a fill lease.

A value fills the cache only if its checkpoint provably continues the watermark.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

from reader import parts
from reader.cache import Cache, FillLease, Lookup
from reader.document_store import DocumentStore, View
from reader.errors import CacheBypassed, DocumentsUnavailable
from reader.metrics import ReaderMetrics
from reader.parts import Origin, Part, Wanted, present_part
from reader.read_model.cached_values import ABSENT, Watermark, absent_ttl_ms, value_ttl_ms
from reader.read_model.declarations import Listing

LEASE_PAUSES_SECONDS = (0.002, 0.005)


class Fetch(NamedTuple):
    """One way to read missing keys; keys with equal fetches can be read together."""

    read: Callable[[Sequence[Wanted], Any], Coroutine[None, None, dict[str, Part]]]
    how: str | Origin

    async def run(self, wanted: Sequence[Wanted]) -> dict[str, Part]:
        return await self.read(wanted, self.how)


class ReadPath(Protocol):
    """The way queries get entities and first pages. Raises DocumentsUnavailable."""

    async def get(self, wanted: Iterable[Wanted]) -> dict[str, Part]:
        """Key -> part for each of `wanted`."""

    async def from_documents(self, wanted: Sequence[Wanted], origin: Origin) -> dict[str, Part]:
        """The same from MongoDB alone, filling nothing."""


class DocumentsOnly:
    """The path for a read whose consistency token is ahead of the cache."""

    def __init__(self, path: ReadPath) -> None:
        self._path = path

    async def get(self, wanted: Iterable[Wanted]) -> dict[str, Part]:
        asked = list(wanted)
        return await self._path.from_documents(asked, Origin.TOKEN) if asked else {}

    async def from_documents(self, wanted: Sequence[Wanted], origin: Origin) -> dict[str, Part]:
        return await self._path.from_documents(wanted, origin)


class ReadThrough:
    """Entities and first pages by key. Raises DocumentsUnavailable if MongoDB was needed and gave nothing."""

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
        """Key -> part for each of `wanted`; all cached parts come from one MGET."""
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
        """The serving build's checkpoint."""
        return (await self._documents.view()).proof

    async def aclose(self) -> None:
        """Cancel the flights under way; nobody waits for them any more."""
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
        """Read each key in one flight at a time. A flight is a task: a cancelled waiter does not end it."""
        new = [one for one in wanted if one.key not in self._flights]
        if new:
            self._flights |= dict.fromkeys([one.key for one in new], self._flight(new, fetch))
        flights = {one.key: self._flights[one.key] for one in wanted}
        await asyncio.wait(flights.values())
        return {key: flight.result()[key] for key, flight in flights.items()}

    def _flight(self, new: list[Wanted], fetch: Fetch) -> asyncio.Task[dict[str, Part]]:
        """The task that will read `new`.

        Entities missed in the same turn of the event loop are read together, as a task begins in the next
        turn. Lists are read apart: no list should wait for another.
        """
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
            task.exception()  # asyncio would log it if all waiters are gone

    async def _miss(self, wanted: Sequence[Wanted], epoch: str) -> dict[str, Part]:
        try:
            lease = await self._cache.lease([one.key for one in wanted], epoch)
        except CacheBypassed as bypassed:
            return await self.from_documents(wanted, bypassed.origin)
        mine = [one for one in wanted if one.key in lease.keys]
        others = [one for one in wanted if one.key not in lease.keys]
        found = await self._fill(mine, lease) if mine else {}
        return found | (await self._await_lease(others) if others else {})

    async def _fill(self, wanted: Sequence[Wanted], lease: FillLease) -> dict[str, Part]:
        view, values = await self._read(wanted, lease.watermark)
        results = await self._store(view, lease, values)
        for one in wanted:
            self._metrics.cache_fills.add(one.label, results[one.key])
        origins = {
            key: Origin.STORED if result == "stored" else Origin.MISS for key, result in results.items()
        }
        return {key: parts.part(value, view.proof, origins[key]) for key, value in values.items()}

    async def _store(self, view: View, lease: FillLease, values: dict[str, bytes]) -> dict[str, str]:
        if not view.continues or view.proof.epoch != lease.epoch:
            return dict.fromkeys(values, "behind_watermark")
        try:
            return await self._cache.fill(
                lease, {key: (value, self._ttl_ms(value)) for key, value in values.items()}
            )
        except CacheBypassed:
            return dict.fromkeys(values, "error")

    async def _await_lease(self, wanted: Sequence[Wanted]) -> dict[str, Part]:
        """Another reader fills these keys: look again after some milliseconds, then ask MongoDB."""
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
