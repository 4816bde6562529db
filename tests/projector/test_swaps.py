"""A watched table that a tool swaps for a copy is projected on if and only if the copy is the same."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pymysql
import pytest
from pymongo import MongoClient

from binlog_projector import fault_points
from binlog_projector.errors import TableSwapped, UnsupportedEvent
from binlog_projector.leading import swap
from binlog_projector.leading.health import Health
from binlog_projector.leading.swap import Comparison
from binlog_projector.metrics import ProjectorMetrics
from binlog_projector.mysql.connections import Connection, query_value
from binlog_projector.mysql.source import MySqlSource
from binlog_projector.stores.audit_store import AuditStore
from ops.stack import Stack
from reader.read_model.control import Position
from tests.projector.reading import executed, projector_url
from tests.support.harness import (
    Process,
    admin_connection,
    assert_everything_is_equal,
    process,
    projector,
    projector_environment,
    rows,
    run_sql,
    wait_until,
    wait_until_caught_up,
)
from tests.support.oracle import actual_documents
from tests.support.schema_tools import AGAIN, gh_ost, pt_osc
from tests.support.threads import in_threads
from tests.support.traffic import POSTS, USERS, write_traffic
from writer.schema import TABLES

RUNS = {
    "gh-ost": (
        gh_ost,
        "follows",
        "ADD COLUMN note VARCHAR(9) FIRST, ADD INDEX by_note (note), "
        "MODIFY created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) FIRST",
    ),
    "pt-online-schema-change": (pt_osc, "posts", "MODIFY body VARCHAR(3000) NOT NULL FIRST, ENGINE=InnoDB"),
}
BIND = "TIDEMARK_PROJECTOR_ADMIN_BIND"
NOTHING: Sequence[str] = ()


def write(connection: Connection, chance: random.Random) -> None:
    """One random write. Posts beyond the first 50 come and go, and follows change their time and key."""
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


def test_a_projector_that_compares_obeys_a_stop(stack: Stack, written: Connection) -> None:
    environment = projector_environment(stack)
    fault = {"AT": "comparing_swap:SIGTERM:1"}
    with projector({**environment, **fault}, "tests.support.faulty_projector") as stopped:
        wait_until_caught_up(stack, written)
        pt_osc(stack, "follows", "ENGINE=InnoDB", NOTHING, nothing)
        assert stopped.popen.wait(30) == 0
        assert logged(stopped, "drained") and not logged(stopped, "swap verified")
    with projector(environment) as following:
        wait_until(lambda: logged(following, "swap verified"), "the comparison")
        wait_until_caught_up(stack, written)
        assert_everything_is_equal(stack, written)


SPOILT = {
    "a row that the copy has lost": ("DELETE FROM _follows_gho LIMIT 1", "is missing"),
    "a row that nobody wrote": (
        "INSERT INTO _follows_gho (follower_id, followee_id) VALUES (20, 77)",
        "the row with follower_id 20, followee_id 77 has no document",
    ),
    "a changed value": (
        "UPDATE _follows_gho SET created_at = '2001-01-01' LIMIT 1",
        "has another created_at",
    ),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_copy_that_differs_stops_with_the_row_and_a_rebuild_helps(
    stack: Stack, written: Connection, how: str
) -> None:
    spoiling, reason = SPOILT[how]
    environment = projector_environment(stack)
    with projector(environment) as running:
        wait_until_caught_up(stack, written)
        before = actual_documents(stack)
        gh_ost(stack, "follows", "ENGINE=InnoDB", ["SET foreign_key_checks=0", spoiling], nothing)
        assert running.popen.wait(30) == 1
        running.expected_status = 1
        (stopped,) = [line for line in running.events() if line["event"] == "stopped"]
        assert stopped["kind"] == "UnsupportedEvent"
        assert "the watched table follows was swapped for another one" in stopped["reason"]
        assert reason in stopped["reason"] and "`rebuild`" in stopped["reason"]
    write_traffic(written, random.Random(3), 20)
    assert actual_documents(stack) == before
    run_sql(written, "DELETE FROM follows WHERE followee_id = 77")
    with process(environment, "-m", "binlog_projector", "rebuild") as rebuilding:
        assert rebuilding.popen.wait(30) == 0, rebuilding.tail()
    with projector(environment) as following:
        wait_until(lambda: logged(following, "streaming"), "the projector")
        wait_until_caught_up(stack, written)
        assert_everything_is_equal(stack, written)


@pytest.mark.parametrize(
    ("table", "alter", "reason"),
    [
        ("users", "DROP COLUMN bio", "column bio missing"),
        ("users", "MODIFY bio TEXT CHARACTER SET gb18030 NOT NULL", "which is not decoded"),
        ("notification_reads", "DROP PRIMARY KEY, ADD PRIMARY KEY (user_id, until)", "primary key is"),
        (
            "likes",
            "DROP FOREIGN KEY _likes_user_fk, DROP FOREIGN KEY _likes_post_fk, ADD FOREIGN KEY (post_id)"
            " REFERENCES posts (id) ON DELETE CASCADE",
            "make these RESTRICT",
        ),
        ("users", "MODIFY created_at DATETIME NOT NULL", "has another created_at"),
        ("users", "MODIFY bio VARCHAR(400) NULL FIRST", ""),
        ("users", "CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", ""),
    ],
)
def test_columns_of_the_copy_are_checked_as_at_a_start(
    stack: Stack, written: Connection, table: str, alter: str, reason: str
) -> None:
    with projector(projector_environment(stack)) as running:
        wait_until_caught_up(stack, written)
        pt_osc(stack, table, alter, NOTHING, nothing)
        if reason:
            assert running.popen.wait(30) == 1
            running.expected_status = 1
            assert reason in running.tail() and "stopped" in running.tail()
        else:
            wait_until_caught_up(stack, written)
            assert_everything_is_equal(stack, written)


def test_another_engine_is_refused_at_a_start(stack: Stack, connection: Connection) -> None:
    run_sql(
        connection,
        "ALTER TABLE notification_reads DROP FOREIGN KEY notification_reads_user_fk",
        "ALTER TABLE notification_reads ENGINE = MyISAM",
    )
    with projector(projector_environment(stack)) as running:
        running.expected_status = 1
        assert running.popen.wait(30) == 1
        assert "engine is MyISAM" in running.tail()


def test_status_and_metrics_tell_of_the_comparison_and_say_verified(
    stack: Stack, written: Connection
) -> None:
    environment = projector_environment(stack)
    with projector(environment):
        wait_until_caught_up(stack, written)
    pt_osc(stack, "likes", "ENGINE=InnoDB", NOTHING, nothing)
    with admin_connection(stack) as locking:
        run_sql(locking, "LOCK TABLES notification_reads WRITE")  # a comparison ends with a lock of all
        with projector(environment) as running:
            held = "the leader holds the stream until a table is compared: likes was swapped, "
            wait_until(lambda: held in said(environment), "the leader to tell of the comparison")
            run_sql(locking, "UNLOCK TABLES")
            wait_until_caught_up(stack, written)
            (verified,) = [line for line in running.events() if line["event"] == "swap verified"]
            count = query_value(written, "SELECT COUNT(*) FROM likes")
            assert (verified["table"], verified["rows"], verified["changed_meanwhile"]) == ("likes", count, 0)
            metrics = urllib.request.urlopen(f"http://{running.environment[BIND]}/metrics").read().decode()
            assert 'tidemark_projector_swaps_total{outcome="verified"} 1.0' in metrics
            line = f"verified: likes after {verified['gtid']}, {count} rows equal, 0 changed meanwhile"
            wait_until(lambda: line in said(environment), "the leader to renew its lease")


def said(environment: dict[str, str]) -> str:
    return subprocess.run(
        [sys.executable, "-m", "binlog_projector", "status"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    ).stdout


OTHER = {  # another value of a column that documents show
    "created_at": "created_at - INTERVAL 1 MICROSECOND",
    "updated_at": "updated_at + INTERVAL 1 MICROSECOND",
    "body": "CONCAT(body, ' ')",
    "bio": "CONCAT(bio, 'x')",
    "handle": "CONCAT('q', handle)",
    "subject": "CONCAT(subject, 'S')",
    "display_name": "CONCAT(display_name, 'é')",
    "author_id": "author_id + 1000",
    "user_id": "user_id + 1000",
    "followee_id": "followee_id + 1000",
}


class Trials:
    """Swaps under a read model that stands still, and comparisons of each."""

    def __init__(self, stack: Stack, connection: Connection, client: MongoClient[dict[str, Any]]) -> None:
        self.connection = connection
        self.store = AuditStore(client)
        self.source = MySqlSource(projector_url(stack), 7399)
        with self.store.view() as view:
            self.checkpoint = view.checkpoint

    def compare(self, name: str, spoiling: Sequence[str], writes: Sequence[str], *, during: bool) -> int:
        """The number of rows that changed after the swap: right then, or `during` the comparison."""
        run_sql(self.connection, f"CREATE TABLE _new LIKE {name}", f"INSERT INTO _new SELECT * FROM {name}")
        run_sql(self.connection, *spoiling)
        at = Position(replace(self.checkpoint, gtid_set=str(executed(self.connection))), 1, None)
        run_sql(self.connection, f"RENAME TABLE {name} TO _old, _new TO {name}")
        swapped = TableSwapped("swapped", name)
        try:
            waiting = [*writes]
            if not during:
                self._write(waiting)
            fault_points.listener = lambda point: self._write(waiting)
            with contextlib.closing(
                self.source.stream(at.gtid_set, None, (), lambda table, gtid: True)
            ) as stream:
                health = Health(ProjectorMetrics())
                comparison = Comparison(swapped, at, stream, self.store, health, lambda: True)
                comparison.run()
                return len(comparison.touched)
        finally:
            fault_points.listener = None
            run_sql(self.connection, f"DROP TABLE {name}", f"RENAME TABLE _old TO {name}")

    def _write(self, waiting: list[str]) -> None:
        run_sql(self.connection, *waiting)
        waiting.clear()


@pytest.fixture
def trials(stack: Stack, written: Connection) -> Iterator[Trials]:
    with projector(projector_environment(stack)):
        wait_until_caught_up(stack, written)
    run_sql(written, "SET foreign_key_checks = 0")
    with MongoClient[dict[str, Any]](stack.mongodb.admin_url, tz_aware=False) as client:
        yield Trials(stack, written, client)


@pytest.mark.parametrize("seed", range(4))
def test_a_copy_that_differs_in_one_row_is_always_caught(
    trials: Trials, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row may change after the swap, too. A copy that is the same always passes.

    Odd seeds have small chunks, and read the stream after each suspect.
    """
    chance = random.Random(seed)
    if seed % 2:
        monkeypatch.setattr(swap, "CHUNK", 3)
        monkeypatch.setattr(swap, "MOST_SUSPECTS", 1)
    for _ in range(25):
        table = TABLES[chance.choice(["users", "posts", "comments", "likes", "follows"])]
        columns = ", ".join(table.columns)
        key = chance.choice(
            rows(trials.connection, f"SELECT {', '.join(table.primary_key)} FROM {table.name}")
        )
        row = " AND ".join(f"{name} = {value}" for name, value in zip(table.primary_key, key, strict=True))
        changed = chance.choice([name for name in OTHER if name in table.columns])
        foreign = ", ".join(
            "1000000" if name == table.primary_key[0] else OTHER.get(name, name) for name in table.columns
        )
        spoiling = chance.choice(
            [
                f"DELETE FROM _new WHERE {row}",
                f"INSERT INTO _new ({columns}) SELECT {foreign} FROM {table.name} WHERE {row}",
                f"UPDATE _new SET {changed} = {OTHER[changed]} WHERE {row}",
                "",
            ]
        )
        writes = [
            f"UPDATE IGNORE {table.name} SET created_at = '2001-01-01' WHERE {row}",
            f"UPDATE IGNORE {table.name} SET {changed} = {OTHER[changed]} WHERE {row}",
            f"DELETE FROM {table.name} WHERE {row}",
            f"REPLACE INTO {table.name} ({columns}) SELECT {columns} FROM _old WHERE {row}",
            f"DELETE FROM {table.name} WHERE {table.primary_key[0]} = 1000000",
        ]
        writes = chance.sample(writes, chance.randint(0, len(writes)))
        during, case = chance.random() < 0.5, f"{spoiling}; {writes}"
        if spoiling:
            with pytest.raises(UnsupportedEvent, match="is not the same"):
                pytest.fail(f"{trials.compare(table.name, [spoiling], writes, during=during)}: {case}")
        else:
            trials.compare(table.name, [], writes, during=during)


def test_a_pair_that_comes_back_with_its_old_time_is_caught(trials: Trials) -> None:
    """Its row equals its document when it is compared, and was missing right after the swap."""
    (one, other), *_ = rows(trials.connection, "SELECT follower_id, followee_id FROM follows")
    pair = f"follower_id = {one} AND followee_id = {other}"
    writes = [
        f"INSERT INTO follows VALUES ({one}, {other}, '2021-01-01')",
        f"UPDATE follows SET created_at = (SELECT created_at FROM _old WHERE {pair}) WHERE {pair}",
    ]
    with pytest.raises(UnsupportedEvent, match=f"follower_id {one}, followee_id {other} is missing"):
        trials.compare("follows", [f"DELETE FROM _new WHERE {pair}"], writes, during=False)
