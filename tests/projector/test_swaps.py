"""A watched table that a tool swaps for a copy is projected on if and only if the copy is the same."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
from collections.abc import Iterator, Sequence

import pymysql
import pytest

from binlog_projector.mysql.connections import Connection
from ops.stack import Stack
from tests.support.harness import (
    Process,
    admin_connection,
    assert_everything_is_equal,
    projector,
    projector_environment,
    run_sql,
    wait_until,
    wait_until_caught_up,
)
from tests.support.schema_tools import AGAIN, gh_ost, pt_osc
from tests.support.threads import in_threads
from tests.support.traffic import POSTS, USERS, write_traffic

RUNS = {
    "gh-ost": (
        gh_ost,
        "follows",
        "ADD COLUMN note VARCHAR(9) FIRST, ADD INDEX by_note (note), "
        "MODIFY created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) FIRST",
    ),
    "pt-online-schema-change": (pt_osc, "posts", "MODIFY body VARCHAR(3000) NOT NULL FIRST, ENGINE=InnoDB"),
}
NOTHING: Sequence[str] = ()


def write(connection: Connection, chance: random.Random) -> None:
    """One random write. Posts beyond the first 50 come and go, and follows change their time and their key."""
    user, other = chance.randint(1, USERS), chance.randint(1, USERS)
    statement = chance.choice(
        [
            f"INSERT INTO posts (author_id, body) VALUES ({user}, 'new #t{other}')",
            f"DELETE FROM posts WHERE id > {POSTS} ORDER BY id DESC LIMIT 1",
            f"UPDATE follows SET created_at = NOW(6) WHERE follower_id = {user} LIMIT 2",
            f"UPDATE IGNORE follows SET followee_id = {other} WHERE follower_id = {user} LIMIT 1",
            f"REPLACE INTO follows (follower_id, followee_id) VALUES ({user}, {other})",
            f"DELETE FROM follows WHERE follower_id = {user} LIMIT 1",
        ]
    )
    try:
        run_sql(connection, statement)
        write_traffic(connection, chance, 1)
    except pymysql.MySQLError as error:
        if error.args[0] not in AGAIN:
            raise


@contextlib.contextmanager
def writes(stack: Stack, seed: int) -> Iterator[None]:
    def run(stopping: threading.Event) -> None:
        chance = random.Random(seed)
        with admin_connection(stack) as connection:
            while not stopping.wait(0.005):
                write(connection, chance)

    with in_threads([run]):
        yield


@pytest.fixture
def written(connection: Connection) -> Connection:
    chance = random.Random(0)
    for _ in range(150):
        write(connection, chance)
    return connection


def logged(running: Process, event: str) -> bool:
    return any(line["event"] == event for line in running.events())


def nothing() -> None:
    pass


@pytest.mark.parametrize("name", RUNS)
def test_a_copy_that_is_the_same_goes_on_and_says_verified(
    stack: Stack, written: Connection, name: str
) -> None:
    tool, table, alter = RUNS[name]
    with projector(projector_environment(stack)) as running:
        wait_until_caught_up(stack, written)
        with writes(stack, 1):
            tool(stack, table, alter, NOTHING, nothing)
            wait_until(lambda: logged(running, "swap verified"), "the comparison")
        wait_until_caught_up(stack, written)
        assert_everything_is_equal(stack, written)
        assert logged(running, "comparing")


@pytest.mark.parametrize("point", ["before_swap", "comparing_swap", "after_swap", ""])
@pytest.mark.parametrize("name", RUNS)
def test_a_killed_projector_compares_again_and_goes_on(
    stack: Stack, written: Connection, name: str, point: str
) -> None:
    """Without a point, it is killed before the swap."""
    tool, table, alter = RUNS[name]
    environment = projector_environment(stack)
    with writes(stack, 2):
        fault = {"AT": f"{point}:SIGKILL:1"} if point else {}
        launcher = ["tests.support.faulty_projector"] if point else []
        with projector({**environment, **fault}, *launcher) as killed:
            wait_until_caught_up(stack, written)
            tool(stack, table, alter, NOTHING, nothing if point else killed.kill)
            assert killed.popen.wait(30) == -signal.SIGKILL, killed.tail()
        with projector(environment) as following:
            wait_until(lambda: logged(following, "swap verified"), "the comparison")
            wait_until_caught_up(stack, written)
    with projector(environment) as running:
        wait_until_caught_up(stack, written)
        assert_everything_is_equal(stack, written)
        assert not logged(running, "comparing")
