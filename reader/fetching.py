"""Fetching: what a composition lacks, from Redis or from MongoDB, as of the composition's moment.

A key that Redis lacks is read once per process and lease, and fills Redis and the replica. It is read at the
cluster time of the lease's watermark, so that nothing is ever ahead of the tide.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import TypeVar

import structlog

from reader.cache import Cache, FillLease
from reader.document_store import DocumentStore
from reader.errors import CacheBypassed, DocumentsUnavailable, MomentGone
from reader.flights import Flights, Found
from reader.following import Following
from reader.lookups import MGET_KEYS
from reader.metrics import ReaderMetrics
from reader.moments import Moments
from reader.named import Position
from reader.parts import Origin, Wanted, WantedPage
from reader.read_model.cached_values import Entry, decode
from reader.read_model.declarations import AUTHORED, POST, USER, USER_POSTS
from reader.view import View

MAX_AUTHORS = 100_000
LEASE_PAUSES_SECONDS = (0.002, 0.005)
T = TypeVar("T")
log = structlog.get_logger()


class Fetching:
    """Completes views. Raises MomentGone, and DocumentsUnavailable if MongoDB was needed and gave nothing."""

    def __init__(
        self,
        following: Following,
        cache: Cache,
        documents: DocumentStore,
        moments: Moments,
        metrics: ReaderMetrics,
    ) -> None:
        self._following = following
        self._cache = cache
        self._documents = documents
        self._moments = moments
        self._metrics = metrics
        self._authors: dict[str, Wanted] = {}  # by key of what they wrote
        self._flights = Flights(self._fill)

    async def fetch(self, view: View) -> None:
        """Add what is missing, valid at the view's moment. The moment may move on, up to the tide."""
        authors = {
            author.key: author for key in view.missing if (author := self._authors.get(key)) is not None
        }
        wanted = [one for one in {**authors, **view.missing}.values() if one.key not in view.parts]
        if view.position is not None:
            cached = [one for one in wanted if isinstance(one, Wanted)]
            await self._through_cache(view, view.position, cached)
        left = [one for one in wanted if one.key not in view.parts]
        if left:
            if view.stored is None:
                view.stored = await self._read(left, self._moments.at(view.moment))
            entries = await self._read(left, self._moments.entries(view.stored, left))
            self._count_entries(left, entries)
            paged = [one for one in left if isinstance(one, WantedPage)]
            view.pages += paged
            view.add(entries, Origin.NOT_CACHED if paged else Origin.MISS)
        if view.position is not None:
            self._move_on(view, view.position, {})
        for one in wanted:
            self._remember_author(one, view.parts[one.key])

    def _remember_author(self, found: Wanted | WantedPage, entry: Entry) -> None:
        """The next one who lacks a post or comment, or a list's newest post, asks for its author at once."""
        if isinstance(found, Wanted) and entry.present and found.kind is USER_POSTS:
            self._authors[POST.key(entry.first)] = Wanted(USER, found.id)
        elif isinstance(found, Wanted) and entry.present and found.kind.name in AUTHORED:
            self._authors[found.key] = Wanted(USER, entry.author_id)
        if len(self._authors) > MAX_AUTHORS:
            self._authors.clear()

    async def aclose(self) -> None:
        await self._flights.aclose()

    async def _through_cache(self, view: View, began: Position, wanted: Sequence[Wanted]) -> None:
        """Add what is valid at the view's moment. The moment moves on if all parts stay valid."""
        found: dict[str, Found] = {}
        try:
            for begin in range(0, len(wanted), MGET_KEYS):  # in turn: nobody waits behind thousands
                some = self._askable(view, wanted[begin : begin + MGET_KEYS])
                found |= await self._lookup(some)
                missing = self._askable(view, [one for one in some if one.key not in found])
                if missing:
                    found |= await self._flights.join(missing)
                    if not all(one.key in found for one in missing):
                        view.came_from(Origin.LEASE_HELD)
        except CacheBypassed as bypassed:
            view.came_from(bypassed.origin)
        at = self._move_on(view, began, found)
        for key, (entry, position, origin) in found.items():
            if not self._following.named.between((key,), position, at):
                view.add({key: entry}, origin)
            else:
                view.came_from(Origin.MOVED_ON)

    def _askable(self, view: View, wanted: Sequence[Wanted]) -> Sequence[Wanted]:
        """Without those whose shard is away."""
        following = self._following
        if len(following.strands) == 1:
            return wanted
        reasons = {one: following.reason(following.strand_of(one.key)) for one in wanted}
        for reason in filter(None, reasons.values()):
            view.came_from(reason)
        return [one for one, reason in reasons.items() if reason is None]

    def _move_on(self, view: View, began: Position, found: dict[str, Found]) -> Position:
        """To the tide, unless a message since has named a part of the view, or one that was found.

        No message names a page that is not cached. Returns the view's position.
        """
        following = self._following
        now, tide = following.position, following.tide
        if began == now:
            return began
        names = following.named.names(began, now)
        if (
            tide is None
            or names is None
            or view.pages
            or view.depends_on(names)
            or any(following.named.between((key,), one.position, now) for key, one in found.items())
        ):
            view.named, view.replica = names or frozenset(), None if names is None else following.replica
            return began
        view.moment, view.position, view.named, view.stored = tide, now, frozenset(), None
        return now

    async def _lookup(self, wanted: Sequence[Wanted]) -> dict[str, Found]:
        """The entries that Redis has."""
        found: dict[str, Found] = {}
        for at in range(0, len(wanted), MGET_KEYS):
            looked = await self._cache.get([one.key for one in wanted[at : at + MGET_KEYS]])
            for one in wanted[at : at + MGET_KEYS]:
                if (entry := looked.entries.get(one.key)) is not None:
                    found[one.key] = Found(entry, looked.at(one.key), Origin.HIT)
                result = "miss" if entry is None else "hit" if entry.present else "absent"
                self._metrics.cache_requests.add("redis", one.label, result)
        return found

    async def _fill(self, wanted: Sequence[Wanted]) -> dict[str, Found]:
        """The keys whose lease we get, read at the lease's moment; the others, once Redis has them."""
        found: dict[str, Found] = {}
        others = [*wanted]
        for lease in await self._cache.lease([one.key for one in wanted]):
            mine = [one for one in others if one.key in lease.keys]
            others = [one for one in others if one.key not in lease.keys]
            found |= await self._read_and_store(lease, mine) if mine else {}
        if others:
            for one in others:
                self._metrics.cache_requests.add("redis", one.label, "lease_wait")
            for seconds in LEASE_PAUSES_SECONDS:
                await asyncio.sleep(seconds)
                found |= await self._lookup([one for one in others if one.key not in found])
                if len(found) == len(wanted):
                    break
        return found

    async def _read_and_store(self, lease: FillLease, wanted: Sequence[Wanted]) -> dict[str, Found]:
        """Nothing is found, nor stored, if MongoDB does not have the lease's moment."""
        try:
            shared = await self._read(wanted, self._moments.at(lease.watermark))
            values = await self._read(wanted, self._documents.values(shared.moment, wanted))
        except MomentGone as gone:
            log.info("a fill is given up", reason=str(gone))
            values, results = {}, dict.fromkeys([one.key for one in wanted], "behind_watermark")
        else:
            results = await self._cache.fill(lease, values)
        for one in wanted:
            self._metrics.cache_fills.add(one.label, results[one.key])
        entries = {key: entry for key, value in values.items() if (entry := decode(value)) is not None}
        self._count_entries(wanted, entries)
        following = self._following
        for key, entry in entries.items():
            present = following.strand_of(key).present  # else no message will name the key
            if present and not following.named.between((key,), lease.position, following.position):
                following.replica.put(key, entry)
        origins = {"stored": Origin.STORED}
        return {
            key: Found(entry, lease.position, origins.get(results[key], Origin.MISS))
            for key, entry in entries.items()
        }

    async def _read(self, wanted: Iterable[Wanted | WantedPage], reading: Awaitable[T]) -> T:
        try:
            return await reading
        except DocumentsUnavailable:
            for one in wanted:
                self._metrics.cache_requests.add("mongo", one.label, "error")
            raise

    def _count_entries(self, wanted: Iterable[Wanted | WantedPage], entries: Mapping[str, Entry]) -> None:
        for one in wanted:
            if (entry := entries.get(one.key)) is not None:
                self._metrics.cache_requests.add("mongo", one.label, "hit" if entry.present else "absent")
