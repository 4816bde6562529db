"""Rows to begin with, and random writes straight into MySQL."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager

from binlog_projector.mysql.connections import Connection
from ops.stack import Stack
from tests.support.harness import admin_connection, create_tables, run_sql
from tests.support.threads import in_threads

USERS, POSTS = 20, 50


def seed_rows(connection: Connection) -> None:
    users = ", ".join(f"('s{n}', 'h{n}', 'N')" for n in range(USERS))
    posts = ", ".join(f"({n % USERS + 1}, 'post #t{n}')" for n in range(POSTS))
    run_sql(
        connection,
        f"INSERT INTO users (subject, handle, display_name) VALUES {users}",
        f"INSERT INTO posts (author_id, body) VALUES {posts}",
    )


@contextlib.contextmanager
def seeded(stack: Stack) -> Iterator[Connection]:
    """A MySQL with our tables and some rows."""
    with admin_connection(stack) as connection:
        create_tables(connection)
        seed_rows(connection)
        yield connection


def write_traffic(connection: Connection, chance: random.Random, transactions: int) -> None:
    for _ in range(transactions):
        post, user = chance.randint(1, POSTS), chance.randint(1, USERS)
        statement = chance.choice(
            [
                f"INSERT IGNORE INTO likes (post_id, user_id) VALUES ({post}, {user})",
                f"DELETE FROM likes WHERE post_id = {post} AND user_id = {user}",
                f"INSERT INTO comments (post_id, author_id, body) VALUES ({post}, {user}, 'c')",
                f"UPDATE posts SET body = 'edited {chance.random()}' WHERE id = {post}",
                "INSERT IGNORE INTO follows (follower_id, followee_id)"
                f" VALUES ({user}, {chance.randint(1, USERS)})",
            ]
        )
        run_sql(connection, statement)


def traffic(stack: Stack, seed: int, pause_seconds: float = 0.01) -> AbstractContextManager[None]:
    """Random writes for the length of a block."""

    def write(stopping: threading.Event) -> None:
        chance = random.Random(seed)
        with admin_connection(stack) as connection:
            while not stopping.wait(pause_seconds):
                write_traffic(connection, chance, 1)

    return in_threads([write])
