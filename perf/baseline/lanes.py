"""The three ways without CQRS: COUNTs, counter columns, and COUNTs behind an ordinary cache-aside Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from redis.asyncio import Redis

from perf.baseline import counters
from perf.baseline.posts import WITH_COUNTERS, WITH_COUNTS, Posts, posts
from writer.database import Session

TTL_SECONDS = 300
PREFIX = "baseline:post:"
Read = Callable[[int], Awaitable[bytes | None]]
Keep = Callable[[Session, int], None]
Forget = Callable[[int], Awaitable[None]]


@dataclass(frozen=True)
class Lane:
    """How one lane reads, and what it does for its reads at a write."""

    statement: str
    cached: bool = False
    post_written: Keep | None = None
    liked: Keep | None = None
    unliked: Keep | None = None


LANES = {
    "sql": Lane(WITH_COUNTS),
    "sql_counters": Lane(WITH_COUNTERS, False, counters.post_written, counters.liked, counters.unliked),
    "cache_aside": Lane(WITH_COUNTS, cached=True),
}


@dataclass(frozen=True)
class Sources:
    """A running lane: the JSON of a post, and a way to drop its cached copy."""

    read: Read
    forget: Forget


@asynccontextmanager
async def sources(lane: Lane, mysql_url: str, redis_url: str) -> AsyncIterator[Sources]:
    """Open what the lane reads from."""
    async with AsyncExitStack() as undo:
        stored = await undo.enter_async_context(posts(mysql_url, lane.statement))
        if not lane.cached:
            yield Sources(stored.body, _nothing_to_forget)
            return
        cache = CacheAside(await undo.enter_async_context(Redis.from_url(redis_url)), stored)
        yield Sources(cache.body, cache.forget)


class CacheAside:
    """GET; on a miss SELECT and SET with a TTL; DEL after a write has been committed."""

    def __init__(self, redis: Redis, stored: Posts) -> None:
        self._redis = redis
        self._stored = stored

    async def body(self, id: int) -> bytes | None:
        key = f"{PREFIX}{id}"
        cached = await self._redis.get(key)
        if isinstance(cached, bytes):
            return cached
        body = await self._stored.body(id)
        if body is not None:
            await self._redis.set(key, body, ex=TTL_SECONDS)
        return body

    async def forget(self, id: int) -> None:
        await self._redis.delete(f"{PREFIX}{id}")


async def _nothing_to_forget(id: int) -> None:
    pass
