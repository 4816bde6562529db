"""Notifications come to full tables: writers and the projector of the release before go on, and wait for
nothing."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from binlog_projector.mysql.connections import Connection, query_value
from ops.stack import Stack
from ops.stack.servers.ports import free_port
from tests.conftest import service_environment
from tests.support.harness import (
    admin_connection,
    assert_everything_is_equal,
    process,
    projector,
    run_sql,
    wait_until,
    wait_until_caught_up,
)
from tests.support.tokens import bearer
from writer.connections import connect
from writer.database import Session
from writer.errors import Contended
from writer.migrate import migrate, migrations
from writer.schema import MIGRATIONS

USERS, FIRST_NEW = 1_000, 3  # the first migration that the release before lacks
LONGEST_SECONDS = 1.0
FULL = 1_000  # posts
NUMBERS = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {0})"
Deed = Callable[[random.Random], None]


def fill(connection: Connection, posts: int) -> None:
    """A like of every post by every user, and as many comments as posts."""
    run_sql(
        connection,
        f"SET cte_max_recursion_depth = {max(posts, USERS)}",
        f"INSERT INTO users (subject, handle, display_name) {NUMBERS.format(USERS)}"
        " SELECT CONCAT('s', n), CONCAT('h', n), 'N' FROM n",
        f"INSERT INTO posts (author_id, body) {NUMBERS.format(posts)}"
        f" SELECT 1 + n % {USERS}, CONCAT('post ', n) FROM n",
        *(
            f"INSERT INTO likes (post_id, user_id) SELECT posts.id, users.id FROM posts CROSS JOIN users"
            f" WHERE users.id % 50 = {part}"
            for part in range(50)
        ),
        "INSERT INTO comments (post_id, author_id, body) SELECT id, author_id, 'c' FROM posts",
    )


class Load:
    """Threads that carry out deeds until the block's end. `longest`: seconds of the slowest one."""

    def __init__(self) -> None:
        self.longest_seconds = 0.0
        self.count = 0

    @contextlib.contextmanager
    def of(self, *workers: Callable[[], contextlib.AbstractContextManager[Deed]]) -> Iterator[None]:
        stopping = threading.Event()

        def work(seed: int) -> None:
            chance = random.Random(seed)
            with workers[seed]() as deed:
                while not stopping.wait(0.005):
                    began = time.monotonic()
                    deed(chance)
                    self.longest_seconds = max(self.longest_seconds, time.monotonic() - began)
                    self.count += 1

        with ThreadPoolExecutor(len(workers)) as threads:
            running = [threads.submit(work, seed) for seed in range(len(workers))]
            try:
                yield
            finally:
                stopping.set()
            for each in running:
                each.result()


@contextlib.contextmanager
def older_writer(url: str, posts: int) -> Iterator[Deed]:
    """The statements of the release before, in the writer's own session."""
    with connect(url, autocommit=True) as connection:

        def deed(chance: random.Random) -> None:
            post, user = chance.randint(1, posts), chance.randint(1, USERS)
            statement: tuple[Any, ...] = chance.choice(
                [
                    ("DELETE FROM likes WHERE post_id = %s AND user_id = %s", post, user),
                    ("INSERT IGNORE INTO likes (post_id, user_id) VALUES (%s, %s)", post, user),
                    ("INSERT INTO comments (post_id, author_id, body) VALUES (%s, %s, 'c')", post, user),
                    ("UPDATE posts SET body = %s WHERE id = %s", f"edited {chance.random()}", post),
                    ("INSERT INTO posts (author_id, body) VALUES (%s, 'new')", user),
                ]
            )
            with contextlib.suppress(Contended):
                Session(connection).execute(*statement)

        yield deed


