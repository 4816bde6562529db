"""MySQL's primary dies and its replica is promoted: the projector goes on, or says why it cannot."""

from __future__ import annotations

import contextlib
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pymysql
import pytest

from binlog_projector.mysql.connections import Connection, query_value
from ops.stack import MySqlServer, Stack
from reader.read_model.cached_values import Watermark
from tests.conftest import service_environment
from tests.support.harness import (
    Process,
    admin_connection,
    assert_everything_is_equal,
    create_tables,
    process,
    projector,
    run_sql,
    wait_until,
    wait_until_caught_up,
    watermark,
)
from tests.support.reader_fills import fill_cache
from tests.support.traffic import seed_rows, write_traffic
from tests.verification.faults.mysql_pair import (
    WRITABLE,
    admin_of,
    promote,
    received,
    replica_of,
    wait_until_replicated,
)
from tests.verification.faults.system import reader, running_system, standing_in, stopped
from tests.verification.faults.witness import Witness
from tidemark.gtid import GtidSet

T = TypeVar("T")


def test_a_promoted_replica_is_followed_after_a_kill_under_load(stack: Stack, tmp_path: Path) -> None:
    """The projector waits while the replica is read-only, and then while it executes its relay log.

    The replica's binlog files have other names, and its tables other ids.
    """
    with replica_of(stack, tmp_path) as second:
        environment = with_hosts(service_environment(stack), stack.mysql, second)
        with running_system(stack, environment) as system:
            with Witness(stack, system.reading) as witness:
                system.catch_up_and_fill()
                witness.wait_until_fresh(system.connection)
            with under_load(stack), admin_of(second) as connection:
                wait_until_replicated(stack, connection)
                run_sql(connection, "STOP REPLICA SQL_THREAD")
                kill_once_received(stack, connection)
            wait_until(lambda: "read-only" in retried(system.projecting), "the replica to be tried")
            with admin_of(second) as connection:
                run_sql(connection, *WRITABLE)
            wait_until(lambda: "lacks" in retried(system.projecting), "the replica to be found behind")
            promote(second)
            with standing_in(stack, "mysql", second), admin_connection(stack) as connection:
                with Witness(stack, system.reading) as witness:
                    witness.wait_until_fresh(connection)
                write_traffic(connection, random.Random(2), 50)
                replace(system, connection=connection).assert_all_is_well()


@pytest.mark.parametrize(("fault", "remedy"), [("lost", "rebuild"), ("errant", "run --rebuild-if-lost")])
def test_a_replica_without_our_history_is_refused_until_a_rebuild(
    stack: Stack, tmp_path: Path, fault: str, remedy: str
) -> None:
    """Trace 6: the replica lacks an applied transaction. Trace 5: it has an older transaction of its own."""
    with replica_of(stack, tmp_path) as second, admin_connection(stack) as connection:
        environment = with_hosts(service_environment(stack), stack.mysql, second)
        create_tables(connection)
        seed_rows(connection)
        with (
            projector(environment, "tests.verification.faults.impatient") as running,
            admin_of(second) as replica,
        ):
            wait_until_caught_up(stack, connection)
            fill_cache(stack)
            wait_until_replicated(stack, replica)
            spoil(replica, fault)
            with under_load(stack) if fault == "lost" else contextlib.nullcontext():
                write_traffic(connection, random.Random(6), 20)
                wait_until_caught_up(stack, connection)
                if fault == "errant":
                    wait_until_replicated(stack, replica)
                stack.mysql.kill()
            served = wait_until_same(lambda: lineage(stack))
            promote(second)
            assert running.popen.wait(timeout=30) == 1
            running.expected_status = 1
            stopped = running.events()[-1]
        assert stopped["kind"] == "PositionLost" and "rebuild" in stopped["reason"]
        assert {"lost": "lacks", "errant": "another history"}[fault] in stopped["reason"]
        assert lineage(stack) == served, "nothing of it was applied"
        with standing_in(stack, "mysql", second), admin_connection(stack) as connection:
            assert_mends(remedy, stack, connection, environment)


@pytest.mark.long
def test_a_primary_restored_from_an_old_data_folder_is_refused(stack: Stack, tmp_path: Path) -> None:
    """Trace 5: it reuses GTIDs for other transactions, and soon has all the numbers that were applied."""
    environment, server, backup = service_environment(stack), stack.mysql, tmp_path / "backup"
    with admin_connection(stack) as connection:
        create_tables(connection)
        seed_rows(connection)
    with stopped(server):
        shutil.copytree(server.data, backup)
    with projector(environment) as running, admin_connection(stack) as connection:
        write_traffic(connection, random.Random(5), 20)
        wait_until_caught_up(stack, connection)
        served = lineage(stack)
        with stopped(server):
            shutil.rmtree(server.data)
            shutil.copytree(backup, server.data)
        wait_until(lambda: "lacks" in retried(running), "the old data to be found behind")
        with admin_connection(stack) as again:
            run_sql(
                again, *(f"UPDATE users SET bio = 'restored {number}' WHERE id = 1" for number in range(40))
            )
        assert running.popen.wait(timeout=30) == 1
        running.expected_status = 1
        stopped_by = running.events()[-1]
    assert stopped_by["kind"] == "PositionLost"
    assert "another history" in stopped_by["reason"] and "rebuild" in stopped_by["reason"]
    assert lineage(stack) == served, "nothing of it was applied"


