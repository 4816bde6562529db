"""Counter columns as a writer would keep them: changed in the transaction of the row that they count.

They have a table of their own, so that a like need not rewrite the post. That is common, and cheaper.
The table has a schema of its own, so that Tidemark's tables stay as they are.
"""

from __future__ import annotations

import pymysql

from ops.stack.urls import mysql_arguments
from writer.database import Session

TABLE = "baseline.post_counters"
CREATE = (
    "CREATE SCHEMA IF NOT EXISTS baseline",
    f"""CREATE TABLE IF NOT EXISTS {TABLE} (post_id BIGINT UNSIGNED NOT NULL PRIMARY KEY,
        like_count INT UNSIGNED NOT NULL DEFAULT 0,
        comment_count INT UNSIGNED NOT NULL DEFAULT 0) ENGINE = InnoDB""",
)
COUNT = f"""
REPLACE INTO {TABLE} SELECT id, (SELECT COUNT(*) FROM likes WHERE post_id = posts.id),
                                (SELECT COUNT(*) FROM comments WHERE post_id = posts.id) FROM posts
"""  # noqa: S608 - constants only


def recount(url: str) -> None:
    """Make the counters true. The binlog gets nothing of this, so that nobody else works for it."""
    with (
        pymysql.connect(**mysql_arguments(url), autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        for statement in ("SET SESSION sql_log_bin = 0", *CREATE, COUNT):
            cursor.execute(statement)


def post_written(db: Session, post_id: int) -> None:
    """In the transaction of the post."""
    db.execute(f"INSERT INTO {TABLE} (post_id) VALUES (%s)", post_id)  # noqa: S608


def liked(db: Session, post_id: int) -> None:
    """Right after the statement of the like, in its transaction: ROW_COUNT() is 1 for a new like only."""
    change = "like_count = like_count + (ROW_COUNT() = 1)"
    db.execute(f"UPDATE {TABLE} SET {change} WHERE post_id = %s", post_id)  # noqa: S608


def unliked(db: Session, post_id: int) -> None:
    """As `liked`, for a like that is taken back."""
    change = "like_count = like_count - ROW_COUNT()"
    db.execute(f"UPDATE {TABLE} SET {change} WHERE post_id = %s", post_id)  # noqa: S608
