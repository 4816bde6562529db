"""A large account is deleted, and the writer dies meanwhile: readers see the whole user, or none."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from binlog_projector.mysql.connections import Connection, query_value
from ops.stack import Stack
from tests.support.harness import (
    admin_connection,
    assert_everything_is_equal,
    create_tables,
    process,
    run_sql,
    wait_until,
    wait_until_caught_up,
)
from tests.support.services import Services, is_ready, running_services
from tests.support.threads import in_threads
from tests.verification.faults.mysql_pair import admin_of, replica_of
from tests.verification.torture.answers import Asking, Records
from tests.verification.torture.history import Clock, History
from tests.verification.torture.judge import Judge
from tests.verification.torture.running import read_binlog
from tests.writer.people import serving
from tidemark.gtid import GtidSet

FANS, POSTS = 3_000, 2_000
NUMBERS = "WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < {}) SELECT"
FIRST_POST, LAST_POST = 2, POSTS + 1  # post 1 is another's, who is user 2
PATHS = (
    *("/user/1", "/user/2", "/user/1/posts", "/user/2/following", "/user/3/following", "/post/1"),
    *("/post/1/likes", "/post/1/comments"),
    *(
        f"/post/{post}{rest}"
        for post in (FIRST_POST, 1_000, LAST_POST)
        for rest in ("", "/likes", "/comments")
    ),
)


def seed(connection: Connection) -> None:
    """User 1 with thousands of posts and followers. The last post has more likes than a transaction holds."""
    run_sql(
        connection,
        "SET cte_max_recursion_depth = 10000",
        f"INSERT INTO users (subject, handle, display_name) {NUMBERS.format(FANS + 2)}"
        " CONCAT('s', n), CONCAT('h', n), 'N' FROM number",
        "INSERT INTO posts (author_id, body) VALUES (2, 'stays')",
        f"INSERT INTO posts (author_id, body) {NUMBERS.format(POSTS)} 1, CONCAT('#tag', n % 7) FROM number",
        "INSERT INTO follows (follower_id, followee_id) SELECT id, 1 FROM users WHERE id > 2",
        "INSERT INTO follows (follower_id, followee_id) VALUES (1, 2), (2, 1), (2, 3)",
        "INSERT INTO likes (post_id, user_id) VALUES (1, 1), (1, 2)",
        "INSERT INTO likes (post_id, user_id) SELECT id, 2 FROM posts WHERE author_id = 1",
        f"INSERT INTO likes (post_id, user_id) SELECT {LAST_POST}, id FROM users WHERE id > 2",
        "INSERT INTO comments (post_id, author_id, body) SELECT id, 1, 'c' FROM posts WHERE id < 50",
        "INSERT INTO comments (post_id, author_id, body) SELECT id, 2, 'c' FROM posts WHERE author_id = 1",
        f"INSERT INTO comments (post_id, author_id, body) SELECT {LAST_POST}, id, 'c' FROM users LIMIT 500",
    )


def reading(services: Services, records: Records) -> AbstractContextManager[None]:
    """Reads all paths again and again during the block."""

    def read(number: int, stopping: threading.Event) -> None:
        asking = Asking(services, records, random.Random(number))
        while not stopping.is_set():
            for path in PATHS:
                asking.ask(path, 0, 0)

    return in_threads([partial(read, number) for number in range(2)])


def user_is_gone(connection: Connection) -> bool:
    return not query_value(connection, "SELECT COUNT(*) FROM users WHERE id = 1")


def test_a_replica_follows_a_deletion_past_the_foreign_keys(stack: Stack, tmp_path: Path) -> None:
    with admin_connection(stack) as connection:
        create_tables(connection)
        with (
            replica_of(stack, tmp_path) as second,
            admin_of(second) as replica,
            serving(stack.environment()["TIDEMARK_WRITER_MYSQL_URL"]) as writer,
        ):
            jane, post = writer.person(), writer.person().post()
            jane.post()
            assert jane.send("PUT", f"/post/{post}/like").status_code == 204
            assert jane.send("DELETE", "/user/me").status_code == 204
            executed = GtidSet.parse(query_value(connection, "SELECT @@global.gtid_executed"))
            seen = "SELECT @@global.gtid_executed"
            wait_until(lambda: GtidSet.parse(query_value(replica, seen)) >= executed, "the replica")
            assert query_value(replica, "SELECT COUNT(*) FROM tidemark.posts") == 1


def test_no_reader_sees_half_a_user_though_the_writer_dies(stack: Stack) -> None:
    records = Records(0)
    with running_services(stack) as services, admin_connection(stack) as connection:
        seed(connection)
        wait_until_caught_up(stack, connection)
        whole = services.read("/user/1").json()
        assert (whole["post_count"], whole["follower_count"]) == (POSTS, FANS + 1)
        with reading(services, records):
            with ThreadPoolExecutor(1) as threads:
                deleting = threads.submit(services.write, "s1", "DELETE", "/user/me")
                wait_until(lambda: user_is_gone(connection), "the first transaction")
                services.processes["writer"].kill()
                assert deleting.exception() is not None
            assert query_value(connection, "SELECT COUNT(*) FROM posts WHERE author_id = 1") > 0
            wait_until(lambda: services.read("/user/1").status_code == 404, "the user to be gone")
            with process(services.processes["writer"].environment, "-m", "writer") as writing:
                admin_port = int(writing.environment["TIDEMARK_WRITER_ADMIN_BIND"].rpartition(":")[2])
                wait_until(lambda: is_ready(admin_port), "the writer to be ready")
                wait_until(
                    lambda: services.write("s1", "DELETE", "/user/me").status_code == 204, "the end of it", 60
                )
            wait_until_caught_up(stack, connection)
        for table, column in (("posts", "author_id"), ("follows", "followee_id"), ("comments", "author_id")):
            assert query_value(connection, f"SELECT COUNT(*) FROM {table} WHERE {column} = 1") == 0
        assert assert_everything_is_equal(stack, connection) > 0
        history = History(read_binlog(stack, connection, {}))
    judge = Judge(history, Clock(history, records.observed))
    assert judge.stale(records.answers) == []
    of_user = [answer.body for answer in records.answers if answer.path == "/user/1"]
    assert [body for body in of_user if body not in (whole, None)] == []
    assert whole in of_user and None in of_user
    hits = [answer.body for answer in records.answers if answer.path == f"/post/{LAST_POST}" and answer.body]
    likes = {body["like_count"] for body in hits}
    print(f"{len(records.answers)} answers; likes of the post that does not fit: {sorted(likes)}")
