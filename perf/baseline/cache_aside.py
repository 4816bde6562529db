"""An ordinary Redis before MySQL."""

from __future__ import annotations

from collections.abc import Sequence

from redis.asyncio import Redis

from perf.baseline.posts import Posts

TTL_SECONDS = 300
PREFIX = "baseline:post:"


class CacheAside:
    """GET or MGET; on a miss SELECT and SET with a TTL; DEL after a write has been committed."""

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

    async def bodies(self, ids: Sequence[int]) -> dict[int, bytes]:
        """Id -> JSON in the order of `ids`, without posts that are gone."""
        cached = await self._redis.mget([f"{PREFIX}{id}" for id in ids]) if ids else []
        found = {id: body for id, body in zip(ids, cached, strict=True) if isinstance(body, bytes)}
        if missing := [id for id in ids if id not in found]:
            stored = await self._stored.bodies(missing)
            async with self._redis.pipeline(transaction=False) as pipe:
                for id, body in stored.items():
                    pipe.set(f"{PREFIX}{id}", body, ex=TTL_SECONDS)
                await pipe.execute()
            found |= stored
        return {id: found[id] for id in ids if id in found}

    async def forget(self, id: int) -> None:
        await self._redis.delete(f"{PREFIX}{id}")
