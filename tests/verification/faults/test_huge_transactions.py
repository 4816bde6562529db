"""Trace 14: a transaction larger than a batch is applied in parts, once, through kills and a failover."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from httpx2 import Client, Response
from pymongo import MongoClient

from binlog_projector.mysql.connections import Connection, query_value
from ops.stack import Stack
from tests.conftest import AUTH, service_environment
from tests.support.harness import (
    Process,
    admin_connection,
    assert_everything_is_equal,
    create_tables,
    projector,
    run_sql,
    wait_until,
    wait_until_caught_up,
)
from tests.support.reader_fills import fill_cache
from tests.verification.faults.mysql_pair import admin_of, promote, replica_of, wait_until_replicated
from tests.verification.faults.system import reader, standing_in
from tests.verification.faults.test_mysql_failover import with_hosts
from tests.verification.faults.witness import AS_OF
from tidemark.consistency_token import HEADER, ConsistencyKeys, sign
from tidemark.gtid import Gtid, GtidSet

KEYS = ConsistencyKeys.parse(AUTH["TIDEMARK_CONSISTENCY_SECRET"])
POSTS = 120
MAX_RSS_MIB = 250
NUMBERS = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {0}) "
SEED = (
    "SET SESSION cte_max_recursion_depth = 10000",
    "INSERT INTO users (subject, handle, display_name) "
    + NUMBERS.format("{0}")
    + "SELECT CONCAT('s', n), CONCAT('h', n), 'N' FROM n",
    "INSERT INTO posts (author_id, body) " + NUMBERS.format(POSTS) + "SELECT 1, 'a post' FROM n",
)
LIKES = (
    "INSERT INTO likes (post_id, user_id) SELECT p.id, u.id FROM users u CROSS JOIN posts p "
    "WHERE u.id BETWEEN {0} AND {1} ORDER BY u.id, p.id"
)
UNLIKES = (
    "DELETE FROM likes WHERE user_id > {0}"  # in the order of posts: others than those that came together
)


@dataclass(frozen=True)
class Huge:
    """A transaction, a time at which it was committed (MySQL's clock), and each post's likes after it."""

    gtids: GtidSet
    committed: datetime
    likes: int

    @property
    def gtid(self) -> Gtid:
        ((source, ((number, _),)),) = self.gtids.intervals.items()
        return Gtid(source, number)

    @property
    def token(self) -> str:
        return sign(self.gtids, KEYS, time.time())


def seed(connection: Connection, users: int) -> None:
    create_tables(connection)
    run_sql(connection, *(statement.format(users) for statement in SEED))


def commit(connection: Connection, likes: int, *statements: str) -> Huge:
    """Executes the statements in one transaction, after which every post has `likes` likes."""
    before = executed(connection)
    run_sql(connection, "BEGIN", *statements, "COMMIT")
    return Huge(executed(connection) - before, query_value(connection, "SELECT NOW(6)"), likes)


def likes_of(users: int) -> list[str]:
    """Statements by which every user likes every post; each takes some seconds at most."""
    return [LIKES.format(first, min(first + 999, users)) for first in range(1, users + 1, 1000)]


def executed(connection: Connection) -> GtidSet:
    return GtidSet.parse(query_value(connection, "SELECT @@global.gtid_executed"))


def checkpoint(stack: Stack) -> dict[str, Any]:
    with MongoClient[dict[str, Any]](stack.mongodb.admin_url) as client:
        control = client["tidemark"]["control"]
        serving = control.find_one({"_id": "serving"})
        found = serving and control.find_one({"_id": f"checkpoint:{serving['build']}"})
    assert found is not None
    return found


def crash(environment: Mapping[str, str], at: str) -> None:
    with projector({**environment, "AT": at}, "tests.support.faulty_projector") as crashing:
        wait_until(lambda: crashing.popen.poll() is not None, "the crash", 300)
        assert crashing.popen.returncode == -signal.SIGKILL, crashing.tail()


def peak_rss_mib(running: Process) -> float:
    """proc_pid_status(5), VmHWM."""
    status = Path(f"/proc/{running.popen.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1]) / 1024


def counted(stack: Stack) -> tuple[int, set[int]]:
    """The number of likes as documents, and the values of the posts' counters."""
    with MongoClient[dict[str, Any]](stack.mongodb.admin_url) as client:
        database, build = client["tidemark"], checkpoint(stack)["build"]
        return database[f"likes_b{build}"].count_documents({}), set(
            database[f"posts_b{build}"].distinct("like_count")
        )


def rows_applied(stack: Stack, huge: Huge) -> int:
    """The rows applied of a transaction that the checkpoint must not contain yet."""
    found = checkpoint(stack)
    assert huge.gtid not in GtidSet.parse(found["gtid_set"])
    (partial,) = found["partials"]
    assert partial["gtid"] == str(huge.gtid)
    rows: int = partial["rows"]
    return rows


def assert_true(answer: Response, huge: Huge) -> int:
    """An answer with an `as-of` after the commit has all likes. Returns the number of likes seen."""
    assert answer.status_code == 200, answer.text
    as_of = AS_OF.search(answer.headers["freshness"])
    likes: int = answer.json()["like_count"]
    assert as_of is not None and likes >= 0
    assert datetime.fromisoformat(as_of[1]).replace(tzinfo=None) < huge.committed or likes == huge.likes
    return likes


def assert_seen_in_part_only(client: Client, huge: Huge) -> None:
    """Some posts have some of their likes, no answer claims the transaction, and its token gets a 503."""
    seen = [assert_true(client.get(f"/post/{post}"), huge) for post in range(1, POSTS + 1, 10)]
    assert any(likes != 0 for likes in seen), "no part of it shows"
    refused = client.get("/post/1", headers={HEADER: huge.token})
    assert (refused.status_code, "retry-after" in refused.headers) == (503, True)


def wait_until_whole(client: Client, huge: Huge, seconds: float = 60) -> None:
    """Until the token gets an answer, every answer is true; the token's first answer has all likes."""

    def answered() -> bool:
        assert_true(client.get("/post/2"), huge)
        answer = client.get("/post/1", headers={HEADER: huge.token})
        return answer.status_code == 200 and assert_true(answer, huge) == huge.likes

    wait_until(answered, "an answer that has all of it", seconds)


@pytest.fixture
def connection(stack: Stack) -> Iterator[Connection]:
    with admin_connection(stack) as connection:
        yield connection


def test_a_huge_transaction_survives_kills_and_is_applied_once(stack: Stack, connection: Connection) -> None:
    environment = service_environment(stack)
    seed(connection, 300)
    with reader(environment) as reading, reading.client() as client:
        with projector(environment):
            wait_until_caught_up(stack, connection)
        fill_cache(stack)
        huge = commit(connection, 250, *likes_of(300), UNLIKES.format(250))  # 42,000 rows
        run_sql(connection, "UPDATE users SET bio = 'after it' WHERE id < 4")
        applied = [0]
        for at in ("inside_transaction:SIGKILL:3", "after_commit:SIGKILL:3", "after_apply:SIGKILL:2"):
            crash(environment, at)
            applied.append(rows_applied(stack, huge))
            assert applied[-1] > applied[-2]
            assert_seen_in_part_only(client, huge)
        with projector(environment):
            wait_until_whole(client, huge)
            wait_until_caught_up(stack, connection)
        assert checkpoint(stack)["partials"] == []
        assert assert_everything_is_equal(stack, connection) > 0
        print(f"killed after {applied[1:]} of {POSTS * 350} rows")


def test_a_huge_transaction_is_finished_on_another_server(
    stack: Stack, connection: Connection, tmp_path: Path
) -> None:
    """The replica has the same rows in the same order, but in other events."""
    seed(connection, 100)
    with replica_of(stack, tmp_path, "--binlog-row-event-max-size=1024") as second:
        environment = with_hosts(service_environment(stack), stack.mysql, second)
        with projector(environment):
            wait_until_caught_up(stack, connection)
        huge = commit(connection, 80, *likes_of(100), UNLIKES.format(80))  # 14,400 rows
        crash(environment, "after_commit:SIGKILL:3")
        assert rows_applied(stack, huge) > 0
        with admin_of(second) as replica:
            wait_until_replicated(stack, replica)
        stack.mysql.kill()
        promote(second)
        with standing_in(stack, "mysql", second), projector(environment), admin_connection(stack) as promoted:
            wait_until_caught_up(stack, promoted)
            assert_everything_is_equal(stack, promoted)


@pytest.mark.long
def test_a_million_rows_need_no_more_memory_than_a_batch(stack: Stack, connection: Connection) -> None:
    users = 8_334
    environment = service_environment(stack)
    seed(connection, users)
    with projector(environment):
        wait_until_caught_up(stack, connection)
    huge = commit(connection, users, *likes_of(users))
    crash(environment, "after_commit:SIGKILL:100")
    applied = rows_applied(stack, huge)
    begun = time.monotonic()
    with projector(environment) as running:
        wait_until_caught_up(stack, connection, 600)
        seconds, rss = time.monotonic() - begun, peak_rss_mib(running)
    rows = POSTS * users
    print(f"{rows:,} rows, killed after {applied:,}: the rest in {seconds:.0f} s, peak RSS {rss:.0f} MiB")
    assert rows >= 1_000_000
    assert counted(stack) == (rows, {users})
    assert rss < MAX_RSS_MIB
