"""A new build beside the one that serves: readers, and whoever leads, go on until it takes over in one step."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import MongoClient

from binlog_projector.control_store import Needs
from binlog_projector.errors import NotEnoughDisk
from binlog_projector.source import Connection
from ops.stack import Stack
from tests.conftest import service_environment
from tests.faults.system import running_system
from tests.faults.test_leaders import state
from tests.faults.witness import Witness
from tests.harness import (
    Process,
    admin_connection,
    assert_everything_is_equal,
    create_tables,
    process,
    projector,
    rows,
    run_sql,
    wait_until,
    wait_until_caught_up,
    watermark,
)
from tests.reader_fills import fill_cache
from tests.traffic import seed_rows

COPYING = {"ARMED": "", "AT": "inside_transaction:SIGSTOP"}
SWITCHING = {"ARMED": "", "AT": "before_switch:SIGSTOP"}


@pytest.fixture
def environment(stack: Stack) -> dict[str, str]:
    return {**service_environment(stack), "TIDEMARK_FORMER_BUILD_MINUTES": "0"}


def test_trace_7_a_rebuild_under_load_leaves_readers_on_the_old_build_until_it_switches_in_one_step(
    stack: Stack, environment: dict[str, str]
) -> None:
    """While it copies, the old build goes on. No standby takes the lease that the leader releases for it. Numbers go
    on, and the old build is dropped by the one who leads."""
    with (
        running_system(stack, environment) as system,
        Witness(stack, system.reading) as witness,
        projector(environment),
    ):
        before = system.catch_up_and_fill()
        with rebuilding(environment, COPYING) as running:
            wait_until(lambda: state(running) == "T", "the copy to pause")
            witness.wait_until_fresh(system.connection)
            assert (serving(stack), builds(stack)) == (1, [1, 2])
            running.popen.send_signal(signal.SIGCONT)
            assert running.popen.wait(timeout=60) == 0
            assert {"rows", "seconds", "disk_mib", "free_disk_mib"} <= event(running, "rebuilding needs").keys()
            taken = [each["epoch"] for each in running.events() if each.get("lease") == "lease"]
            assert taken == [2], "nobody came between"
        witness.wait_until_fresh(system.connection)
        after = system.watermark()
        assert (after.build, after.seq > before.seq, after.epoch != before.epoch) == (2, True, True)
        wait_until(lambda: builds(stack) == [2], "the old build to be dropped")
        witness.stop()
        system.assert_all_is_well()


def test_a_rebuild_that_is_interrupted_or_killed_has_changed_nothing(stack: Stack, environment: dict[str, str]) -> None:
    """It dies inside a transaction, which would hold up whoever drops what it has left behind."""
    with running_system(stack, environment) as system:
        wait_until_caught_up(stack, system.connection)
        for number in (signal.SIGTERM, signal.SIGKILL):
            with rebuilding(environment, COPYING, status=1) as running:
                wait_until(lambda: state(running) == "T", "the copy to pause")
                running.popen.send_signal(number)
                running.popen.send_signal(signal.SIGCONT)
                running.popen.wait(timeout=20)
            wait_until(lambda: builds(stack) == [1], "the unfinished build to be dropped")
            assert serving(stack) == 1
        system.assert_all_is_well()


def test_a_rebuild_that_is_paused_before_it_switches_and_loses_the_lease_does_not_switch(
    stack: Stack, environment: dict[str, str]
) -> None:
    """Readers would go back: the old build has gone on meanwhile."""
    with running_system(stack, environment) as system, Witness(stack, system.reading) as witness:
        system.catch_up_and_fill()
        with rebuilding(environment, SWITCHING, status=2) as running:
            wait_until(lambda: state(running) == "T", "the switch to pause")
            witness.wait_until_fresh(system.connection)
            running.popen.send_signal(signal.SIGCONT)
            assert running.popen.wait(timeout=20) == 2
            assert "StandDown" in running.tail()
        assert serving(stack) == 1
        witness.stop()
        system.assert_all_is_well()


def test_a_purged_binlog_is_rebuilt_unattended_if_that_was_asked_for(stack: Stack, environment: dict[str, str]) -> None:
    with admin_connection(stack) as connection:
        create_tables(connection)
        seed_rows(connection)
        with projector(environment):
            wait_until_caught_up(stack, connection)
            fill_cache(stack)
        run_sql(connection, "UPDATE posts SET body = 'meanwhile'")
        purge(connection)
        with projector(environment) as stopping:
            assert stopping.popen.wait(timeout=20) == 1
            stopping.expected_status = 1
        with process(environment, "-m", "binlog_projector", "run", "--rebuild-if-lost") as running:
            wait_until_caught_up(stack, connection)
            assert_everything_is_equal(stack, connection)
            assert "purged" in event(running, "rebuilding")["reason"]
        found = watermark(stack)
        assert found is not None and found.build == 2


def test_a_rebuild_that_would_fill_the_disk_is_refused() -> None:
    Needs(rows=1, seconds=1.0, disk_bytes=5 << 20, free_bytes=5 << 20).demand()
    with pytest.raises(NotEnoughDisk, match=r"about 6 MiB .* 5 MiB are left"):
        Needs(rows=1, seconds=1.0, disk_bytes=6 << 20, free_bytes=5 << 20).demand()


@contextlib.contextmanager
def rebuilding(environment: dict[str, str], armed: dict[str, str], status: int = 0) -> Iterator[Process]:
    with process({**environment, **armed}, "-m", "tests.faults.armed", "rebuild", "--json") as running:
        running.expected_status = status
        yield running


def event(running: Process, name: str) -> dict[str, Any]:
    return next(each for each in running.events() if each.get("event") == name)


def serving(stack: Stack) -> int:
    """The build that readers use."""
    with MongoClient[dict[str, Any]](stack.mongodb.admin_url) as client:
        found = client["tidemark"]["control"].find_one({"_id": "serving"})
    assert found is not None
    return int(found["build"])


def builds(stack: Stack) -> list[int]:
    """Those of which there is any collection."""
    with MongoClient[dict[str, Any]](stack.mongodb.admin_url) as client:
        names = client["tidemark"].list_collection_names()
    return sorted({int(name.rpartition("_b")[2]) for name in names if "_b" in name})


def purge(connection: Connection) -> None:
    run_sql(connection, "FLUSH BINARY LOGS")
    newest = rows(connection, "SHOW BINARY LOGS")[-1][0]
    run_sql(connection, f"PURGE BINARY LOGS TO '{newest}'")
