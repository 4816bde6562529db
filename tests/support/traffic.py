"""Rows to begin with, and random writes straight into MySQL."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from binlog_projector.mysql.connections import Connection
from ops.stack import Stack
from tests.support.harness import admin_connection, run_sql

USERS, POSTS = 20, 50


def seed_rows(connection: Connection) -> None:
    users = ", ".join(f"('s{n}', 'h{n}', 'N')" for n in range(USERS))
    posts = ", ".join(f"({n % USERS + 1}, 'post #t{n}')" for n in range(POSTS))
    run_sql(
        connection,
        f"INSERT INTO users (subject, handle, display_name) VALUES {users}",
        f"INSERT INTO posts (author_id, body) VALUES {posts}",
    )


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


@contextlib.contextmanager
def traffic(stack: Stack, seed: int, pause_seconds: float = 0.01) -> Iterator[None]:
    """Random writes for the length of a block."""
    stopping = threading.Event()

    def write() -> None:
        chance = random.Random(seed)
        with admin_connection(stack) as connection:
            while not stopping.wait(pause_seconds):
                write_traffic(connection, chance, 1)

    with ThreadPoolExecutor(1, "traffic") as threads:
        running = threads.submit(write)
        try:
            yield
        finally:
            stopping.set()
        running.result()