def test_a_server_that_turns_read_only_vouches_for_nothing(stack: Stack) -> None:
    """A planned switch-over leaves connections open, but a replica lacks its source's newest commits."""
    environment = with_hosts(service_environment(stack), stack.mysql, stack.mysql)
    with admin_connection(stack) as connection:
        create_tables(connection)
        with projector(environment) as running:
            wait_until_caught_up(stack, connection)
            run_sql(connection, "SET GLOBAL read_only = ON")
            try:
                wait_until(lambda: "read-only" in retried(running), "the projector to leave")
                left = watermark(stack)
                wait_until(lambda: retried(running).count("read-only") > 4, "two more attempts")
                assert watermark(stack) == left
            finally:
                run_sql(connection, "SET GLOBAL read_only = OFF")
            seed_rows(connection)
            wait_until_caught_up(stack, connection)


def lineage(stack: Stack) -> tuple[str, str]:
    """The watermark without its `as-of`: lineage and GTID set."""
    mark = watermark(stack)
    assert mark is not None
    return mark.lineage, mark.gtid_set


def retried(running: Process) -> str:
    """The reasons of all retries in the log."""
    return "; ".join(event["error"] for event in running.events() if event["event"] == "retrying")


def spoil(replica: Connection, fault: str) -> None:
    if fault == "lost":
        run_sql(replica, "STOP REPLICA IO_THREAD")
    else:
        run_sql(
            replica,
            "SET GLOBAL super_read_only = OFF",
            "UPDATE tidemark.users SET bio = 'errant' WHERE id = 1",
            "SET GLOBAL super_read_only = ON",
        )


def assert_mends(remedy: str, stack: Stack, connection: Connection, environment: dict[str, str]) -> None:
    """The remedy works. Readers get answers all the time, and none is older than its bound."""
    command, *options = remedy.split()
    with reader(environment) as reading, Witness(stack, reading) as witness:
        if command == "rebuild":
            with process(environment, "-m", "tests.verification.faults.impatient", command) as rebuilding:
                assert rebuilding.popen.wait(timeout=60) == 0
        with process(environment, "-m", "tests.verification.faults.impatient", "run", *options):
            witness.wait_until_fresh(connection)
            write_traffic(connection, random.Random(7), 20)
            witness.stop()
            assert not witness.unanswered
            wait_until_caught_up(stack, connection)
            assert_everything_is_equal(stack, connection)


def with_hosts(environment: dict[str, str], first: MySqlServer, second: MySqlServer) -> dict[str, str]:
    """Both servers in the projector's setting."""
    name, port = "TIDEMARK_PROJECTOR_MYSQL_URL", f":{first.port}/"
    return {**environment, name: environment[name].replace(port, f":{first.port},127.0.0.1:{second.port}/")}


@contextlib.contextmanager
def under_load(stack: Stack) -> Iterator[None]:
    """A thread writes until the server dies."""

    def write() -> None:
        with contextlib.suppress(pymysql.err.Error), admin_connection(stack) as connection:
            while True:
                write_traffic(connection, chance, 1)

    chance = random.Random(1)
    thread = threading.Thread(target=write, name="load")
    thread.start()
    yield
    thread.join()


def kill_once_received(stack: Stack, replica: Connection) -> None:
    """kill -9 of the primary at a moment when the replica has received every projected transaction."""

    def is_received() -> bool:
        stack.mysql.pause()
        arrived, projected = wait_until_same(lambda: (received(replica), gtid_set_of(watermark(stack))))
        executed = GtidSet.parse(query_value(replica, "SELECT @@global.gtid_executed"))
        is_safe = arrived >= projected and not executed >= projected
        if not is_safe:
            stack.mysql.resume()
        return is_safe

    wait_until(is_received, "the replica to have received what was projected")
    stack.mysql.kill()


def wait_until_same(look: Callable[[], T], times: int = 20) -> T:
    """The result of `look` once it was the same `times` times in a row."""
    seen: list[T] = []

    def is_same() -> bool:
        seen.append(look())
        return len(seen) > times and all(each == seen[-1] for each in seen[-times:])

    wait_until(is_same, "nothing to change")
    return seen[-1]


def gtid_set_of(mark: Watermark | None) -> GtidSet:
    assert mark is not None
    return GtidSet.parse(mark.gtid_set)
