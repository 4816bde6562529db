"""Fetching: what a composition lacks, from Redis or from MongoDB, as of the composition's moment.

A key that Redis lacks is read once per process and lease, and fills Redis and the replica. It is read at the
cluster time of the lease's watermark, so that nothing is ever ahead of the tide.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import structlog
from hiredis import pack_command

from reader.composing import View
from reader.document_store import DocumentStore
from reader.errors import CacheBypassed, DocumentsUnavailable, MomentGone
from reader.following import ASK, Following, Position
from reader.metrics import ReaderMetrics
from reader.parts import Origin, Wanted, WantedPage
from reader.read_model.cached_values import (
    ABSENT,
    LEASE,
    LEASE_TTL_MS,
    WATERMARK_KEY,
    Entry,
    Watermark,
    absent_ttl_ms,
    cache_key,
    decode,
    value_ttl_ms,
)
from reader.read_model.declarations import Listing

MGET_KEYS = 255
LEASE_PAUSES_SECONDS = (0.002, 0.005)
# The shebang makes Redis refuse the script when memory is full, instead of failing in its middle.
FILL = """#!lua
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1"""
Looked = tuple[dict[str, Entry | None], Position]
T = TypeVar("T")
log = structlog.get_logger()


class Found(NamedTuple):
    """An entry, and a position at which it is valid."""

    entry: Entry
    position: Position
    origin: Origin


class Lease(NamedTuple):
    """The right to fill `keys`, with the watermark read after it, and its position."""

    token: bytes
    keys: frozenset[str]
    watermark: Watermark
    position: Position


class Fetching:
    """Completes views. Raises MomentGone, and DocumentsUnavailable if MongoDB was needed and gave nothing."""

    def __init__(
        self,
        following: Following,
        documents: DocumentStore,
        metrics: ReaderMetrics,
        fraction: Callable[[], float] = random.random,
    ) -> None:
        self._following = following
        self._documents = documents
        self._metrics = metrics
        self._fraction = fraction
        self._lookups = Lookups(following)
        self._flights: dict[str, asyncio.Task[dict[str, Found]]] = {}
        self._collecting: tuple[list[Wanted], asyncio.Task[dict[str, Found]]] | None = None

    async def fetch(self, view: View) -> None:
        """Add what is missing, valid at the view's moment."""
        wanted = list(view.missing.values())
        if view.position is not None:
            await self._through_cache(view, [one for one in wanted if isinstance(one, Wanted)])
        left = [one for one in wanted if one.key not in view.parts]
        if left:
            if view.stored is None:
                view.stored = await self._read(left, self._documents.at(view.moment))
            values = await self._read(left, self._documents.values(view.stored, left))
            self._count_values(left, values)
            view.add(
                _entries(values),
                Origin.NOT_CACHED if any(isinstance(one, WantedPage) for one in left) else Origin.MISS,
            )

    async def aclose(self) -> None:
        """Cancel the flights under way; nobody waits for them any more."""
        flights = set(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    async def _through_cache(self, view: View, wanted: Sequence[Wanted]) -> None:
        """Add what is valid at the view's moment. The moment moves on if all parts stay valid."""
        found: dict[str, Found] = {}
        try:
            found = await self._lookup(wanted)
            missing = [one for one in wanted if one.key not in found]
            if missing:
                found |= await self._join(missing)
        except CacheBypassed as bypassed:
            view.came_from(bypassed.origin)
        self._move_on(view, found)
        for key, (entry, position, origin) in found.items():
            if not self._following.named_between((key,), position, view.position):
                view.add({key: entry}, origin)
            else:
                view.came_from(Origin.MOVED_ON)

    def _move_on(self, view: View, found: dict[str, Found]) -> None:
        """To the tide, if no message since has named a part that the view has, or one that was found."""
        following = self._following
        now, tide = following.position, following.tide
        if (
            tide is None
            or following.named_between(view.parts, view.position, now)
            or any(following.named_between((key,), one.position, now) for key, one in found.items())
        ):
            view.replica = view.replica if view.position == now else None
        else:
            view.moment, view.position, view.replica, view.stored = tide, now, following.replica, None

    async def _lookup(self, wanted: Sequence[Wanted]) -> dict[str, Found]:
        """The entries that Redis has."""
        found: dict[str, Found] = {}
        for at in range(0, len(wanted), MGET_KEYS):
            entries, position = await self._lookups.get([one.key for one in wanted[at : at + MGET_KEYS]])
            for one in wanted[at : at + MGET_KEYS]:
                if (entry := entries[one.key]) is not None:
                    found[one.key] = Found(entry, position, Origin.HIT)
                result = "miss" if entry is None else "hit" if entry.present else "absent"
                self._metrics.cache_requests.add("redis", one.label, result)
        return found

    async def _join(self, wanted: Sequence[Wanted]) -> dict[str, Found]:
        """Fill each key in one flight at a time. A flight is a task: a cancelled waiter does not end it."""
        new = [one for one in wanted if one.key not in self._flights]
        if new:
            self._flights |= dict.fromkeys([one.key for one in new], self._flight(new))
        flights = {self._flights[one.key] for one in wanted}
        await asyncio.wait(flights)
        found = {key: one for flight in flights for key, one in flight.result().items()}
        return {one.key: found[one.key] for one in wanted if one.key in found}

    def _flight(self, new: list[Wanted]) -> asyncio.Task[dict[str, Found]]:
        """The task that will fill `new`.

        Entities missed in the same turn of the event loop are read together, as a task begins in the next
        turn. Lists are read apart: no list should wait for another.
        """
        if any(isinstance(one.kind, Listing) for one in new):
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

    def _started(
        self, filling: Coroutine[None, None, dict[str, Found]], wanted: Iterable[Wanted]
    ) -> asyncio.Task[dict[str, Found]]:
        flight = asyncio.create_task(filling)
        flight.add_done_callback(partial(self._ended, wanted))
        return flight

    def _ended(self, wanted: Iterable[Wanted], flight: asyncio.Task[dict[str, Found]]) -> None:
        for one in wanted:
            del self._flights[one.key]
        if not flight.cancelled():
            flight.exception()  # asyncio would log it if all waiters are gone

    async def _fill(self, wanted: Sequence[Wanted]) -> dict[str, Found]:
        """The keys whose lease we get, read at the lease's moment; the others, once Redis has them."""
        lease = await self._lease([one.key for one in wanted])
        others = [one for one in wanted if one.key not in lease.keys]
        mine = [one for one in wanted if one.key in lease.keys]
        found = await self._read_and_store(lease, mine) if mine else {}
        if others:
            for one in others:
                self._metrics.cache_requests.add("redis", one.label, "lease_wait")
            for seconds in LEASE_PAUSES_SECONDS:
                await asyncio.sleep(seconds)
                found |= await self._lookup([one for one in others if one.key not in found])
                if len(found) == len(wanted):
                    break
        return found

    async def _lease(self, keys: Sequence[str]) -> Lease:
        """Take a fill lease on each missing key, then read the watermark.

        A batch that is applied after the watermark was read finds the lease and ends it.
        """
        token = LEASE + secrets.token_hex(16).encode()
        following = self._following
        if following.tide is None:
            raise CacheBypassed(Origin.UNAVAILABLE)
        names = [cache_key(following.tide.epoch, key) for key in keys]
        commands = [pack_command(("SET", name, token, "NX", "PX", LEASE_TTL_MS)) for name in names]

        def granted(replies: list[Any]) -> Lease:
            held = frozenset(key for key, reply in zip(keys, replies, strict=False) if reply == b"OK")
            assert following.tide is not None
            return Lease(token, held, following.tide, following.position)

        lease: Lease = await following.ask([*commands, ASK], len(commands) + 1, granted)
        return lease

    async def _read_and_store(self, lease: Lease, wanted: Sequence[Wanted]) -> dict[str, Found]:
        """Nothing is found, nor stored, if MongoDB does not have the lease's moment."""
        try:
            moment = await self._read(wanted, self._documents.at(lease.watermark))
            values = await self._read(wanted, self._documents.values(moment, wanted))
        except MomentGone as gone:
            log.info("a fill is given up", reason=str(gone))
            values, results = {}, dict.fromkeys([one.key for one in wanted], "behind_watermark")
        else:
            self._count_values(wanted, values)
            results = await self._store(lease, values)
        for one in wanted:
            self._metrics.cache_fills.add(one.label, results[one.key])
        entries = _entries(values)
        following = self._following
        for key, entry in entries.items():
            if not following.named_between((key,), lease.position, following.position):
                following.replica.put(key, entry)
        origins = {"stored": Origin.STORED}
        return {
            key: Found(entry, lease.position, origins.get(results[key], Origin.MISS))
            for key, entry in entries.items()
        }

    async def _store(self, lease: Lease, values: dict[str, bytes]) -> dict[str, str]:
        """Store in Redis where the lease is still in place: key -> `stored`, `lease_lost` or `error`."""
        epoch = lease.watermark.epoch
        commands = [
            pack_command(("EVAL", FILL, 1, cache_key(epoch, key), lease.token, value, self._ttl_ms(value)))
            for key, value in values.items()
        ]
        try:
            replies = await self._following.ask([*commands, ASK], len(commands) + 1, list)
        except CacheBypassed:
            return dict.fromkeys(values, "error")
        results = {1: "stored", 0: "lease_lost"}
        return {
            key: results[reply] if isinstance(reply, int) else "error"
            for key, reply in zip(values, replies, strict=False)
        }

    async def _read(self, wanted: Iterable[Wanted | WantedPage], reading: Awaitable[T]) -> T:
        try:
            return await reading
        except DocumentsUnavailable:
            for one in wanted:
                self._metrics.cache_requests.add("mongo", one.label, "error")
            raise

    def _count_values(self, wanted: Iterable[Wanted | WantedPage], values: dict[str, bytes]) -> None:
        for one in wanted:
            result = "absent" if values[one.key].startswith(ABSENT) else "hit"
            self._metrics.cache_requests.add("mongo", one.label, result)

    def _ttl_ms(self, value: bytes) -> int:
        return (absent_ttl_ms if value.startswith(ABSENT) else value_ttl_ms)(self._fraction())


class Lookups:
    """One MGET at a time. Keys wanted meanwhile go into the next one. Each value is decoded once."""

    def __init__(self, following: Following) -> None:
        self._following = following
        self._waiting: list[tuple[Sequence[str], asyncio.Future[Looked]]] = []
        self._task: asyncio.Task[None] | None = None

    def get(self, keys: Sequence[str]) -> asyncio.Future[Looked]:
        """The entries of at most 255 keys, and the position at which they are valid. Raises CacheBypassed."""
        future: asyncio.Future[Looked] = asyncio.get_running_loop().create_future()
        self._waiting.append((keys, future))
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        return future

    async def _work(self) -> None:
        try:
            while self._waiting:
                await self._look(*self._take())
        finally:
            self._task = None

    def _take(self) -> tuple[list[str], list[asyncio.Future[Looked]]]:
        """The oldest requests whose keys fit into one MGET, at least one."""
        keys: dict[str, None] = {}
        futures = []
        for wanted, future in self._waiting:
            if futures and len(keys) + len(wanted) > MGET_KEYS:
                break
            keys.update(dict.fromkeys(wanted))
            futures.append(future)
        del self._waiting[: len(futures)]
        return list(keys), futures

    async def _look(self, keys: list[str], futures: list[asyncio.Future[Looked]]) -> None:
        following, tide = self._following, self._following.tide

        def read(replies: list[Any]) -> Looked:
            entries = dict(zip(keys, map(decode, replies[0]), strict=False))
            for key, entry in entries.items():
                if entry is not None:
                    following.replica.put(key, entry)
            return entries, following.position

        try:
            if tide is None:
                raise CacheBypassed(following.bypass or Origin.UNAVAILABLE)
            names = [cache_key(tide.epoch, key) for key in keys]
            looked: Looked = await following.ask([pack_command(("MGET", *names, WATERMARK_KEY))], 1, read)
        except CacheBypassed as bypassed:
            for future in futures:
                if not future.done():
                    future.set_exception(bypassed)
        else:
            for future in futures:
                if not future.done():
                    future.set_result(looked)


def _entries(values: dict[str, bytes]) -> dict[str, Entry]:
    return {key: entry for key, value in values.items() if (entry := decode(value)) is not None}
