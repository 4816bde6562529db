"""Rows for benchmarks, straight into MySQL, the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pymysql

from ops.stack.urls import mysql_arguments

USERS = 500
WORDS = (
    "tide",
    "wave",
    "moon",
    "shore",
    "salt",
    "drift",
    "harbour",
    "signal",
    "anchor",
    "reef",
    "gull",
    "keel",
)
CHUNK = 2_000
# The rows are right, and the checks would take half of the time.
UNCHECKED = "SET SESSION foreign_key_checks = 0, unique_checks = 0"


def load_posts(url: str, posts: int, seed: int, users: int = USERS) -> None:
    """`posts` posts of `users` authors, bodies of about 250 characters, ids from 1."""
    chance = random.Random(seed)
    with (
        pymysql.connect(**mysql_arguments(url), autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        people = [(f"perf-{n}", f"perf_{n}", f"Person {n}") for n in range(1, users + 1)]
        cursor.executemany("INSERT INTO users (subject, handle, display_name) VALUES (%s, %s, %s)", people)
        for chunk in _chunks(posts):
            rows = [(id, chance.randint(1, users), body(chance)) for id in chunk]
            cursor.executemany("INSERT INTO posts (id, author_id, body) VALUES (%s, %s, %s)", rows)


def load_replies(url: str, posts: int, comments: int, likes: int, seed: int) -> None:
    """Comments and likes of `posts` posts that are there already."""
    chance = random.Random(seed)
    with (
        pymysql.connect(**mysql_arguments(url), autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        for chunk in _chunks(comments):
            rows = [
                (id, chance.randint(1, posts), chance.randint(1, USERS), sentence(chance, 12)) for id in chunk
            ]
            cursor.executemany(
                "INSERT INTO comments (id, post_id, author_id, body) VALUES (%s, %s, %s, %s)", rows
            )
        for chunk in _chunks(likes):
            pairs = [((id * 7919) % posts + 1, id // posts % USERS + 1) for id in chunk]
            cursor.executemany("INSERT INTO likes (post_id, user_id) VALUES (%s, %s)", pairs)


def body(chance: random.Random) -> str:
    """About 250 characters with a hashtag."""
    return sentence(chance, 42)


def sentence(chance: random.Random, words: int) -> str:
    """`words` words and a hashtag."""
    return " ".join(chance.choices(WORDS, k=words)) + f" #{chance.choice(WORDS)}"


def _chunks(posts: int) -> Iterator[range]:
    for first in range(1, posts + 1, CHUNK):
        yield range(first, min(first + CHUNK, posts + 1))
