"""The three ways without CQRS: COUNTs, counter columns, and COUNTs behind an ordinary cache-aside Redis.

A fourth is for feeds alone: a list of posts for each follower.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from redis.asyncio import Redis

from perf.baseline import counters
from perf.baseline.cache_aside import CacheAside
from perf.baseline.fanout import FanOutFeeds
from perf.baseline.posts import WITH_COUNTERS, WITH_COUNTS, Statements, posts
from writer.database import Session

Read = Callable[[int], Awaitable[bytes | None]]
Feed = Callable[[str], Awaitable[bytes]]
Keep = Callable[[Session, int], None]
Forget = Callable[[int], Awaitable[None]]


@dataclass(frozen=True)
class Lane:
    """How one lane reads, and what it does for its reads at a write."""

    statements: Statements
    cached: bool = False
    post_written: Keep | None = None
    liked: Keep | None = None
    unliked: Keep | None = None
    fanned_out: bool = False


LANES = {
    "sql": Lane(WITH_COUNTS),
    "sql_counters": Lane(WITH_COUNTERS, False, counters.post_written, counters.liked, counters.unliked),
    "cache_aside": Lane(WITH_COUNTS, cached=True),
}
ALL_LANES = {**LANES, "fanout": Lane(WITH_COUNTS, cached=True, fanned_out=True)}


@dataclass(frozen=True)
class Sources:
    """A running lane: the JSON of a post or of a feed, and a way to drop a post's cached copy."""

    read: Read
    feed: Feed
    forget: Forget


@asynccontextmanager
async def sources(lane: Lane, mysql_url: str, redis_url: str) -> AsyncIterator[Sources]:
    """Open what the lane reads from."""
    async with AsyncExitStack() as undo:
        stored = await undo.enter_async_context(posts(mysql_url, lane.statements))
        if not lane.cached:
            yield Sources(stored.body, stored.feed, _nothing_to_forget)
            return
        redis = await undo.enter_async_context(Redis.from_url(redis_url))
        cache = CacheAside(redis, stored)
        feed = FanOutFeeds(redis, cache, stored).first_page if lane.fanned_out else stored.feed
        yield Sources(cache.body, feed, cache.forget)


async def _nothing_to_forget(id: int) -> None:
    pass
