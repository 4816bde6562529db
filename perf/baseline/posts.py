"""GET /post/{id} from MySQL: one statement on primary keys and covering indexes, then the reader's JSON."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncmy
import msgspec

from ops.stack.urls import mysql_arguments
from perf.baseline.counters import TABLE
from reader.read_model.cached_values import with_author
from reader.read_model.declarations import POST, USER
from tidemark.hashtags import hashtags

CONNECTIONS = 8  # as many as the writer's pool has; more made it slower
TIME = "%%Y-%%m-%%dT%%H:%%i:%%s.%%fZ"  # as text, which nobody has to parse

WITH_COUNTS = f"""
SELECT p.id, p.body, DATE_FORMAT(p.created_at, '{TIME}'), DATE_FORMAT(p.updated_at, '{TIME}'),
       (SELECT COUNT(*) FROM likes WHERE post_id = p.id),
       (SELECT COUNT(*) FROM comments WHERE post_id = p.id),
       u.id, u.handle, u.display_name
FROM posts p JOIN users u ON u.id = p.author_id WHERE p.id = %s
"""  # noqa: S608 - constants only
WITH_COUNTERS = f"""
SELECT p.id, p.body, DATE_FORMAT(p.created_at, '{TIME}'), DATE_FORMAT(p.updated_at, '{TIME}'),
       c.like_count, c.comment_count, u.id, u.handle, u.display_name
FROM posts p JOIN users u ON u.id = p.author_id JOIN {TABLE} c ON c.post_id = p.id WHERE p.id = %s
"""  # noqa: S608 - constants only


class Posts:
    """Reads with one of the statements above. `pool` is of asyncmy, the fastest driver that was tried."""

    def __init__(self, pool: Any, statement: str) -> None:
        self._pool = pool
        self._statement = statement

    async def body(self, id: int) -> bytes | None:
        """The JSON of a post with its author, None if there is none."""
        async with self._pool.acquire() as connection, connection.cursor() as cursor:
            await cursor.execute(self._statement, (id,))
            row = await cursor.fetchone()
        return _json(row) if row else None


@asynccontextmanager
async def posts(url: str, statement: str) -> AsyncIterator[Posts]:
    """Posts of the schema at `url`, with a pool of connections that are open before the first request."""
    arguments = mysql_arguments(url)
    arguments.pop("ssl_disabled", None)  # asyncmy's default; it does not know the word
    pool = await asyncmy.create_pool(minsize=CONNECTIONS, maxsize=CONNECTIONS, autocommit=True, **arguments)
    try:
        yield Posts(pool, statement)
    finally:
        pool.close()
        await pool.wait_closed()


def _json(row: Sequence[Any]) -> bytes:
    id, body, created_at, updated_at, likes, comments, author_id, handle, display_name = row
    post = {
        "_id": id,
        "body": body,
        "hashtags": hashtags(body),
        "like_count": likes,
        "comment_count": comments,
        "created_at": created_at,
        "updated_at": updated_at,
    }
    author = {"_id": author_id, "handle": handle, "display_name": display_name}
    return with_author(msgspec.json.encode(POST.to_json(post)), USER.to_head(author))
