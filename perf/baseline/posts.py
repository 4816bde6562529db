"""Posts and feeds from MySQL: one statement on primary keys and covering indexes, then the reader's JSON."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncmy
import msgspec

from ops.stack.urls import mysql_arguments
from perf.baseline.counters import TABLE
from reader.read_model.cached_values import encode_cursor, page_body, with_author
from reader.read_model.declarations import POST, USER
from reader.read_model.entities import PAGE_LIMIT
from tidemark.hashtags import hashtags

CONNECTIONS = 8  # as many as the writer's pool has; more made it slower
TIME = "%%Y-%%m-%%dT%%H:%%i:%%s.%%fZ"  # as text, which nobody has to parse

COUNTS = """(SELECT COUNT(*) FROM likes WHERE post_id = p.id),
            (SELECT COUNT(*) FROM comments WHERE post_id = p.id)"""
# The fastest of five forms that were tried with 200 followees of a hundred posts each. A join by LATERAL,
# with a limit for each author, was no faster, and IN read all posts.
NEWEST = f"""
(SELECT own.id FROM users u JOIN posts own ON own.author_id = u.id
 WHERE u.subject = %s ORDER BY own.id DESC LIMIT {PAGE_LIMIT + 1})
UNION
(SELECT theirs.id FROM users u JOIN follows f ON f.follower_id = u.id
                               JOIN posts theirs ON theirs.author_id = f.followee_id
 WHERE u.subject = %s ORDER BY theirs.id DESC LIMIT {PAGE_LIMIT + 1})
ORDER BY id DESC LIMIT {PAGE_LIMIT + 1}
"""  # noqa: S608 - constants only


@dataclass(frozen=True)
class Statements:
    """The statements of a lane. `post` and `posts` take ids, `feed` takes the caller's subject twice.

    `feed` is of the caller and of everybody whom the caller follows; the reader's stops at MAX_FOLLOWEES.
    """

    post: str
    posts: str
    feed: str


def _statements(counts: str, joins: str) -> Statements:
    columns = f"""p.id, p.body, DATE_FORMAT(p.created_at, '{TIME}'), DATE_FORMAT(p.updated_at, '{TIME}'),
                  {counts}, u.id, u.handle, u.display_name"""
    joined = f"posts p JOIN users u ON u.id = p.author_id {joins}"
    return Statements(
        f"SELECT {columns} FROM {joined} WHERE p.id = %s",  # noqa: S608
        f"SELECT {columns} FROM {joined} WHERE p.id IN %s",  # noqa: S608
        f"SELECT {columns} FROM {joined} JOIN ({NEWEST}) AS page ON page.id = p.id "  # noqa: S608
        "ORDER BY p.id DESC",
    )


WITH_COUNTS = _statements(COUNTS, "")
WITH_COUNTERS = _statements("c.like_count, c.comment_count", f"JOIN {TABLE} c ON c.post_id = p.id")


class Posts:
    """Reads with the statements above. `pool` is of asyncmy, the fastest driver that was tried."""

    def __init__(self, pool: Any, statements: Statements) -> None:
        self._pool = pool
        self._statements = statements

    async def body(self, id: int) -> bytes | None:
        """The JSON of a post with its author, None if there is none."""
        rows = await self._rows(self._statements.post, id)
        return _json(rows[0]) if rows else None

    async def bodies(self, ids: Sequence[int]) -> dict[int, bytes]:
        """Id -> JSON of a post, of those that there are."""
        rows = await self._rows(self._statements.posts, tuple(ids))
        return {row[0]: _json(row) for row in rows}

    async def feed(self, subject: str) -> bytes:
        """The JSON of the first page of a feed."""
        rows = await self._rows(self._statements.feed, subject, subject)
        return feed_page({row[0]: _json(row) for row in rows})

    async def user_id(self, subject: str) -> int | None:
        rows = await self._rows("SELECT id FROM users WHERE subject = %s", subject)
        return rows[0][0] if rows else None

    async def _rows(self, statement: str, *given: Any) -> Sequence[Sequence[Any]]:
        async with self._pool.acquire() as connection, connection.cursor() as cursor:
            await cursor.execute(statement, given)
            rows: Sequence[Sequence[Any]] = await cursor.fetchall()
        return rows


def feed_page(found: Mapping[int, bytes]) -> bytes:
    """The JSON of a page, from up to PAGE_LIMIT + 1 posts by id in their order."""
    shown = [*found][:PAGE_LIMIT]
    cursor = encode_cursor([shown[-1]]) if len(found) > PAGE_LIMIT else None
    return page_body([found[id] for id in shown], cursor)


@asynccontextmanager
async def posts(url: str, statements: Statements) -> AsyncIterator[Posts]:
    """Posts of the schema at `url`, with a pool of connections that are open before the first request."""
    arguments = mysql_arguments(url)
    arguments.pop("ssl_disabled", None)  # asyncmy's default; it does not know the word
    pool = await asyncmy.create_pool(minsize=CONNECTIONS, maxsize=CONNECTIONS, autocommit=True, **arguments)
    try:
        yield Posts(pool, statements)
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
