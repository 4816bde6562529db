"""Redis: batched lookups, fill leases and fills, all on the connection that follows the tide."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from reader.errors import CacheBypassed
from reader.following import Following
from reader.named import Position
from reader.parts import Origin
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
from reader.wire import ASK, packed

MGET_KEYS = 255
# The shebang makes Redis refuse the script when memory is full, instead of failing in its middle.
FILL = """#!lua
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1"""
Looked = tuple[dict[str, Entry | None], Position]


class FillLease(NamedTuple):
    """The right to fill `keys`, with the watermark read after it, and its position on the tide."""

    token: bytes
    keys: frozenset[str]
    watermark: Watermark
    position: Position


class Cache:
    """The reader's requests to Redis. Every failure is a CacheBypassed.

    One MGET at a time: keys wanted meanwhile go into the next one. Each value is decoded once.
    """

    def __init__(self, following: Following, fraction: Callable[[], float] = random.random) -> None:
        self._following = following
        self._fraction = fraction
        self._waiting: list[tuple[Sequence[str], asyncio.Future[Looked]]] = []
        self._task: asyncio.Task[None] | None = None

    def get(self, keys: Sequence[str]) -> asyncio.Future[Looked]:
        """The entries of at most 255 keys, and the position at which they are valid."""
        future: asyncio.Future[Looked] = asyncio.get_running_loop().create_future()
        self._waiting.append((keys, future))
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        return future

    async def lease(self, keys: Iterable[str]) -> FillLease:
        """Take a fill lease on each missing key, then read the watermark.

        A batch that is applied after the watermark was read finds the lease and ends it.
        """
        following, keys = self._following, list(keys)
        token = LEASE + secrets.token_hex(16).encode()
        commands = [
            packed("SET", cache_key(self._epoch(), key), token, "NX", "PX", LEASE_TTL_MS) for key in keys
        ]

        def granted(replies: list[Any]) -> FillLease:
            held = frozenset(key for key, reply in zip(keys, replies, strict=False) if reply == b"OK")
            assert following.tide is not None
            return FillLease(token, held, following.tide, following.position)

        lease: FillLease = await following.ask([*commands, ASK], len(commands) + 1, granted)
        return lease

    async def fill(self, lease: FillLease, values: Mapping[str, bytes]) -> dict[str, str]:
        """Store in Redis where the lease is still in place: key -> `stored`, `lease_lost` or `error`.

        A reset orphans leases: the node that knows this one may have an older watermark.
        """
        if lease.position.life != self._following.position.life:
            return dict.fromkeys(values, "lease_lost")
        epoch = lease.watermark.epoch
        commands = [
            packed("EVAL", FILL, 1, cache_key(epoch, key), lease.token, value, self._ttl_ms(value))
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

    def _epoch(self) -> str:
        if self._following.tide is None:
            raise CacheBypassed(self._following.bypass or Origin.UNAVAILABLE)
        return self._following.tide.epoch

    def _ttl_ms(self, value: bytes) -> int:
        return (absent_ttl_ms if value.startswith(ABSENT) else value_ttl_ms)(self._fraction())

    async def _work(self) -> None:
        try:
            while self._waiting:
                await self._look(*self._take())
        finally:
            self._task = None

    def _take(self) -> tuple[list[str], list[asyncio.Future[Looked]]]:
        """The oldest requests whose keys fit into one MGET, at least one."""
        keys: dict[str, None] = {}
        futures: list[asyncio.Future[Looked]] = []
        for wanted, future in self._waiting:
            if futures and len(keys) + len(wanted) > MGET_KEYS:
                break
            keys.update(dict.fromkeys(wanted))
            futures.append(future)
        del self._waiting[: len(futures)]
        return list(keys), futures

    async def _look(self, keys: list[str], futures: list[asyncio.Future[Looked]]) -> None:
        waiting = [future for future in futures if not future.done()]
        try:
            names = [cache_key(self._epoch(), key) for key in keys]
            command = packed("MGET", *names, WATERMARK_KEY)
            looked: Looked = await self._following.ask(
                [command], 1, lambda replies: self._looked(keys, *replies)
            )
        except CacheBypassed as bypassed:
            for future in waiting:
                if not future.done():
                    future.set_exception(bypassed)
        else:
            for future in waiting:
                if not future.done():
                    future.set_result(looked)

    def _looked(self, keys: list[str], values: Sequence[bytes | None]) -> Looked:
        following, entries = self._following, dict(zip(keys, map(decode, values), strict=False))
        for key, entry in entries.items():
            if entry is not None:
                following.replica.put(key, entry)
        return entries, following.position