@contextlib.contextmanager
def newer_writer(url: str, posts: int, subject: int) -> Iterator[Deed]:
    """One person at the writer over HTTP."""
    headers = bearer(f"s{subject}")
    with httpx2.Client(base_url=url, headers=headers, timeout=20, trust_env=False) as client:

        def deed(chance: random.Random) -> None:
            post = f"/post/{chance.randint(1, posts)}"
            method, path, body = chance.choice(
                [
                    ("PUT", f"{post}/like", None),
                    ("DELETE", f"{post}/like", None),
                    ("POST", f"{post}/comment", {"body": f"hi @h{chance.randint(1, USERS)}"}),
                    ("POST", "/post", {"body": f"@h{chance.randint(1, USERS)}"}),
                ]
            )
            assert client.request(method, path, json=body).status_code < 300

        yield deed


@contextlib.contextmanager
def running_writer(environment: dict[str, str]) -> Iterator[str]:
    port, admin_port = free_port(), free_port()
    binds = {"WRITER_BIND": port, "WRITER_ADMIN_BIND": admin_port}
    binding = {f"TIDEMARK_{name}": f"127.0.0.1:{port}" for name, port in binds.items()}
    with process({**environment, **binding}, "-m", "writer"):
        url = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            with contextlib.suppress(httpx2.TransportError):
                return httpx2.get(f"{url}/openapi.json", trust_env=False).status_code == 200
            return False

        wait_until(answers, "the writer to answer")
        yield url


@pytest.mark.parametrize("posts", [30, pytest.param(FULL, marks=pytest.mark.long)])
def test_full_tables_are_migrated_while_all_goes_on(stack: Stack, tmp_path: Path, posts: int) -> None:
    """1,000 likes a post. In the end a rebuild brings the notifications of all of them."""
    environment, urls = service_environment(stack), stack.environment()
    older = Path(shutil.copytree(MIGRATIONS, tmp_path / "migrations"))
    for each in migrations():
        if each.version >= FIRST_NEW:
            (older / each.name).unlink()
    url = urls["TIDEMARK_MIGRATOR_MYSQL_URL"]
    migrate(url, older)
    loads = {"before": Load(), "adding": Load(), "finishing": Load()}
    with admin_connection(stack) as connection:
        fill(connection, posts)
        with projector(environment, "tests.support.older_release", "binlog_projector") as projecting:
            wait_until_caught_up(stack, connection, 300)
            olds = [lambda: older_writer(urls["TIDEMARK_WRITER_MYSQL_URL"], posts)] * 4
            with loads["before"].of(*olds):
                time.sleep(3)
            with loads["adding"].of(*olds):
                migrate(url)
                time.sleep(1)
            with running_writer(environment) as writer_url:
                people = [lambda n=n: newer_writer(writer_url, posts, n) for n in range(1, 5)]
                with loads["finishing"].of(*people):
                    time.sleep(1)
                    began = time.monotonic()
                    migrate(url, finish=True)
                    seconds = time.monotonic() - began
                    time.sleep(1)
            wait_until_caught_up(stack, connection, 300)
            assert projecting.popen.poll() is None
        shown = {name: [load.count, round(load.longest_seconds, 3)] for name, load in loads.items()}
        print(json.dumps({"likes": posts * USERS, "finish_seconds": round(seconds, 1), **shown}))
        for name in ("likes", "comments"):
            its_post = f"posts.id = {name}.post_id AND posts.author_id = {name}.post_author_id"
            others = f"SELECT COUNT(*) FROM {name} LEFT JOIN posts ON {its_post} WHERE posts.id IS NULL"
            assert query_value(connection, others) == 0
        with process(environment, "-m", "binlog_projector", "rebuild") as building:
            assert building.popen.wait(timeout=500) == 0, building.tail()
        with projector(environment):
            run_sql(connection, "UPDATE posts SET body = 'seen' WHERE id = 1")  # by this projector
            wait_until_caught_up(stack, connection, 300)
            assert_everything_is_equal(stack, connection)
    if posts >= FULL:  # with fewer, the longest request tells of the machine alone
        assert max(loads[name].longest_seconds for name in ("adding", "finishing")) < LONGEST_SECONDS
