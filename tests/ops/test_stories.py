"""The stories of docs/operations.md, followed as written: the commands, and the lines that they must show."""

from __future__ import annotations

import contextlib
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest
from pymongo import MongoClient

from binlog_projector.mysql.connections import Connection, query_value
from ops.stack import Stack
from ops.stack.servers.ports import free_port
from ops.stack.shell import CLIENTS
from ops.stack.state import STORES
from tests.conftest import service_environment
from tests.ops.test_prometheus import stories
from tests.ops.test_tutorial import Step, steps
from tests.projector.test_schema_changes import SWAPS
from tests.reader.conftest import starting_reader
from tests.support.harness import (
    ROOT,
    Process,
    admin_connection,
    assert_everything_is_equal,
    projector,
    purge_binlog,
    run_sql,
    wait_until,
    wait_until_caught_up,
)
from tests.support.oracle import actual_documents, expected_documents
from tests.support.traffic import seeded, write_traffic
from tests.verification.faults.mysql_pair import admin_of, received, replica_of, wait_until_replicated
from tests.verification.faults.system import standing_in
from tidemark.gtid import GtidSet

pytestmark = pytest.mark.server

STATUS = re.compile(r"# exit status (\d+)")
AFTERWARDS = "**Afterwards**"
PATIENCE_SECONDS = 25
PLACEHOLDER = re.compile("PID-OF-THE-[A-Z]+")
SQL = re.compile(r"^```sql\n(.*?)^```$", re.DOTALL | re.MULTILINE)
MANY_COMMENTS = (
    "INSERT INTO comments (post_id, author_id, body) WITH RECURSIVE n (n) AS"
    " (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 16000) SELECT n % 50 + 1, n % 20 + 1, 'c' FROM n"
)


class Operator:
    """Follows a story in a folder with `.venv` and with the stack as `.tidemark/run`."""

    def __init__(self, folder: Path, stack: Stack) -> None:
        self.folder = folder
        self.environment = {
            **service_environment(stack),
            "TIDEMARK_PROJECTOR_ADMIN_BIND": f"127.0.0.1:{free_port()}",
        }
        self.started: list[subprocess.Popen[bytes]] = []

    def follow(self, page: str) -> None:
        for step in steps(page):
            if step.in_background:
                self.started.append(self._start(step.commands))
            else:
                self._until_shown(step)

    def _until_shown(self, step: Step) -> None:
        """A store needs some seconds to be missed, or to be found again."""
        expected = STATUS.search(step.commands)
        seen: list[str] = []

        def shown() -> bool:
            done = self.type(step.commands)
            seen[:] = [done.stdout + done.stderr]
            right = done.returncode == int(expected[1] if expected else 0)
            return right and all(_is_shown(line, done.stdout) for line in step.shows)

        try:
            wait_until(shown, step.commands, PATIENCE_SECONDS)
        except AssertionError as error:
            raise AssertionError(f"{step.commands}\n{step.shows}\nare not in\n{seen}") from error

    def type(self, commands: str) -> subprocess.CompletedProcess[str]:
        """Run all commands, and end with the status of the first that fails."""
        shell = ["bash", "-c", f"set -e\n{commands}"]
        return subprocess.run(
            shell, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )

    def _start(self, commands: str) -> subprocess.Popen[bytes]:
        with (self.folder / "background.log").open("ab") as log:
            return subprocess.Popen(
                ["bash", "-c", f"exec {commands}"],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
            )

    def stop(self) -> None:
        for process in self.started:
            process.terminate()
            assert process.wait(30) == 0, (self.folder / "background.log").read_text()


def _is_shown(line: str, output: str) -> bool:
    """`...` stands for anything."""
    pattern = ".*".join(map(re.escape, line.split("...")))
    return any(re.fullmatch(pattern, found) for found in output.splitlines())


@pytest.fixture
def connection(stack: Stack) -> Iterator[Connection]:
    with seeded(stack) as connection:
        yield connection


@pytest.fixture
def operator(tmp_path: Path, stack: Stack) -> Iterator[Operator]:
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    (tmp_path / ".tidemark").mkdir()
    (tmp_path / ".tidemark/run").symlink_to(stack.directory)
    for store in STORES:
        stack.launch(store)  # records the processes of servers that other tests have started again
    operator = Operator(tmp_path, stack)
    try:
        yield operator
    finally:
        operator.stop()


@pytest.fixture
def projecting(operator: Operator, stack: Stack, connection: Connection) -> Iterator[Process]:
    with projector(operator.environment) as running:
        wait_until_caught_up(stack, connection)
        yield running


