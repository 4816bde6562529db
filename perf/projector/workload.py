"""Backlogs for benchmarks: transactions straight into MySQL, the same rows for the same seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice

import pymysql
from pymysql.constants.CLIENT import MULTI_STATEMENTS

from ops.stack.progress import say
from ops.stack.urls import mysql_arguments
from perf.dataset import UNCHECKED, USERS, body, sentence

LANES = 2  # connections; each has its own posts, so that no statement waits for another lane
STATEMENTS = 250  # sent in one packet
ROWS_AT_ONCE = 50  # in one transaction of many rows
NOT_DURABLE = (  # for the server that holds a backlog: making it is not what is measured
    "--sync-binlog=0",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-doublewrite=OFF",
    "--innodb-redo-log-capacity=256M",
    "--innodb-buffer-pool-size=256M",
    "--performance-schema=OFF",
)


class Lane:
    """The statements of one connection: ids LANES apart, chance of its own."""

    def __init__(self, number: int, seed: int) -> None:
        self.chance = random.Random(seed * LANES + number)
        self.number = number
        self.posts = 0
        self.comments = 0
        self.likes: list[int] = []  # of each post: who is next to like it

    def single_row(self) -> Iterator[str]:
        """Transactions of one row for ever: a fifth posts, a fifth comments, three fifths likes."""
        mix = (self.post, self.comment, self.like, self.like, self.like)
        yield self.post()
        while True:
            yield self.chance.choice(mix)()

    def many_rows(self) -> Iterator[str]:
        """Transactions of ROWS_AT_ONCE posts for ever."""
        while True:
            rows = ", ".join(self._post_row() for _ in range(ROWS_AT_ONCE))
            yield f"INSERT INTO posts (id, author_id, body) VALUES {rows}"

    def updates(self, posts: int) -> Iterator[str]:
        """Updates of one of the first `posts` posts for ever."""
        while True:
            id = self.chance.randrange(posts // LANES) * LANES + self.number + 1
            yield f"UPDATE posts SET body = '{body(self.chance)}' WHERE id = {id}"

    def post(self) -> str:
        return f"INSERT INTO posts (id, author_id, body) VALUES {self._post_row()}"

    def comment(self) -> str:
        self.comments += 1
        id, post = self._id(self.comments), self._id(1 + self.chance.randrange(self.posts))
        row = f"({id}, {post}, {self._user()}, '{sentence(self.chance, 12)}')"
        return f"INSERT INTO comments (id, post_id, author_id, body) VALUES {row}"

    def like(self) -> str:
        post = self.chance.randrange(self.posts)
        self.likes[post] += 1
        return f"INSERT INTO likes (post_id, user_id) VALUES ({self._id(post + 1)}, {self.likes[post] % USERS + 1})"

    def _post_row(self) -> str:
        self.posts += 1
        self.likes.append(self.chance.randrange(USERS))
        return f"({self._id(self.posts)}, {self._user()}, '{body(self.chance)}')"

    def _id(self, count: int) -> int:
        return (count - 1) * LANES + self.number + 1

    def _user(self) -> int:
        return self.chance.randint(1, USERS)


def add_single_rows(url: str, transactions: int, seed: int) -> None:
    """`transactions` rows, each in a transaction of its own, by people who are there already."""
    _write(url, transactions, seed, Lane.single_row)


def add_many_rows(url: str, transactions: int, seed: int) -> None:
    """`transactions` of ROWS_AT_ONCE posts each, by people who are there already."""
    _write(url, transactions, seed, Lane.many_rows)


def add_updates(url: str, transactions: int, seed: int, posts: int) -> None:
    """`transactions` that update one row each of the first `posts` posts, which are there already."""
    _write(url, transactions, seed, partial(Lane.updates, posts=posts))


def posts_of_lanes(url: str) -> int:
    """How many posts there are, the first ones without a gap: chance may have given one lane more than another."""
    with pymysql.connect(**mysql_arguments(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM posts GROUP BY id %% %s", (LANES,))
        counts = [count for (count,) in cursor.fetchall()]
    return int(min(counts)) * LANES


def _write(url: str, transactions: int, seed: int, statements: Callable[[Lane], Iterator[str]]) -> None:
    say(f"writing {transactions} transactions")
    shares = [len(range(lane, transactions, LANES)) for lane in range(LANES)]
    with ThreadPoolExecutor(LANES) as lanes:
        for done in [
            lanes.submit(_run, url, islice(statements(Lane(lane, seed)), share))
            for lane, share in enumerate(shares)
        ]:
            done.result()


def _run(url: str, statements: Iterator[str]) -> None:
    arguments = mysql_arguments(url)
    with (
        pymysql.connect(
            **arguments, autocommit=True, client_flag=MULTI_STATEMENTS, init_command=UNCHECKED
        ) as connection,
        connection.cursor() as cursor,
    ):
        while chunk := list(islice(statements, STATEMENTS)):
            cursor.execute(";".join(chunk))
            while cursor.nextset():
                pass
