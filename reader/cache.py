"""Redis: batched reads with the watermark, and fills by the holder of a fill lease."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import msgspec
import structlog
from hiredis import pack_command
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from reader.errors import CacheBypassed
from reader.parts import Origin
from reader.read_model.cached_values import LEASE, LEASE_TTL_MS, WATERMARK_KEY, Watermark, cache_key
from reader.read_model.declarations import MODEL_VERSION

TIMEOUT_SECONDS = 0.2
PAUSE_SECONDS = 1.0  # after a failure: otherwise each request would wait for a Redis that is down
LEASE_CONNECTIONS = 16
MGET_KEYS = 256
EPOCH_ATTEMPTS = 3
# The shebang makes Redis refuse the script when memory is full, instead of failing in its middle.
FILL = """#!lua
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1"""

log = structlog.get_logger()


class Lookup(msgspec.Struct, frozen=True):
    """Values by key, without the epoch's prefix, and the watermark of the very MGET that read them."""

    values: Mapping[str, bytes | None]
    watermark: Watermark


@dataclass(frozen=True)
class FillLease:
    """The right to fill `keys` of `epoch`. `watermark` was read afterwards; None: there is no usable one."""

    epoch: str
    keys: frozenset[str]
    token: bytes
    watermark: Watermark | None


class Cache:
    """The reader's requests to Redis. Every failure is a CacheBypassed."""

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=LEASE_CONNECTIONS,
            timeout=TIMEOUT_SECONDS,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
            client_name="tidemark-reader",
        )
        self._redis = Redis.from_pool(pool)
        self._batches = Batches(pool.make_connection(), clock)  # type: ignore[no-untyped-call]

    async def get(self, keys: Sequence[str]) -> Lookup:
        """The cache's values of at most 255 `keys`, in one MGET."""
        return await self._batches.get(keys)

    async def lease(self, keys: Iterable[str], epoch: str) -> FillLease:
        """Take a fill lease on each missing key, then read the watermark.

        The order matters: a batch that is applied after the watermark was read finds the lease and ends it.
        """
        token = LEASE + secrets.token_hex(16).encode()
        keys = list(keys)
        pipeline = self._redis.pipeline(transaction=False)
        for key in keys:
            pipeline.set(cache_key(epoch, key), token, nx=True, px=LEASE_TTL_MS)
        pipeline.get(WATERMARK_KEY)
        *taken, text = await self._execute(pipeline)
        held = frozenset(key for key, answer in zip(keys, taken, strict=True) if answer is True)
        return FillLease(epoch, held, token, _watermark_or_none(text))

    async def fill(self, lease: FillLease, values: Mapping[str, tuple[bytes, int]]) -> dict[str, str]:
        """Store key -> (value, TTL in ms) where the lease is still in place.

        Returns key -> `stored`, `lease_lost` or `error`.
        """
        pipeline = self._redis.pipeline(transaction=False)
        for key, (value, ttl_ms) in values.items():
            pipeline.eval(FILL, 1, cache_key(lease.epoch, key), lease.token, value, ttl_ms)
        answers = await self._execute(pipeline)
        results = {1: "stored", 0: "lease_lost"}
        return {
            key: "error" if isinstance(answer, Exception) else results[answer]
            for key, answer in zip(values, answers, strict=True)
        }

    async def aclose(self) -> None:
        await self._batches.aclose()
        await self._redis.aclose(close_connection_pool=True)

    async def _execute(self, pipeline: Any) -> list[Any]:
        try:
            answers: list[Any] = await pipeline.execute(raise_on_error=False)
        except (RedisError, OSError) as error:
            log.warning("Redis gave no answer to a lease or a fill", error=str(error))
            raise CacheBypassed(Origin.UNAVAILABLE) from error
        return answers


class Request(NamedTuple):
    """The keys that one caller wants, and the future that it awaits."""

    keys: Sequence[str]
    future: asyncio.Future[Lookup]


