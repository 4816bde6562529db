"""A steady load of likes, from a process of its own that asks MySQL for the time right after each commit."""

from __future__ import annotations

import signal
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager

import pymysql
from pymysql.constants import CLIENT

from ops.stack.urls import mysql_arguments
from perf.dataset import USERS
from perf.live.clients import SPAWN

LANES = 8  # connections: one alone waits for the disk at each commit
CONNECT_SECONDS = 0.3
LIKE = "INSERT INTO likes (post_id, user_id) VALUES (%s, %s); SELECT UNIX_TIMESTAMP(SYSDATE(6))"


class Likes:
    """`commits`: of each post the times at which MySQL had committed its likes, sorted."""

    def __init__(self, url: str, pool: ProcessPoolExecutor) -> None:
        self.commits: dict[int, list[float]] = defaultdict(list)
        self._url = url
        self._pool = pool

    def begin(self, posts: Sequence[int], per_s: float, seconds: float) -> Future[dict[int, list[float]]]:
        """Like the posts in turn, each time as another user."""
        first = USERS + 1 + max(len(self.commits[post]) for post in posts)
        return self._pool.submit(_write, self._url, posts, first, per_s, seconds)

    def finish(self, writing: Future[dict[int, list[float]]]) -> int:
        """Wait until all is written; returns how many."""
        found = writing.result()
        for post, times in found.items():
            self.commits[post] = sorted(self.commits[post] + times)
        return sum(map(len, found.values()))

    def counts(self, posts: Sequence[int]) -> dict[int, int]:
        return {post: len(self.commits[post]) for post in posts}


@contextmanager
def starting_likes(url: str, likers: int) -> Iterator[Likes]:
    """With users of the ids behind USERS, so many as a post is to have likes at most."""
    with (
        pymysql.connect(**mysql_arguments(url), autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        cursor.executemany(
            "INSERT INTO users (id, subject, handle, display_name) VALUES (%s, %s, %s, 'Liker')",
            [(USERS + n, f"liker-{n}", f"liker_{n}") for n in range(1, likers + 1)],
        )
    with ProcessPoolExecutor(1, SPAWN, initializer=_leave_signals) as pool:
        yield Likes(url, pool)


def _leave_signals() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent


def _write(
    url: str, posts: Sequence[int], first: int, per_s: float, seconds: float
) -> dict[int, list[float]]:
    begun = time.time() + CONNECT_SECONDS

    def lane(number: int) -> list[tuple[int, float]]:
        done = []
        with (
            pymysql.connect(
                **mysql_arguments(url), autocommit=True, client_flag=CLIENT.MULTI_STATEMENTS
            ) as connection,
            connection.cursor() as cursor,
        ):
            for n in range(number, int(per_s * seconds), LANES):
                time.sleep(max(0.0, begun + n / per_s - time.time()))
                if time.time() > begun + seconds:
                    break
                post, user = posts[n % len(posts)], first + n // len(posts)
                cursor.execute(LIKE, (post, user))
                cursor.nextset()
                ((committed,),) = cursor.fetchall()
                done.append((post, float(committed)))
        return done

    with ThreadPoolExecutor(LANES) as threads:
        lanes = [threads.submit(lane, number) for number in range(LANES)]
    found: dict[int, list[float]] = defaultdict(list)
    for one in lanes:
        for post, committed in one.result():
            found[post].append(committed)
    return dict(found)
