"""The people of `perf feed`, in MySQL: authors, callers who follow some of them, and a crowd."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import pymysql
from pymysql.cursors import Cursor

from ops.stack.urls import mysql_arguments
from perf.dataset import UNCHECKED, load_posts, load_replies

AUTHORS, POSTS = 2_000, 200_000  # so that heads are full, and most have posts behind them
COMMENTS, LIKES, LIKES_OF_A_CALLER = 10_000, 50_000, 100
CALLERS = 50  # for each number of followees
COLD_AUTHORS = 200_000
FOLLOWERS = (10, 1_000, 100_000)  # of authors whose posts are fanned out
CHUNK = 20_000
NUMBERS = """
WITH RECURSIVE numbers (n) AS (SELECT %(first)s UNION ALL SELECT n + 1 FROM numbers WHERE n < %(last)s)
"""
USERS = (
    "users (id, subject, handle, display_name)",
    "n, CONCAT('perf-', n), CONCAT('perf_', n), CONCAT('Person ', n)",
)
ONE_POST_EACH = "posts (author_id, body)", "n, CONCAT(REPEAT('tide and shore ', 16), n)"
ONE_FOLLOWEE = "follows (follower_id, followee_id)", "n, %(followee)s"
FOLLOWEES_IN_TURN = "follows (follower_id, followee_id)", "%(caller)s + (n - %(crowd)s) DIV %(each)s, n"
MANY_FOLLOWEES = "INSERT INTO follows (follower_id, followee_id) VALUES (%s, %s)"
LIKE = "INSERT INTO likes (post_id, user_id) VALUES (%s, %s)"


@dataclass(frozen=True)
class People:
    """The people by id. The user n has the subject `perf-n`.

    `followees`: of the callers, in ascending order. `celebrity`: followers of one more author; 0: none.
    """

    followees: tuple[int, ...]
    celebrity: int

    @property
    def middle(self) -> int:
        """The number of followees that most lanes are about."""
        return self.followees[len(self.followees) // 2]

    def callers(self, followees: int) -> range:
        first = AUTHORS + 1 + CALLERS * self.followees.index(followees)
        return range(first, first + CALLERS)

    @property
    def known(self) -> Sequence[int]:
        """Numbers of followers of the known authors."""
        return sorted({*FOLLOWERS, *([self.celebrity] if self.celebrity else [])})

    def author_with(self, followers: int) -> int:
        """The author whom the first so many of the crowd follow."""
        return AUTHORS + 1 + CALLERS * len(self.followees) + self.known.index(followers)

    @property
    def cold_callers(self) -> range:
        """Callers whose followees are all different."""
        first = self.author_with(self.known[-1]) + 1
        return range(first, first + COLD_AUTHORS // self.middle)

    @property
    def crowd(self) -> range:
        """Followers of the known authors. The first of them have a post each, for the cold callers."""
        first = self.cold_callers.stop
        return range(first, first + max(COLD_AUTHORS, *self.known))

    def load(self, url: str, seed: int) -> None:
        """Fill the empty tables of a migrated schema."""
        load_posts(url, POSTS, seed, AUTHORS)
        load_replies(url, POSTS, COMMENTS, LIKES, seed)
        chance = random.Random(f"{seed} people")
        with (
            pymysql.connect(**mysql_arguments(url), autocommit=True, init_command=UNCHECKED) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(f"SET SESSION cte_max_recursion_depth = {CHUNK + 1}")
            _each(cursor, USERS, range(AUTHORS + 1, self.crowd.stop))
            for count in self.followees:
                for caller in self.callers(count):
                    authors = chance.sample(range(1, AUTHORS + 1), count)
                    cursor.executemany(MANY_FOLLOWEES, [(caller, author) for author in authors])
                    posts = chance.sample(range(1, POSTS + 1), LIKES_OF_A_CALLER)
                    cursor.executemany(LIKE, [(post, caller) for post in posts])
            for count in self.known:
                _each(cursor, ONE_FOLLOWEE, self.crowd[:count], followee=self.author_with(count))
            cold = self.crowd[: len(self.cold_callers) * self.middle]
            _each(cursor, ONE_POST_EACH, cold)
            turns = {"caller": self.cold_callers.start, "crowd": cold.start, "each": self.middle}
            _each(cursor, FOLLOWEES_IN_TURN, cold, **turns)


def _each(cursor: Cursor, rows: tuple[str, str], ids: range, **given: int) -> None:
    """Insert a row for each id, in transactions of CHUNK."""
    into, values = rows
    for first in range(ids.start, ids.stop, CHUNK):
        last = min(first + CHUNK, ids.stop) - 1
        statement = f"INSERT INTO {into} {NUMBERS} SELECT {values} FROM numbers"  # noqa: S608
        cursor.execute(statement, {"first": first, "last": last, **given})
