"""The usual way to fast feeds: a sorted set of post ids for each follower, filled by whoever writes a post.

It is Twitter's of 2012 (Krikorian, Timelines at Scale): the newest 800 posts of each feed lie in Redis. A
read takes a range and an MGET. A post costs a key for each follower of its author.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Self

import pymysql
import redis
from pymysql.cursors import SSCursor
from redis.asyncio import Redis

from ops.stack.urls import mysql_arguments
from perf.baseline.cache_aside import CacheAside
from perf.baseline.posts import Posts, feed_page
from reader.read_model.entities import PAGE_LIMIT

LENGTH = 800
CHUNK = 1_000  # feeds in one command: it blocks Redis for about 2 ms
# A script: packing two commands for each follower would take several times as long as Redis does.
DELIVER = f"""
for _, key in ipairs(KEYS) do
  redis.call('ZADD', key, ARGV[1], ARGV[1])
  redis.call('ZREMRANGEBYRANK', key, 0, -{LENGTH + 1})
end
"""
FOLLOWERS = "SELECT follower_id FROM follows WHERE followee_id = %s"
NEWEST = f"""
SELECT newest.id
FROM (SELECT %s UNION SELECT followee_id FROM follows WHERE follower_id = %s) AS authors (id)
JOIN LATERAL (SELECT id FROM posts WHERE author_id = authors.id ORDER BY id DESC LIMIT {LENGTH}) AS newest
ORDER BY newest.id DESC LIMIT {LENGTH}
"""  # noqa: S608 - constants only


def key(user: int) -> str:
    return f"baseline:feed:{user}"


class FanOut:
    """The side that writes. For one thread."""

    def __init__(self, mysql_url: str, redis_url: str) -> None:
        self._undo = ExitStack()
        self._mysql = self._undo.enter_context(
            pymysql.connect(**mysql_arguments(mysql_url), autocommit=True, cursorclass=SSCursor)
        )
        self._redis = self._undo.enter_context(redis.Redis.from_url(redis_url))
        self._script = self._redis.script_load(DELIVER)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def fill(self, users: Iterable[int]) -> None:
        """Feeds from MySQL, as for users who come back after a long time."""
        for user in users:
            ids = [id for (id,) in self._rows(NEWEST, user, user)]
            self._redis.delete(key(user))
            if ids:
                self._redis.zadd(key(user), {str(id): id for id in ids})

    def deliver(self, author: int, post: int) -> int:
        """Put a post into the feeds of its author and of all followers. Returns how many that are."""
        feeds = 1
        self._put([author], post)
        for chunk in _chunks(follower for (follower,) in self._rows(FOLLOWERS, author)):
            self._put(chunk, post)
            feeds += len(chunk)
        return feeds

    def shows(self, user: int, post: int) -> bool:
        """Whether the feed has the post."""
        return self._redis.zscore(key(user), str(post)) is not None

    def _put(self, users: Sequence[int], post: int) -> None:
        self._redis.evalsha(self._script, len(users), *map(key, users), str(post))

    def _rows(self, statement: str, *given: int) -> Iterator[Sequence[Any]]:
        with self._mysql.cursor() as cursor:
            cursor.execute(statement, given)
            yield from cursor


class FanOutFeeds:
    """The side that reads; it remembers whose feed is whose."""

    def __init__(self, redis: Redis, posts: CacheAside, stored: Posts) -> None:
        self._redis = redis
        self._posts = posts
        self._stored = stored
        self._ids: dict[str, int] = {}

    async def first_page(self, subject: str) -> bytes:
        """The JSON of the first page."""
        user = self._ids.get(subject)
        if user is None:
            user = await self._stored.user_id(subject)
            if user is None:
                return feed_page({})
            self._ids[subject] = user
        found = await self._redis.zrange(key(user), 0, PAGE_LIMIT, desc=True)
        ids = [int(id) for id in found if isinstance(id, bytes)]
        return feed_page(await self._posts.bodies(ids))


def _chunks(users: Iterable[int]) -> Iterator[list[int]]:
    chunk: list[int] = []
    for user in users:
        chunk.append(user)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