@pytest.mark.parametrize(("story", "store"), [("redis-is-away", "redis"), ("mongodb-is-away", "mongodb")])
def test_the_story_of_a_store_that_is_away_is_true(
    operator: Operator, projecting: Process, stack: Stack, story: str, store: str
) -> None:
    away, afterwards, back = stories()[story].partition(AFTERWARDS)
    assert afterwards
    stack.servers[store].stop()
    try:
        operator.follow(away)
    finally:
        stack.launch(store)
        stack.servers[store].wait_until_ready()
    operator.follow(back)


def test_the_story_of_a_slow_server_shows_what_keeps_it_busy(
    operator: Operator, projecting: Process, stack: Stack
) -> None:
    for client, _ in CLIENTS.values():
        client.find()  # a download may take longer than the page's steps
    with slow_statement(stack):
        operator.follow(stories()["a-server-is-slow"])


@contextlib.contextmanager
def slow_statement(stack: Stack) -> Iterator[None]:
    """A session that runs the statement of the page again and again."""
    over = threading.Event()
    with admin_connection(stack) as own, admin_connection(stack) as other:
        number = query_value(own, "SELECT CONNECTION_ID()")

        def sleep() -> None:
            with contextlib.suppress(pymysql.MySQLError):
                while not over.is_set():
                    run_sql(own, "SELECT SLEEP(20)")

        sleeping = threading.Thread(target=sleep)
        sleeping.start()
        time.sleep(0.2)
        try:
            yield
        finally:
            over.set()
            with contextlib.suppress(pymysql.MySQLError):  # it may have ended
                run_sql(other, f"KILL QUERY {number}")
            sleeping.join()


def killed(running: Process, stack: Stack, connection: Connection) -> None:
    running.kill()


def truncated(running: Process, stack: Stack, connection: Connection) -> None:
    run_sql(connection, "TRUNCATE TABLE follows")
    running.expected_status = 1
    assert running.popen.wait(30) == 1


def swapped(running: Process, stack: Stack, connection: Connection) -> None:
    """By pt-online-schema-change, whose copy has a row too many. Readers keep the state before the swap."""
    before = expected_documents(connection)
    *copying, swap = SWAPS["pt-online-schema-change"]
    foreign = "INSERT INTO _follows_new (follower_id, followee_id) VALUES (3, 4)"
    run_sql(connection, *copying, foreign, swap, "DROP TABLE _follows_old")
    running.expected_status = 1
    assert running.popen.wait(30) == 1
    run_sql(connection, "DELETE FROM follows", "INSERT INTO follows (follower_id, followee_id) VALUES (1, 2)")
    assert actual_documents(stack) == before


def purged(running: Process, stack: Stack, connection: Connection) -> None:
    running.stop()
    write_traffic(connection, random.Random(22), 5)
    purge_binlog(connection)


@pytest.mark.parametrize(
    ("story", "happens"),
    [
        ("a-projector-dies", killed),
        ("the-binlog-was-purged-before-the-projector-had-read-it", purged),
        ("a-table-was-truncated-dropped-or-renamed-or-a-column-that-readers-see", truncated),
        ("a-tool-swaps-a-watched-table-for-a-copy", swapped),
    ],
)
def test_a_story_that_ends_with_run_ends_well(
    operator: Operator,
    projecting: Process,
    stack: Stack,
    connection: Connection,
    story: str,
    happens: Callable[[Process, Stack, Connection], None],
) -> None:
    happens(projecting, stack, connection)
    page = stories()[story]
    assert any(step.in_background and " run" in step.commands for step in steps(page))
    operator.follow(page)
    wait_until_caught_up(stack, connection)
    assert actual_documents(stack) == expected_documents(connection)


def test_a_paused_leader_comes_back_as_a_standby(
    operator: Operator, projecting: Process, stack: Stack, connection: Connection
) -> None:
    """The environment's admin port is the leader's."""
    with projector(service_environment(stack)) as other:
        projecting.popen.send_signal(signal.SIGSTOP)
        try:
            wait_until(lambda: logged(other, "lease taken"), "the takeover")
            write_traffic(connection, random.Random(1), 5)
            operator.follow(stories()["a-leader-was-only-paused-and-comes-back"])
        finally:
            projecting.popen.send_signal(signal.SIGCONT)
        wait_until(lambda: logged(projecting, "standing down"), "the old leader to stand down")
        wait_until_caught_up(stack, connection)
        assert_everything_is_equal(stack, connection)


