"""The write contract: MySQL's tables and columns as the binlog shows them (made by writer/migrations)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

SCHEMA = "tidemark"
MIGRATIONS = Path(__file__).parent / "migrations"


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
COMMENTS = Table(
    "comments",
    ("id", "post_id", "author_id", "body", "created_at", "updated_at", "post_author_id"),
    ("id",),
)
LIKES = Table("likes", ("post_id", "user_id", "created_at", "post_author_id"), ("post_id", "user_id"))
FOLLOWS = Table("follows", ("follower_id", "followee_id", "created_at"), ("follower_id", "followee_id"))
MENTIONS = Table(
    "mentions", ("user_id", "id", "author_id", "post_id", "comment_id", "created_at"), ("user_id", "id")
)
NOTIFICATION_READS = Table("notification_reads", ("user_id", "until"), ("user_id",))

TABLES = {
    table.name: table for table in (USERS, POSTS, COMMENTS, LIKES, FOLLOWS, MENTIONS, NOTIFICATION_READS)
}


def own_alterations() -> frozenset[bytes]:
    """The ALTER statements of all migrations. Where MySQL accepts one in strict mode, it changes no value."""
    texts = [path.read_text() for path in MIGRATIONS.glob("*.sql")]
    return frozenset(one.encode() for text in texts for one in statements(text) if one.startswith("ALTER"))


def statements(sql: str) -> list[str]:
    """The statements of a migration, each as it stands in the binlog."""
    text = re.sub("^--.*", "", sql, flags=re.MULTILINE)
    return [one for part in re.split(r";\s*$", text, flags=re.MULTILINE) if (one := part.strip())]
