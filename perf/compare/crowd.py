"""A social network in MySQL, the same for the same seed. Few posts have most likes, comments and readers.

Popularity follows Zipf's law with YCSB's constant:
Cooper et al., Benchmarking Cloud Serving Systems with YCSB, 2010.
"""

from __future__ import annotations

import itertools
import operator
import random
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import pymysql

from ops.stack.urls import mysql_arguments
from perf.dataset import WORDS

ZIPF = 0.99
USERS_PER_POST = 10  # most people read and like, few write
LIKES_PER_POST = 50
COMMENTS_PER_POST = 2
WRITERS = 50
FEED_CALLERS, FOLLOWEES = 50, 200
CHUNK = 2_000


class Crowd:
    """`posts` posts and ten times as many users, with ids from 1; the user n has the subject `perf-n`.

    Beside them there are `writers`, who like nothing until the benchmark lets them. The `feed_callers` follow
    FOLLOWEES authors each.
    """

    def __init__(self, posts: int, seed: int) -> None:
        self.posts = posts
        self.users = posts * USERS_PER_POST
        self.writers = range(self.users + 1, self.users + 1 + WRITERS)
        self.feed_callers = range(1, min(self.users, FEED_CALLERS) + 1)
        self.seed = seed

    @cached_property
    def by_popularity(self) -> Sequence[int]:
        """Ids of posts, the most popular first."""
        return random.Random(f"{self.seed} order").sample(range(1, self.posts + 1), self.posts)

    @cached_property
    def _shares(self) -> Sequence[float]:
        weights = [rank**-ZIPF for rank in range(1, self.posts + 1)]
        return [weight / sum(weights) for weight in weights]

    def picks(self, count: int, of: str) -> list[int]:
        """Ids of posts as people come upon them; `of` names one of many such sequences."""
        return random.Random(f"{self.seed} {of}").choices(self.by_popularity, self._shares, k=count)

    def load(self, url: str) -> None:
        """Fill the empty tables of a migrated schema."""
        with pymysql.connect(**mysql_arguments(url)) as connection, connection.cursor() as cursor:
            for sql, rows in self._tables():
                for chunk in _chunks(rows):
                    cursor.executemany(sql, chunk)
                    connection.commit()

    def likes_of(self, rank: int) -> int:
        """How many likes the post of that rank (from 0) has: nobody likes a post twice."""
        return min(self.users, round(self._shares[rank] * self.posts * LIKES_PER_POST))

    def description(self) -> dict[str, float]:
        """Sizes and unevenness: facts that decide the cost of COUNT(*)."""
        likes = [self.likes_of(rank) for rank in range(self.posts)]
        return {
            "users": self.users,
            "posts": self.posts,
            "likes": sum(likes),
            "comments": self.posts * COMMENTS_PER_POST,
            "feed_callers": len(self.feed_callers),
            "followees_of_each": FOLLOWEES,
            "most_likes_of_a_post": likes[0],
            "likes_of_the_post_that_is_read": round(sum(map(operator.mul, self._shares, likes))),
        }

    def _tables(self) -> Iterator[tuple[str, Iterable[tuple[object, ...]]]]:
        yield "INSERT INTO users (id, subject, handle, display_name) VALUES (%s, %s, %s, %s)", self._users()
        yield "INSERT INTO posts (id, author_id, body) VALUES (%s, %s, %s)", self._posts()
        yield "INSERT INTO likes (post_id, user_id) VALUES (%s, %s)", self._likes()
        yield "INSERT INTO comments (post_id, author_id, body) VALUES (%s, %s, %s)", self._comments()
        yield "INSERT INTO follows (follower_id, followee_id) VALUES (%s, %s)", self._follows()

    def _users(self) -> Iterator[tuple[object, ...]]:
        return ((n, f"perf-{n}", f"perf_{n}", f"Person {n}") for n in range(1, self.writers.stop))

    def _posts(self) -> Iterator[tuple[int, int, str]]:
        chance = random.Random(f"{self.seed} posts")
        return ((n, chance.randint(1, self.users), _text(chance, 42)) for n in range(1, self.posts + 1))

    def _likes(self) -> Iterator[tuple[object, ...]]:
        chance = random.Random(f"{self.seed} likes")
        for rank, post in enumerate(self.by_popularity):
            first = chance.randrange(self.users)
            yield from ((post, (first + n) % self.users + 1) for n in range(self.likes_of(rank)))

    def _comments(self) -> Iterator[tuple[object, ...]]:
        chance = random.Random(f"{self.seed} comments")
        for post in self.picks(self.posts * COMMENTS_PER_POST, "comments"):
            yield post, chance.randint(1, self.users), _text(chance, 12)

    def _follows(self) -> Iterator[tuple[object, ...]]:
        chance = random.Random(f"{self.seed} follows")
        authors = sorted({author for _, author, _ in self._posts()})
        for caller in self.feed_callers:
            others = [author for author in authors if author != caller]
            yield from ((caller, author) for author in chance.sample(others, min(FOLLOWEES, len(others))))


def _text(chance: random.Random, words: int) -> str:
    return f"{' '.join(chance.choices(WORDS, k=words))} #{chance.choice(WORDS)}"


def _chunks(rows: Iterable[tuple[object, ...]]) -> Iterator[list[tuple[object, ...]]]:
    rest = iter(rows)
    while chunk := list(itertools.islice(rest, CHUNK)):
        yield chunk