def test_one_large_transaction_is_counted_once_though_its_projector_dies(
    operator: Operator, projecting: Process, stack: Stack, connection: Connection
) -> None:
    during, _, afterwards = stories()["one-transaction-has-a-million-rows"].partition(AFTERWARDS)
    run_sql(connection, "SET SESSION cte_max_recursion_depth = 16000", MANY_COMMENTS)
    wait_until(lambda: any(batch.get("rows_of") for batch in logged(projecting, "batch")), "a part")
    projecting.popen.send_signal(signal.SIGSTOP)
    operator.follow(during)
    projecting.kill()
    with projector(operator.environment) as following:
        (streaming,) = wait_until(lambda: logged(following, "streaming"), "the next projector")
        assert streaming["rows_of"]
        operator.follow(afterwards)
        wait_until_caught_up(stack, connection)
    assert_everything_is_equal(stack, connection)


def test_a_document_that_somebody_spoilt_is_found_and_repaired(
    operator: Operator, projecting: Process, stack: Stack, connection: Connection
) -> None:
    with MongoClient[dict[str, object]](stack.mongodb.admin_url) as client:
        users = next(name for name in client["tidemark"].list_collection_names() if "users" in name)
        client["tidemark"][users].update_one({"_id": 1}, {"$set": {"display_name": "Spoilt"}})
    bind = f"127.0.0.1:{free_port()}"
    operator.environment["TIDEMARK_AUDIT_ADMIN_BIND"] = bind
    operator.follow(stories()["is-the-read-model-right"])
    metrics = f"curl -fsS http://{bind}/metrics"
    wait_until(lambda: "tidemark_audit_differences 0" in operator.type(metrics).stdout, "its metrics")
    assert_everything_is_equal(stack, connection)


def test_a_worker_that_hangs_is_ended_as_the_page_says_and_started_again(
    operator: Operator, projecting: Process, stack: Stack
) -> None:
    kernel, ending = steps(stories()["a-worker-of-a-reader-ends"])
    with starting_reader(operator.environment, "--workers", "2") as reader:
        wait_until(lambda: reader.answers() and reader.ready().status_code == 200, "both workers")
        asking, killing = ending.commands.splitlines()
        parent = str(reader.process.popen.pid)
        hanging, _ = operator.type(PLACEHOLDER.sub(parent, asking)).stdout.split()
        operator.type(f"kill -STOP {hanging}")
        assert "does not answer" in reader.ready().json().values()
        assert operator.type(PLACEHOLDER.sub(hanging, killing)).returncode == 0
        (ended,) = wait_until(lambda: logged(reader.process, "a worker ended; it is started again"), "it")
        assert (str(ended["pid"]), ended["exit_status"]) == (hanging, -9)
        wait_until(lambda: reader.ready().status_code == 200, "the new worker")
        assert reader.metrics("tidemark_reader_worker_restarts_total") == [1]
    assert operator.type(kernel.commands).returncode in (0, 1), "the kernel may have nothing to say"


def test_a_promoted_replica_is_followed(
    operator: Operator, stack: Stack, connection: Connection, tmp_path: Path
) -> None:
    story = stories()["mysqls-primary-died"]
    with replica_of(stack, tmp_path / "replica") as second:
        own = operator.environment
        name, page_url = steps(story)[0].commands.strip().split("=", 1)
        (password,) = re.findall(r"projector:([^@]+)@", own[name])
        for written, true in (
            (":password@", f":{password}@"),
            ("db1:3306", f"127.0.0.1:{stack.mysql.port}"),
            ("db2:3306", f"127.0.0.1:{second.port}"),
        ):
            assert written in page_url
            page_url = page_url.replace(written, true)
        with projector({**own, name: page_url}) as running, admin_of(second) as replica:
            wait_until_caught_up(stack, connection)
            wait_until_replicated(stack, replica)
            stack.mysql.kill()
            wait_until(lambda: "read-only" in str(logged(running, "retrying")), "the replica to be tried")
            known = received(replica)
            wait_until(lambda: executed(replica) >= known, "the replica to execute it all")
            (promotion,) = SQL.findall(story)
            run_sql(replica, *filter(str.strip, promotion.split(";")))
            with standing_in(stack, "mysql", second), admin_connection(stack) as writing:
                write_traffic(writing, random.Random(2), 5)
                wait_until_caught_up(stack, writing)
                assert str(second.port) in str(logged(running, "following")[-1])
                assert_everything_is_equal(stack, writing)


def executed(server: Connection) -> GtidSet:
    return GtidSet.parse(query_value(server, "SELECT @@global.gtid_executed"))


def logged(running: Process, event: str) -> list[dict[str, Any]]:
    return [line for line in running.events() if line["event"] == event]
