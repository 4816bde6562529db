"""The write contract: MySQL's tables and columns as the binlog shows them (made by writer/migrations)."""

from __future__ import annotations

from dataclasses import dataclass

SCHEMA = "tidemark"


@dataclass(frozen=True)
class Table:
    """A projected table: its primary key, and the columns that its documents get.

    The documents are in a collection of the same name. A column `..._at` is a time: DATETIME(6), in UTC.
    """

    name: str
    columns: tuple[str, ...]
    primary_key: tuple[str, ...]


USERS = Table(
    "users", ("id", "subject", "handle", "display_name", "bio", "created_at", "updated_at"), ("id",)
)
POSTS = Table("posts", ("id", "author_id", "body", "created_at", "updated_at"), ("id",))
COMMENTS = Table("comments", ("id", "post_id", "author_id", "body", "created_at", "updated_at"), ("id",))
LIKES = Table("likes", ("post_id", "user_id", "created_at"), ("post_id", "user_id"))
FOLLOWS = Table("follows", ("follower_id", "followee_id", "created_at"), ("follower_id", "followee_id"))

TABLES = {table.name: table for table in (USERS, POSTS, COMMENTS, LIKES, FOLLOWS)}