class Batches:
    """One MGET at a time on one connection. Keys requested meanwhile go into the next MGET.

    Nobody else uses the connection, and callers only await futures. So a cancelled caller leaves no reply
    that another caller would read (redis-py's CVE-2023-28858 and CVE-2023-28859).
    """

    def __init__(self, connection: AbstractConnection, clock: Callable[[], float]) -> None:
        self._connection = connection
        self._clock = clock
        self._paused_until = clock()
        self._watermark: Watermark | None = None
        self._waiting: list[Request] = []
        self._under_way: asyncio.Task[Lookup] | None = None
        self._idle = True

    def get(self, keys: Sequence[str]) -> asyncio.Future[Lookup]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Lookup] = loop.create_future()
        self._waiting.append(Request(keys, future))
        if self._idle:
            self._idle = False
            loop.call_soon(self._start)
        return future

    async def aclose(self) -> None:
        if self._under_way is not None:
            self._under_way.cancel()
            await asyncio.wait([self._under_way])
        for request in self._waiting:
            request.future.cancel()
        await self._connection.disconnect()

    def _start(self) -> None:
        requests, keys = self._take()
        self._under_way = asyncio.get_running_loop().create_task(self._lookup(keys))
        self._under_way.add_done_callback(partial(self._deliver, requests))

    def _take(self) -> tuple[list[Request], list[str]]:
        """The oldest requests whose keys fit into one MGET, at least one; drops cancelled requests."""
        waiting = [request for request in self._waiting if not request.future.done()]
        keys: dict[str, None] = {}
        taken = 0
        for request in waiting:
            new = [key for key in request.keys if key not in keys]
            if taken and len(keys) + len(new) >= MGET_KEYS:
                break
            keys.update(dict.fromkeys(new))
            taken += 1
        self._waiting = waiting[taken:]
        return waiting[:taken], list(keys)

    def _deliver(self, requests: list[Request], lookup: asyncio.Task[Lookup]) -> None:
        error = None if lookup.cancelled() else lookup.exception()
        for future in (request.future for request in requests if not request.future.done()):
            if lookup.cancelled():
                future.cancel()
            elif error is not None:
                future.set_exception(error)
            else:
                future.set_result(lookup.result())
        if self._waiting and not lookup.cancelled():
            self._start()
        else:
            self._idle = True

    async def _lookup(self, keys: list[str]) -> Lookup:
        if self._clock() < self._paused_until:
            raise CacheBypassed(Origin.UNAVAILABLE)
        try:
            return await self._read(keys)
        except (RedisError, OSError) as error:
            self._paused_until = self._clock() + PAUSE_SECONDS
            log.warning(
                "Redis does not answer; reads go to MongoDB", error=str(error), pause_seconds=PAUSE_SECONDS
            )
            raise CacheBypassed(Origin.UNAVAILABLE) from error

    async def _read(self, keys: list[str]) -> Lookup:
        """Repeat MGET until the returned watermark has the build and epoch that are in the keys."""
        for _ in range(EPOCH_ATTEMPTS):
            known = self._watermark
            names = [cache_key(known.epoch, key) for key in keys] if known else []
            command = pack_command(("MGET", *names, WATERMARK_KEY))  # type: ignore[arg-type]  # any length
            await self._connection.send_packed_command(command)
            *values, text = await self._connection.read_response()
            self._watermark = _usable_watermark(text)
            if known and (known.build, known.epoch) == (self._watermark.build, self._watermark.epoch):
                return Lookup(dict(zip(keys, values, strict=True)), self._watermark)
        raise CacheBypassed(Origin.UNAVAILABLE)


def _usable_watermark(text: bytes | None) -> Watermark:
    """Raises CacheBypassed for a missing watermark, and for one of another version of the read model."""
    if text is None:
        raise CacheBypassed(Origin.NO_WATERMARK)
    try:
        watermark = Watermark.decode(text)
    except ValueError:
        raise CacheBypassed(Origin.OTHER_MODEL) from None
    if watermark.model_version != MODEL_VERSION:
        raise CacheBypassed(Origin.OTHER_MODEL)
    return watermark


def _watermark_or_none(text: bytes | None) -> Watermark | None:
    try:
        return _usable_watermark(text)
    except CacheBypassed:
        return None
