"""Backlogs for benchmarks: transactions straight into MySQL, the same rows for the same seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice

import pymysql
from pymysql.constants.CLIENT import MULTI_STATEMENTS

from ops.stack import Stack
from ops.stack.progress import say
from ops.stack.urls import mysql_arguments
from perf.dataset import UNCHECKED, USERS, body
from writer.schema import SCHEMA

LANES = 2  # connections; each has its own posts, so that no statement waits for another lane
STATEMENTS = 250  # sent in one packet
ROWS_AT_ONCE = 50  # in one transaction of many rows
NOT_DURABLE = (  # the server of a backlog, whose writing is not measured
    "--sync-binlog=0",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-doublewrite=OFF",
    "--innodb-redo-log-capacity=1G",
    "--innodb-buffer-pool-size=1G",
    "--performance-schema=OFF",
)
SENTENCES = 30  # in the text of which bodies are pieces
WRITE_SINGLE_ROWS = """
CREATE PROCEDURE write_single_rows(lane INT, lanes INT, users INT, wanted INT, seed INT, words TEXT)
BEGIN
  DECLARE written, posts, comments INT DEFAULT 0;
  DECLARE post BIGINT;
  SET SESSION rand_seed1 = seed * 7919 + lane, rand_seed2 = seed * 104729 + lane * 31;
  WHILE written < wanted DO
    SET post = FLOOR(posts * RAND()) * lanes + lane + 1;
    CASE IF(posts = 0, 0, FLOOR(5 * RAND()))
      WHEN 0 THEN
        INSERT INTO posts (id, author_id, body) VALUES (posts * lanes + lane + 1, 1 + FLOOR(users * RAND()),
          SUBSTRING(words, 1 + FLOOR((CHAR_LENGTH(words) - 250) * RAND()), 250));
        SET posts = posts + 1;
      WHEN 1 THEN
        INSERT INTO comments (id, post_id, author_id, body)
          VALUES (comments * lanes + lane + 1, post, 1 + FLOOR(users * RAND()),
          SUBSTRING(words, 1 + FLOOR((CHAR_LENGTH(words) - 75) * RAND()), 75));
        SET comments = comments + 1;
      ELSE INSERT IGNORE INTO likes (post_id, user_id) VALUES (post, 1 + FLOOR(users * RAND()));
    END CASE;
    SET written = written + ROW_COUNT();
  END WHILE;
END
"""  # in MySQL itself, because a client needs ten times as long for ten million rows


class Lane:
    """The statements of one connection: ids LANES apart, chance of its own."""

    def __init__(self, number: int, seed: int) -> None:
        self.chance = random.Random(seed * LANES + number)
        self.number = number
        self.posts = 0

    def many_rows(self) -> Iterator[str]:
        """Transactions of ROWS_AT_ONCE posts for ever."""
        while True:
            rows = ", ".join(self._post() for _ in range(ROWS_AT_ONCE))
            yield f"INSERT INTO posts (id, author_id, body) VALUES {rows}"

    def updates(self, posts: int) -> Iterator[str]:
        """Updates of one of the first `posts` posts for ever."""
        while True:
            id = self.chance.randrange(posts // LANES) * LANES + self.number + 1
            yield f"UPDATE posts SET body = '{body(self.chance)}' WHERE id = {id}"

    def _post(self) -> str:
        id, self.posts = self.posts * LANES + self.number + 1, self.posts + 1
        return f"({id}, {self.chance.randint(1, USERS)}, '{body(self.chance)}')"


def add_single_rows(stack: Stack, transactions: int, seed: int) -> None:
    """Rows in a transaction of their own, by people who are there already.

    A fifth are posts, a fifth comments, three fifths likes of posts at random.
    """
    say(f"writing {transactions} transactions")
    arguments = {**mysql_arguments(stack.mysql.admin_url), "database": SCHEMA, "autocommit": True}
    chance = random.Random(seed)
    words = " ".join(body(chance) for _ in range(SENTENCES))

    def write(lane: int, share: int) -> None:
        with (
            pymysql.connect(**arguments, init_command=UNCHECKED) as connection,
            connection.cursor() as cursor,
        ):
            cursor.callproc("write_single_rows", (lane, LANES, USERS, share, seed, words))

    with pymysql.connect(**arguments) as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION sql_log_bin = 0")
        cursor.execute("DROP PROCEDURE IF EXISTS write_single_rows")
        cursor.execute(WRITE_SINGLE_ROWS)
    _in_lanes(write, transactions)


def add_many_rows(url: str, transactions: int, seed: int) -> None:
    """`transactions` of ROWS_AT_ONCE posts each, by people who are there already."""
    _write(url, transactions, seed, Lane.many_rows)


def add_updates(url: str, transactions: int, seed: int, posts: int) -> None:
    """`transactions` that update one row each of the first `posts` posts, which are there already."""
    _write(url, transactions, seed, partial(Lane.updates, posts=posts))


def posts_of_lanes(url: str) -> int:
    """The number of posts without a gap: chance may have given one lane more than another."""
    with pymysql.connect(**mysql_arguments(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM posts GROUP BY id %% %s", (LANES,))
        counts = [count for (count,) in cursor.fetchall()]
    return int(min(counts)) * LANES


def _write(url: str, transactions: int, seed: int, statements: Callable[[Lane], Iterator[str]]) -> None:
    say(f"writing {transactions} transactions")
    _in_lanes(lambda lane, share: _run(url, islice(statements(Lane(lane, seed)), share)), transactions)


def _in_lanes(write: Callable[[int, int], None], transactions: int) -> None:
    """`write` gets the number of a lane and its share."""
    with ThreadPoolExecutor(LANES) as lanes:
        shares = [len(range(lane, transactions, LANES)) for lane in range(LANES)]
        for done in [lanes.submit(write, lane, share) for lane, share in enumerate(shares)]:
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
